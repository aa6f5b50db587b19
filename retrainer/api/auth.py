"""Who may call: the bearer token, and which addresses may be listened on without one."""

from __future__ import annotations

import ipaddress
import logging
import secrets
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

TOKEN_VARIABLE = "RETRAINER_API_TOKEN"  # noqa: S105  the variable's name
SHORTEST_TOKEN = 16  # letters
TOKEN_HINT = 'Make one with: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'  # noqa: S105  how to make one
_LARGEST_FILE = 4096  # bytes; a larger one holds no token


@dataclass(frozen=True)
class Auth:
    """Who may call.

    Attributes:
        token: what a caller who changes something must bring; None: whoever is on this machine may.
        protect_reads: whether a caller who only looks must bring it too.
    """

    token: str | None = None
    protect_reads: bool = False

    def holds(self, authorization: bytes | None) -> bool:
        """Whether an `Authorization` header carries the token, compared in constant time."""
        if self.token is None or authorization is None:
            return False
        scheme, _, given = authorization.partition(b" ")
        return scheme.lower() == b"bearer" and secrets.compare_digest(given.strip(), self.token.encode())


def load_auth(environ: Mapping[str, str], token_file: Path | None, host: str, *, protect_reads: bool) -> Auth:
    """Find the token, in the file or else in the environment, and check that what is asked for is safe.

    Raises:
        ConfigError: the token cannot be read, is short, or holds something else than visible ASCII letters.
        UsageError: without a token, reads are to be protected, or another address than a loopback one is asked for.
    """
    if token_file is not None:
        token: str | None = _checked(_read(token_file), f"the token file '{token_file}'")
    elif TOKEN_VARIABLE in environ:
        token = _checked(environ[TOKEN_VARIABLE], TOKEN_VARIABLE)
    else:
        token = None
    how = f"Set {TOKEN_VARIABLE} or --token-file. {TOKEN_HINT}"
    if token is None and protect_reads:
        raise UsageError("--protect-reads: there is no token to protect them with", hint=how)
    if token is None and not is_loopback(host):
        raise UsageError(f"--host: '{host}' can be reached by others, and no token is set", hint=how)
    return Auth(token, protect_reads)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked(token: str, source: str) -> str:
    """Check a token. Messages never show it."""
    token = token.strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigError(f"{source}: a token is one word of ASCII letters, digits and signs", hint=TOKEN_HINT)
    if len(token) < SHORTEST_TOKEN:
        raise ConfigError(f"{source}: the token is shorter than {SHORTEST_TOKEN} letters", hint=TOKEN_HINT)
    return token


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            text = file.read(_LARGEST_FILE).decode()
    except OSError as error:
        raise ConfigError(f"cannot read the token file '{path}': {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"the token file '{path}' is not text", hint=TOKEN_HINT) from None
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        log.warning("Others can read the token file '%s': chmod 600 closes it", path)
    return text
