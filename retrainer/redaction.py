"""Secrets: what must appear in no message, and what other programs must not be given."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MIN_CHARACTERS = 12  # of a secret in the environment: a shorter value may be a word that messages need
# The names of variables with secrets, and of those that may hold one, such as a URL with a password.
_SECRET = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)$", re.IGNORECASE)
_MAY_BE_SECRET = re.compile(
    r"PASSW|SECRET|CREDENTIAL|(?:^|_)(?:API)?(?:KEYS?|TOKENS?|AUTH|DSN|WEBHOOK|URLS?)(?:_|$)", re.IGNORECASE
)

_SECRET_IN_QUERY = re.compile(r"([?&;][^=&?\s]*(?:auth|key|pass|pw|secret|sig|token)[^=&\s]*=)[^&\n]+", re.IGNORECASE)
_WEB = re.compile(r"https?://", re.IGNORECASE)
_WITHOUT_SCHEME = re.compile(r"^([^:/@?#\s]+:)\S+@(?=[^@\s]+/)")  # user:password@host/database

_secrets: set[str] = set()


def hide(secret: str) -> None:
    """Redact a secret in every later log line and error message, including those of libraries."""
    if secret.strip():
        _secrets.add(secret)


def hide_environment(environ: Mapping[str, str]) -> None:
    """Redact the values of variables that are named like secrets."""
    for name, value in environ.items():
        if _SECRET.search(name) and len(value) >= _MIN_CHARACTERS:
            hide(value)


def redact(text: str) -> str:
    """Replace every hidden secret in a text by asterisks."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def remove_secrets() -> dict[str, str]:
    """Remove variables that hold secrets, or may, from the environment; return them."""
    found = {name: value for name, value in os.environ.items() if _MAY_BE_SECRET.search(name) or value in _secrets}
    for name in found:
        del os.environ[name]
    return found


@contextmanager
def without_secrets() -> Iterator[None]:
    """Start other programs inside the block, which inherit the environment, but no secrets."""
    removed = remove_secrets()
    try:
        yield
    finally:
        os.environ.update(removed)


def mask_passwords(text: str) -> str:
    """Return a text with `***` in place of the passwords in its URLs, also in one that lacks its scheme."""
    lines = text.split("\n")
    return "\n".join(_mask_urls(line) if "://" in line else _WITHOUT_SCHEME.sub(r"\1***@", line) for line in lines)


def _mask_urls(line: str) -> str:
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
    return before + mark + _SECRET_IN_QUERY.sub(r"\1***", _mask_urls(rest))
