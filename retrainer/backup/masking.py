"""The settings without their passwords."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from pathlib import Path

_SECRET = re.compile(r"([?&;][^=&?\s]*(?:passw|secret|token)[^=&\s]*=)[^&\n]+", re.IGNORECASE)  # in a URL's query
_WEB = re.compile(r"https?://", re.IGNORECASE)


def settings_without_passwords(config_file: Path) -> str:
    """Return the text of the settings with `***` in place of the passwords in URLs, also in comments."""
    text = config_file.read_text(encoding="utf-8")
    parts, end = [], 0
    for token in yaml.scan(text):
        if isinstance(token, yaml.ScalarToken) and "://" in token.value:
            start, between = token.start_mark.index, text[end : token.start_mark.index]
            parts += [_mask_lines(between), _mask_scalar(text[start : token.end_mark.index], token.value)]
            end = token.end_mark.index
    return "".join([*parts, _mask_lines(text[end:])])


def _mask_scalar(raw: str, value: str) -> str:
    """Mask the passwords of a scalar as it is written, with its quotes."""
    if "\n" in raw or "\\" in raw:  # a password may be written in parts
        masked = _mask_lines(value)
        return raw if masked == value else json.dumps(masked) + raw[len(raw.rstrip()) :]
    quote = raw[0] if raw[0] in "\"'" else ""
    return f"{quote}{_mask_lines(raw[len(quote) : len(raw) - len(quote)])}{quote}"


def _mask_lines(text: str) -> str:
    return "\n".join(map(_mask_url, text.split("\n")))


def _mask_url(line: str) -> str:
    """Mask the passwords of URLs, from wherever they are in a line; rather too much than too little."""
    before, mark, rest = line.partition("://")
    if not mark:
        return line
    # A password of a database may hold any character. In a web address, an @ after the host is part of the path.
    is_web = _WEB.search(before[-5:] + mark) is not None
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0] if is_web else rest
    user_info, at, host = authority.rpartition("@")
    user, colon, _ = user_info.partition(":")
    if at and "/" not in user and (colon or is_web):
        rest = f"{user + colon if colon else ''}***@{host}{rest[len(authority) :]}"
    return before + mark + _SECRET.sub(r"\1***", _mask_url(rest))
