"""The environment variables that every HTTP client obeys: proxies, and certificates."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from retrainer.errors import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_PROXIES = ("all_proxy", "https_proxy", "http_proxy")  # in either case, like `no_proxy`
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


def ssl_context() -> ssl.SSLContext:
    """Return the context of HTTP clients, read once for each value of the variables: it takes longer than a request."""
    return _read_certificates(*map(os.environ.get, _CERTIFICATES))


@cache
def _read_certificates(*_: str | None) -> ssl.SSLContext:
    import httpx2  # noqa: PLC0415  slow to import

    return httpx2.create_ssl_context()


@contextmanager
def name_wrong_variable() -> Iterator[None]:
    """Name the variable that keeps the block from creating an HTTP client.

    Raises:
        ConfigError: a variable does not hold a proxy, a list of hosts, or the path of certificates.
    """
    import httpx2  # noqa: PLC0415  slow to import

    try:
        yield
    except (ImportError, OSError, ValueError, httpx2.InvalidURL) as error:
        problem = _certificates_problem() if isinstance(error, OSError) else _proxy_problem(error)
        if problem is None:
            raise
        raise problem from error


def _certificates_problem() -> ConfigError | None:
    for name in _CERTIFICATES:
        if os.environ.get(name):
            return ConfigError(
                f"no certificates can be read from '{os.environ[name]}', which {name} names",
                hint=f"Fix or remove the environment variable {name}",
            )
    return None


def _proxy_problem(error: Exception) -> ConfigError | None:
    """Return the error for a proxy; its URL is not shown, since it may hold a password."""
    variables = {name: value for name, value in os.environ.items() if value}
    for name in (name for name in variables if name.lower() in _PROXIES):
        if isinstance(error, ImportError):
            if variables[name].lower().startswith("socks"):
                hint = "Install it with: pip install 'httpx2[socks]'; or set the variable to an HTTP proxy"
                return ConfigError(f"the SOCKS proxy that {name} names needs a package that is missing", hint=hint)
        elif not _is_proxy(variables[name]):
            hint = "Write it like http://127.0.0.1:3128 or socks5://127.0.0.1:1080"
            return ConfigError(f"the environment variable {name} does not hold the URL of a proxy", hint=hint)
    for name in (name for name in variables if name.lower() == "no_proxy" and not isinstance(error, ImportError)):
        return ConfigError(
            f"the environment variable {name} holds a host that cannot be read: '{variables[name]}'",
            hint="Separate hosts by commas, and write an IPv6 address without brackets, such as ::1",
        )
    return None


def _is_proxy(value: str) -> bool:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        return parts.scheme in _PROXY_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
