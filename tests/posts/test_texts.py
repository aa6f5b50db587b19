"""Plain text from HTML, entities, mojibake and parts, and what a column of texts needs."""

from __future__ import annotations

import html
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrainer.posts.texts import clean_text, find_clean_ups, html_to_text, repair_mojibake
from retrainer.posts.validation import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable

LINK = (
    '<a href="https://site.example/long/path" rel="nofollow"><span class="invisible">https://www.</span>'
    '<span class="ellipsis">site.example/lo</span><span class="invisible">ng/path</span></a>'
)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("<p>one</p>", "one"),
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("<p>one<br>two<br />three</p>", "one\ntwo\nthree"),
        ("<div>one</div><div>two</div>", "one\ntwo"),
        ("<ul><li>one</li><li>two</li></ul>", "one\ntwo"),
        ("one\n   two  <b>three</b>", "one two three"),
        (f"<p>see {LINK}!</p>", "see site.example/lo!"),
        ('<p><span class="h-card"><a href="x">@<span>name</span></a></span> hi</p>', "@name hi"),
        ("<p>a &amp; b &lt;c&gt; &#39;d&#x27; &quot;e&quot;&nbsp;f</p>", "a & b <c> 'd' \"e\"\xa0f"),
        ("<script>alert(1)</script><style>p {}</style><p>one</p><!-- two -->", "one"),
        ("<p>open <b>never closed", "open never closed"),
        ("no markup\nat all", "no markup\nat all"),
        ("<p>1 < 2</p>", "1 < 2"),
        ("<p> </p>", ""),
        ("<p>Zoë 👍</p>", "Zoë 👍"),
    ],
)
def test_html_becomes_what_a_browser_shows(written: str, text: str) -> None:
    assert html_to_text(written) == text
    assert clean_text(written, ["html"]) == (text or None)


@pytest.mark.parametrize(
    "tag", ["<div>", "<p>", "<b>", '<span class="invisible">', "<table>", "<a><b>", "<", "&", "<!--", "<a "]
)
@pytest.mark.parametrize("count", [9_000, 60_000])
def test_hostile_html_takes_no_time(tag: str, count: int) -> None:
    started = time.process_time()
    html_to_text(f"<p>{tag * (count // tag.count('<') if '<' in tag else count)}x")
    assert time.process_time() - started < 5  # takes 0.2 seconds; nested tags once took minutes


def test_entities_are_decoded_once() -> None:
    assert clean_text("a &amp; b &lt;3 &amp;amp;", ["entities"]) == "a & b <3 &amp;"
    assert clean_text("a &amp; b") == "a &amp; b"


def as_facebook_writes(text: str) -> str:
    return text.encode().decode("latin-1")


@pytest.mark.parametrize("text", ["Café time", "“fine” — 👍", "Ünïcödé", "日本語", "naïve €5"])
def test_mojibake_is_repaired(text: str) -> None:
    assert clean_text(as_facebook_writes(text), ["mojibake"]) == text


def test_mojibake_with_control_characters_is_repaired_wherever_it_is() -> None:
    assert clean_text(as_facebook_writes("“fine” — 👍")) == "“fine” — 👍"
    assert clean_text(as_facebook_writes("Café")) == as_facebook_writes("Café")  # someone may have meant it


@pytest.mark.parametrize(
    "text",
    ["Café", "AMANHÃ TEM JOGO", "IRMÃ E IRMÃO", "São Paulo — 5 €", "日本語", "“quoted”", "plain", "Ärger über Öl"],
)
def test_sound_text_is_not_repaired(text: str) -> None:
    assert repair_mojibake(text) == text


def test_a_list_of_parts_is_one_text() -> None:
    parts: list[object] = ["look at ", {"type": "link", "text": "https://a.example"}, {"type": "photo"}, 7, "\n👍"]
    assert clean_text(parts) == "look at https://a.example\n👍"
    assert clean_text({"type": "plain", "text": "one"}) == "one"
    empties: list[object] = [[], [""], [{"type": "photo"}], {}]
    for empty in empties:
        assert clean_text(empty) is None


def test_a_number_is_text_and_other_values_are_not() -> None:
    assert (clean_text(5), clean_text(1.5)) == ("5", "1.5")
    for value in (True, b"x", object()):
        with pytest.raises(InvalidValueError, match="is not text"):
            clean_text(value)


@pytest.mark.parametrize("missing", [None, "", " \n", float("nan")])
def test_white_space_is_a_missing_text(missing: object) -> None:
    assert clean_text(missing) is None


def test_what_cannot_be_stored_is_replaced() -> None:
    assert clean_text("a\0b\ud83dc") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"
    assert clean_text("<p>a&#0;b</p>", ["html"]) == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["<p>one</p>", "<p>two<br>three &amp; four</p>"], ["html"]),
        (["<p>one</p>", "plain", "<b>two</b>"], ["html"]),
        (["<p>one</p>", "plain", "more"], []),  # one speaks about HTML
        (["<p>one</p> <3", "<p>two</p>"], []),
        (['<a href="<a href="x">y</a>">z</a>', *["<p>one</p>"] * 99], ["html"]),  # one was made wrongly
        (["I <3 it", "x < y", "List<String>"], []),
        (["a &amp; b", "c &lt; d", "e"], ["entities"]),
        (["a &amp; b", "this & that"], []),
        (["AT&T"], []),
        (["CafÃ©", "naÃ¯ve", "plain"], ["mojibake"]),
        (["CafÃ©", "Zoë", "Müller"], []),
        (["Zoë", "👍", "日本語"], []),
        (["<p>CafÃ©</p>"], ["mojibake", "html"]),
        (["plain", None, "", 7, ["parts"]], []),
        ([], []),
    ],
)
def test_a_column_shows_what_its_texts_need(texts: list[object], found: list[str]) -> None:
    assert find_clean_ups(texts) == found


WORDS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
PARAGRAPHS = st.lists(st.lists(WORDS, min_size=1, max_size=4).map(" ".join), min_size=1, max_size=4)


@given(PARAGRAPHS)
def test_the_text_of_html_is_the_text_that_was_put_in(paragraphs: list[str]) -> None:
    written = "".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in paragraphs)
    assert html_to_text(written) == "\n\n".join(paragraphs)


@given(st.text(), st.sampled_from([html_to_text, repair_mojibake]))
def test_any_text_stays_a_text(text: str, clean: Callable[[str], str]) -> None:
    assert isinstance(clean(text), str)
