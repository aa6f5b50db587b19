"""Streams: each is one sequence of posts, such as those of an account, with models of its own."""

from __future__ import annotations

import hashlib
import shlex
import unicodedata
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from retrainer.escapes import shorten

if TYPE_CHECKING:
    from retrainer.model_types import ModelTypeName

DEFAULT_STREAM = "default"  # of posts that are said to be in no other
MAX_CHARACTERS = 200  # of a name
MAX_SHOWN_CHARACTERS = 60  # of a name in a message


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


def stream_folder(name: str) -> str:
    """Return the folder of what is a stream's own, relative to that of what is of `default`: `streams/ID`."""
    return "" if name == DEFAULT_STREAM else f"streams/{stream_id(name)}"


def matches(pattern: str, name: str) -> bool:
    """Whether a name is, or matches, a pattern with `*`, `?` and `[...]`; upper and lower case differ."""
    return pattern == name or fnmatchcase(name, pattern)


def is_pattern(text: str) -> bool:
    """Whether a text may match names that differ from it."""
    return any(character in text for character in "*?[")


def of_stream(name: str, *, several: bool = False) -> str:
    """Return words that name a stream, for a message; nothing for `default`, unless it is one of several."""
    return "" if name == DEFAULT_STREAM and not several else f" of the stream '{shorten(name, MAX_SHOWN_CHARACTERS)}'"


def stream_argument(name: str, *, several: bool = False) -> str:
    """Return the option that chooses a stream, for a hint; nothing for `default`, unless it is one of several."""
    return "" if name == DEFAULT_STREAM and not several else f" --stream {shlex.quote(name)}"
