"""Prepare the texts of posts for a request."""

from __future__ import annotations

import re

# C0 except tab and line feed, and DEL: legal in JSON, but of no use to a model.
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def clean_text(content: object) -> str:
    """Return a post's text without control characters and outer white space; empty if there is no text.

    A lone surrogate becomes a question mark, because UTF-8 cannot encode it. Any line break becomes a line feed.
    """
    if not isinstance(content, str):
        return ""
    encodable = content.encode("utf-8", "replace").decode("utf-8")
    return _CONTROL_CHARACTERS.sub("", "\n".join(encodable.splitlines())).strip()


def truncate(text: str, max_characters: int) -> str:
    """Return the text with at most so many characters, cut between words if one ends in the second half."""
    if len(text) <= max_characters:
        return text
    end = max(text.rfind(space, 0, max_characters + 1) for space in " \n")
    return text[: end if end > max_characters // 2 else max_characters].rstrip()
