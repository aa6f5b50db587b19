"""Secrets of sources, which only the environment holds."""

from __future__ import annotations

import os

from retrainer import redaction
from retrainer.errors import MissingCredentials


def read_secret(variable: str) -> str:
    """Return the value of an environment variable, and redact it in the log from now on.

    Raises:
        MissingCredentials: it is not set.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        raise MissingCredentials(f"the environment variable {variable} is not set", hint="Set it, and fetch again")
    redaction.hide(value)
    return value
