"""Authentication by bearer token, and the addresses that may be served without one."""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.errors import ConfigError, UsageError
from retrainer.files import open_regular
from retrainer.redaction import hide

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

TOKEN_VARIABLE = "RETRAINER_API_TOKEN"  # noqa: S105  the variable's name
MIN_TOKEN_LENGTH = 16
TOKEN_HINT = 'Create one with: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'  # noqa: S105  a command
_MAX_FILE_BYTES = 4096  # a larger file does not hold a token


@dataclass(frozen=True)
class Auth:
    """Who may call.

    Attributes:
        token: required to change something; None if every program on this machine may.
        protect_reads: whether the token is required to read, too.
        allowed_hosts: the names, besides those of a loopback address, by which callers without the token may call the
            server; lower case, without a port.
    """

    token: str | None = None
    protect_reads: bool = False
    allowed_hosts: frozenset[str] = frozenset()

    def accepts(self, authorization: bytes | None) -> bool:
        """Whether an `Authorization` header carries the token, compared in constant time."""
        if self.token is None or authorization is None:
            return False
        scheme, _, token = authorization.partition(b" ")
        return scheme.lower() == b"bearer" and secrets.compare_digest(token.strip(), self.token.encode())


def load_auth(
    environ: Mapping[str, str],
    token_file: Path | None,
    host: str,
    *,
    protect_reads: bool,
    allowed_hosts: Iterable[str] = (),
) -> Auth:
    """Read the token from a file or else the environment, and check that the options are safe.

    Raises:
        ConfigError: the token cannot be read, is too short, or has characters other than visible ASCII.
        UsageError: there is no token, but reads are to be protected, or the address is not a loopback address.
    """
    if token_file is not None:
        token: str | None = _check_token(_read_file(token_file), f"the token file '{token_file}'")
    elif TOKEN_VARIABLE in environ:
        token = _check_token(environ[TOKEN_VARIABLE], TOKEN_VARIABLE)
    else:
        token = None
    hide(token or "")
    hint = f"Set {TOKEN_VARIABLE} or --token-file. {TOKEN_HINT}"
    if token is None and protect_reads:
        raise UsageError("--protect-reads requires a token, and none is set", hint=hint)
    if token is None and not is_loopback(host):
        raise UsageError(f"--host: '{host}' can be reached from other machines, and no token is set", hint=hint)
    return Auth(token, protect_reads, frozenset(allowed_hosts))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_token(token: str, source: str) -> str:
    """Check a token, without repeating it in a message."""
    token = token.strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigError(f"{source}: the token must be one word of visible ASCII characters", hint=TOKEN_HINT)
    if len(token) < MIN_TOKEN_LENGTH:
        raise ConfigError(f"{source}: the token has fewer than {MIN_TOKEN_LENGTH} characters", hint=TOKEN_HINT)
    return token


def _read_file(path: Path) -> str:
    try:
        with open_regular(path, pipe=True) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(_MAX_FILE_BYTES).decode()
    except OSError as error:
        raise ConfigError(f"cannot read the token file '{path}': {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"the token file '{path}' is not text", hint=TOKEN_HINT) from None
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        log.warning("Other users can read the token file '%s'. Protect it with chmod 600", path)
    return text
