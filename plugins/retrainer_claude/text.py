"""The texts of posts, made fit to be sent."""

from __future__ import annotations

import re

# C0 but tab and line feed, and DEL: legal in JSON, and of no use to a model.
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def cleaned(content: object) -> str:
    """Return a post's text without what cannot be sent or says nothing; empty where there is no text.

    A lone surrogate becomes a question mark, since UTF-8 cannot hold it; any line break becomes a line feed.
    """
    if not isinstance(content, str):
        return ""
    sendable = content.encode("utf-8", "replace").decode("utf-8")
    return _CONTROL_CHARACTERS.sub("", "\n".join(sendable.splitlines())).strip()


def cut(text: str, most: int) -> str:
    """Return the text with at most `most` characters, cut between words if one ends in its second half."""
    if len(text) <= most:
        return text
    words_end = max(text.rfind(space, 0, most + 1) for space in " \n")
    return text[: words_end if words_end > most // 2 else most].rstrip()


def comparison_key(text: str) -> str:
    """Return what is the same in texts that differ only in case and white space."""
    return " ".join(text.casefold().split())
