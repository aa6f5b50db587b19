"""The settings without their passwords."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import yaml

from retrainer.redaction import mask_passwords

if TYPE_CHECKING:
    from pathlib import Path


def settings_without_passwords(config_file: Path) -> str:
    """Return the text of the settings with `***` in place of the passwords in URLs, also in comments."""
    text = config_file.read_text(encoding="utf-8")
    parts, end = [], 0
    for token in yaml.scan(text):
        if isinstance(token, yaml.ScalarToken):
            start, between = token.start_mark.index, text[end : token.start_mark.index]
            parts += [mask_passwords(between), _mask_scalar(text[start : token.end_mark.index], token.value)]
            end = token.end_mark.index
    return "".join([*parts, mask_passwords(text[end:])])


def _mask_scalar(raw: str, value: str) -> str:
    """Mask the passwords of a scalar as it is written, with its quotes."""
    if "\n" in raw or "\\" in raw:  # a password may be written in parts
        masked = mask_passwords(value)
        return raw if masked == value else json.dumps(masked) + raw[len(raw.rstrip()) :]
    quote = raw[0] if raw[0] in "\"'" else ""
    return f"{quote}{mask_passwords(raw[len(quote) : len(raw) - len(quote)])}{quote}"
