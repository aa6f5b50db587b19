"""How posts stand in a request, and how an answer is read.

A version keeps the format of its training, because its prompt explains that format. Posts are written by strangers: in
format 2 every post is a JSON string, so nothing in a post can end it or be taken for what surrounds it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retrainer.errors import ArtifactError
from retrainer_claude.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# JSON allows these in a string, but they are or resemble line breaks, reverse the text after them, or cannot be seen or
# sent: DEL and C1, marks of direction, line and paragraph separators, lone surrogates, and tags.
_ESCAPED_TOO = re.compile(
    "[\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_VISIBLE = re.compile(r"[^\s\x00-\x1f\x7f]")


@dataclass(frozen=True)
class PostFormat:
    """A format of posts in requests.

    Attributes:
        read_post: returns the text of a post's content; empty if it has none.
        write_post: returns the text as an example of an answer.
        write_recent: returns a time and the text that was posted then, for the question.
        read_answer: returns the text of an answer.
    """

    read_post: Callable[[object], str]
    write_post: Callable[[str], str]
    write_recent: Callable[[str, str], str]
    read_answer: Callable[[str], str]


def post_format(model: Mapping[str, Any]) -> PostFormat:
    """Return the format of a trained model.

    Raises:
        ArtifactError: it is from a newer release.
    """
    number = model.get("format", 1)  # the first format has no number
    if number not in _FORMATS:
        problem = f"this version was trained by a newer release of `claude_api`: its format is '{number}'"
        raise ArtifactError(problem, hint="Upgrade retrainer, or train a new version")
    return _FORMATS[number]


def write_json(text: str) -> str:
    """Return the text as a JSON string on one line, from which it can be read back exactly."""
    return _ESCAPED_TOO.sub(lambda match: json.dumps(match[0])[1:-1], json.dumps(text, ensure_ascii=False))


def read_json_answer(answer: str) -> str:
    """Return the text of a JSON string; an answer that is none is a text itself."""
    try:
        text = json.loads(answer, strict=False) if answer.startswith('"') else None
    except ValueError:
        text = None
    return clean_text(answer if text is None else text)


_FORMATS = {
    1: PostFormat(
        read_post=clean_text,
        write_post=str,
        write_recent=lambda time, text: f'<post time="{time}">\n{text}\n</post>',
        read_answer=clean_text,
    ),
    2: PostFormat(
        read_post=lambda content: content.strip() if isinstance(content, str) and _VISIBLE.search(content) else "",
        write_post=write_json,
        write_recent=lambda time, text: f"{time}: {write_json(text)}",
        read_answer=read_json_answer,
    ),
}
FORMAT = max(_FORMATS)  # of new versions
