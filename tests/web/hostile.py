"""Texts that would do harm on a page that does not escape them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conftest import regular_posts

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

MARKUP = (
    '<script>document.title = "pwned"</script>',
    '"><img src=x onerror=alert(1)><b id="pwned">',
    "'><svg onload=alert(2)><a id=pwned href=javascript:alert(3)>here</a>",
    "</title></textarea></style></svg><h1 id=pwned>pwned</h1><!--",
    "]]></text><foreignObject><iframe srcdoc='<script>parent.alert(4)</script>'>",
    "{{ 7 * 19048 + 1 }} {% raw %} ${7*19048+1} #{7*19048+1} &lt;b&gt; &amp;amp;",
    r"$\frac{pwned}$ $unbalanced \alpha _^ %s %(name)s {0}",
    "turned \u202ethgir ot tfel\u202c \u200b\x1b[31mred\x07 \ufeff\U0001f469\u200d\U0001f52c",
    "W" * 3000,
    '=HYPERLINK("http://evil.example","pwned")\nSet-Cookie: pwned=1\r\n\r\n<b id=pwned>',
)
STREAMS = ("<b id=pwned>\"&'", "a/../b?x=1&stream=c#d %2e%41", "{{7*19048+1}} ${x}")


def hostile_posts(last: datetime) -> pd.DataFrame:
    """Return twenty posts with hostile texts, the last of them at this time, 40 hours apart."""
    from datetime import timedelta

    posts = regular_posts(20, gap_hours=40, start=last - timedelta(hours=19 * 40))
    posts["content"] = [MARKUP[row % len(MARKUP)] for row in range(20)]
    posts["post_id"] = [f"<i id=pwned>{row}</i>'\"&" for row in range(20)]
    return posts
