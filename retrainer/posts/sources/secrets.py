"""Secrets of sources, which only the environment holds."""

from __future__ import annotations

import os
from contextlib import suppress
from urllib.parse import urlsplit

from retrainer import redaction
from retrainer.errors import MissingCredentials

MIN_HIDDEN = 12  # characters of a part of a URL; a shorter one may be part of an innocent log line


def read_secret(variable: str) -> str:
    """Return the value of an environment variable, and redact it in the log from now on.

    Raises:
        MissingCredentials: it is not set.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        raise MissingCredentials(f"the environment variable {variable} is not set", hint="Set it, and fetch again")
    redaction.hide(value)
    with suppress(ValueError):  # not a URL
        for part in urlsplit(value)[2:4]:  # the path and the query, which may be logged without the rest
            if len(part) >= MIN_HIDDEN:
                redaction.hide(part)
    return value
