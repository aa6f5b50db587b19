"""The texts of posts: plain text from HTML, entities, wrongly decoded characters, and lists of parts."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from retrainer.posts.validation import UNSTORABLE, InvalidValueError, is_missing, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from retrainer.export_format import CleanUp

_LINE, _PARAGRAPH = "\x1e", "\x1d"  # markers, which texts do not contain
_BLOCKS = "div, li, tr, blockquote, pre, ul, ol, table, h1, h2, h3, h4, h5, h6, figure, figcaption, section, article"
_INVISIBLE = "head, script, style, template, .invisible"  # Mastodon hides parts of links by the class
_MAX_TAGS = 10_000  # for the parser, whose time grows with the square of their depth
_TAG = re.compile(r"<[^<>]*>")
_KNOWN_TAG = re.compile(
    r"</?(?:p|br|a|div|span|b|i|u|em|strong|s|del|ul|ol|li|blockquote|pre|code|h[1-6]|img|figure|figcaption|hr|table|tbody"
    r"|thead|tr|td|th|small|sub|sup|iframe|video|audio|source|section|article)(?:\s[^<>]*)?/?>|<!--[^<>]*-->",
    re.IGNORECASE,
)
_ENTITY = re.compile(
    r"&(?:amp|lt|gt|quot|apos|nbsp|hellip|[lr][sd]quo|[mn]dash|#[0-9]{1,6}|#x[0-9a-f]{1,6});", re.IGNORECASE
)
_MAX_BARE_LESS = 0.02  # of the texts of a column of HTML: what made it may have failed for some
_CONTROLS = re.compile("[\x80-\x9f]")  # which no one writes: they are bytes of UTF-8 that were decoded as Latin-1
_SPACE = re.compile(r"[ \t\n\r\f]+")
_BREAKS = re.compile(rf" ?[{_LINE}{_PARAGRAPH}][ {_LINE}{_PARAGRAPH}]*")


def clean_text(value: object, clean_ups: Sequence[CleanUp] = ()) -> str | None:
    """Return the text; None if it is missing. Characters that cannot be stored become U+FFFD.

    A list of parts, each a text or an object with a `text`, is one text.

    Args:
        value: as it stands in the file.
        clean_ups: what to do with it.

    Raises:
        InvalidValueError: it is not text.
    """
    if type(value) is str and value.isascii() and not clean_ups and "\0" not in value and not value.isspace():
        return value or None  # the way of nearly all texts
    text = _join_parts(value) if isinstance(value, list | dict) else value
    if isinstance(text, int | float) and not isinstance(text, bool) and not is_missing(text):
        text = str(text)
    if is_missing(text):
        return None
    if not isinstance(text, str):
        raise InvalidValueError(f"the content {quote(value)} is not text")
    if "mojibake" in clean_ups or _CONTROLS.search(text):
        text = repair_mojibake(text)
    if "html" in clean_ups:
        text = html_to_text(text)
    elif "entities" in clean_ups and "&" in text:
        text = html.unescape(text)
    if UNSTORABLE.search(text):
        text = UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)
    return None if is_missing(text) else text


def find_clean_ups(values: Iterable[object]) -> list[CleanUp]:
    """Return what the texts of a column need, where they show it beyond doubt.

    They are HTML if most have tags that belong to texts and hardly any has a bare `<`; they have entities if some do
    and no text has a bare `&`; they are mojibake if at least half of those beyond ASCII can be repaired.
    """
    texts = tagged = bare_less = with_entities = foreign = repairable = 0
    bare_ampersand = False
    for value in values:
        if not isinstance(value, str) or is_missing(value):
            continue
        texts += 1
        if "<" in value:
            rest, tags = _KNOWN_TAG.subn("", value)
            tagged += tags > 0
            bare_less += "<" in rest
        if "&" in value:
            rest, entities = _ENTITY.subn("", value)
            with_entities += entities > 0
            bare_ampersand = bare_ampersand or "&" in rest
        if not value.isascii():
            foreign += 1
            repairable += repair_mojibake(value) != value
    found: list[CleanUp] = []
    if repairable * 2 >= foreign > 0:
        found.append("mojibake")
    if tagged * 2 > texts and bare_less <= texts * _MAX_BARE_LESS:
        found.append("html")
    elif with_entities and not bare_ampersand:
        found.append("entities")
    return found


def _join_parts(value: object) -> str | None:
    parts = value if isinstance(value, list) else [value]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    return "".join(text for text in texts if isinstance(text, str)) or None


def html_to_text(text: str) -> str:
    """Return what a browser shows of HTML: a line break for each <br> and block, an empty line between paragraphs."""
    from selectolax.lexbor import LexborHTMLParser  # noqa: PLC0415  few files need it

    if "<" not in text and "&" not in text:
        return text
    if text.count("<") > _MAX_TAGS:
        return html.unescape(_TAG.sub(" ", text)).strip()
    body = LexborHTMLParser(re.sub(f"[{_LINE}{_PARAGRAPH}]", "", text)).body
    if body is None:
        return ""
    for node in body.css(_INVISIBLE):
        node.decompose()
    for node in body.css("br"):
        node.replace_with(_LINE)
    for selector, mark in (("p", _PARAGRAPH), (_BLOCKS, _LINE)):
        for node in body.css(selector):
            node.insert_before(mark)
            node.insert_after(mark)
    spaced = _SPACE.sub(" ", body.text())
    return _BREAKS.sub(lambda match: "\n\n" if _PARAGRAPH in match[0] else "\n", spaced).strip()


def repair_mojibake(text: str) -> str:
    """Return the text with UTF-8 that was decoded as something else decoded again, where that is certain."""
    if text.isascii():
        return text
    try:  # Facebook and Instagram write each byte as a character
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        pass
    import ftfy  # noqa: PLC0415  few files need it

    return ftfy.fix_encoding(text, restore_byte_a0=False, replace_lossy_sequences=False)  # what these do is a guess
