"""Streams: each is one sequence of posts, such as those of an account, with models of its own."""

from __future__ import annotations

import hashlib
import unicodedata
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from retrainer.model_types import ModelTypeName

DEFAULT_STREAM = "default"  # of posts that are said to be in no other
MAX_CHARACTERS = 200  # of a name


class ModelKey(NamedTuple):
    """What has one production version: a stream and a model type."""

    stream: str
    model_type: ModelTypeName


def check_stream_name(name: str) -> str:
    """Return the name of a stream. Names are compared exactly.

    Raises:
        ValueError: it is empty or blank, longer than 200 characters, or has control characters.
    """
    if not name.strip():
        raise ValueError("must not be empty")
    if len(name) > MAX_CHARACTERS:
        raise ValueError(f"must have at most {MAX_CHARACTERS} characters")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        raise ValueError("must not have control characters")
    return name


def stream_id(name: str) -> str:
    """Return what stands for a stream in a path: 16 hexadecimal digits of the SHA-256 of its name."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def matches(pattern: str, name: str) -> bool:
    """Whether a name is, or matches, a pattern with `*`, `?` and `[...]`; upper and lower case differ."""
    return pattern == name or fnmatchcase(name, pattern)


def is_pattern(text: str) -> bool:
    """Whether a text may match names that differ from it."""
    return any(character in text for character in "*?[")
