"""Characters that could control a terminal or forge a line, as in a post, a file name or the message of a library.

They are made visible wherever text is printed for people. JSON keeps them, as escapes of its own.
"""

from __future__ import annotations

import re

# Controls (C0 except the tab, DEL, C1), separators of lines and paragraphs, controls of the writing direction, and
# surrogates, which stand for the bytes of a file name that is not UTF-8.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(line: str) -> str:
    r"""Return a line with its control characters, also line breaks, written out: `\x1b`, `\n`, `\u202e`."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), line)


def visible_lines(text: str) -> str:
    """Return a text of several lines with its control characters written out, except its line breaks."""
    return "\n".join(map(visible, text.split("\n")))


def shorten(text: str, length: int) -> str:
    """Return a text of at most so many characters; the end of a longer one is left out."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def visible_json(document: str) -> str:
    """Return a JSON document without a control character other than the line breaks between its parts."""
    return _CONTROL.sub(lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", document)
