"""A polite HTTP client: conditional requests, retries that wait as long as the server asks, limits of time and size.

Redirects are followed by hand, since only then can their targets be checked: never to another scheme than http and
https, never from https to http, never from a public host to a private address, and headers of the source, which may
hold its token, never go to another host. Errors name the host alone: the rest of a URL may hold a secret.
"""

from __future__ import annotations

import email.utils
import ipaddress
import json
import socket
import threading
import time
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from retrainer import __version__, redaction
from retrainer.errors import ConfigError, SourceError
from retrainer.http_environment import name_wrong_variable, ssl_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import httpx2
    import tenacity

ATTEMPTS = 5
MAX_REDIRECTS = 5
MEGABYTE = 1_000_000
_HEADERS = {"User-Agent": f"retrainer/{__version__}", "Accept-Encoding": "gzip"}
_REDIRECTS = {301, 302, 303, 307, 308}
_NOT_MODIFIED = 304
_TEMPORARY = {408, 425, 429, *range(500, 600)}
_ENCODINGS = {"", "identity", "gzip", "x-gzip", "deflate"}
_RESET_HEADERS = ("x-ratelimit-reset", "ratelimit-reset")  # of Mastodon and most others; of Bluesky
_HINTS = {
    401: "Check its token",
    403: "It may need a token",
    404: "Check its URL and account",
    410: "It no longer exists: remove the source",
}


class _TemporaryFailure(SourceError):
    """Another attempt may succeed, after `wait` seconds if the server says so."""

    def __init__(self, message: str, *, wait: float | None = None) -> None:
        super().__init__(message, hint="Fetch again later")
        self.wait = wait


@dataclass(frozen=True)
class Response:
    """An answer.

    Attributes:
        url: the URL that answered, after redirects.
        headers: by name; case does not matter.
        content: the body, decompressed.
        is_unmodified: whether the content is the one that the validators came with; then it is empty.
    """

    url: str
    headers: Mapping[str, str]
    content: bytes
    is_unmodified: bool = False

    @property
    def host(self) -> str:
        """The host that answered."""
        import httpx2  # noqa: PLC0415  slow to import

        return httpx2.URL(self.url).host

    @property
    def validators(self) -> dict[str, str]:
        """What a later request needs to ask whether the content has changed."""
        return {name: self.headers[name] for name in ("etag", "last-modified") if name in self.headers}

    @property
    def linked_next(self) -> str | None:
        """The next page by the header Link; None without one."""
        import httpx2  # noqa: PLC0415  slow to import

        link = httpx2.Response(200, headers={"link": self.headers.get("link", "")}).links.get("next")
        return link.get("url") if link else None

    def page_url(self, link: str) -> str:
        """Return the URL of another page of the same server.

        Raises:
            SourceError: the link leads elsewhere.
        """
        import httpx2  # noqa: PLC0415  slow to import

        url = httpx2.URL(self.url)
        try:
            target = url.join(link)
        except (httpx2.InvalidURL, ValueError):
            raise SourceError(f"the link of {url.host} to its next page is not a URL") from None
        if not _same_site(url, target) or target.scheme not in {"http", "https"}:
            raise SourceError(f"{url.host} links to a next page on another server, which is not followed")
        return str(target)

    def json(self) -> Any:
        """Return the content parsed as JSON.

        Raises:
            SourceError: it is not JSON.
        """
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            raise SourceError(f"{self.host} did not return JSON", hint="Check its URL") from None


class HttpClient:
    """A client for the requests of one source, one after the other."""

    def __init__(
        self,
        *,
        timeout_seconds: float = 30,
        max_megabytes: float = 32,
        max_minutes: float = 15,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Set the limits.

        Args:
            timeout_seconds: of one answer, with its body.
            max_megabytes: of one answer, decompressed.
            max_minutes: of all requests together, with the waits between attempts.
            sleep: waits between attempts.
        """
        self._timeout = timeout_seconds
        self._max_bytes = int(max_megabytes * MEGABYTE)
        self._deadline = time.monotonic() + max_minutes * 60
        self._sleep = sleep
        self._client: httpx2.Client | None = None
        self._stream: Any = None  # of the connection in use
        self._is_interrupted = False

    def __enter__(self) -> Self:
        """Return the client itself; its connection is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()

    @property
    def is_over(self) -> bool:
        """Whether the time for all requests is over."""
        return time.monotonic() >= self._deadline

    def get(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        headers_for: str | None = None,
        validators: Mapping[str, str] | None = None,
    ) -> Response:
        """Request a URL, and again after temporary failures.

        Args:
            url: http or https.
            params: added to the query of the URL.
            headers: sent to one server alone, since they may hold a token.
            headers_for: a URL of that server; by default, the server of `url`.
            validators: of an earlier answer, if an unmodified one needs not be sent again.

        Raises:
            ConfigError: it is not a URL.
            SourceError: there is no answer in time, or an error.
        """
        import tenacity  # noqa: PLC0415

        conditions = {"etag": "If-None-Match", "last-modified": "If-Modified-Since"}
        sent = {**(headers or {}), **{conditions[name]: value for name, value in (validators or {}).items()}}
        target = _parse_url(url, params)
        for name, value in sent.items():
            if not (value.isascii() and value.isprintable()):
                raise ConfigError(f"the header {name} has an invalid character", hint="Check its variable")
        retry = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_TemporaryFailure),
            stop=tenacity.stop_after_attempt(ATTEMPTS) | tenacity.stop_before_delay(self._remaining()),
            wait=_seconds_to_wait,
            sleep=self._sleep,
            reraise=True,
        )
        return retry(self._follow, target, sent, _parse_url(headers_for) if headers_for else target)

    def _remaining(self) -> float:
        return max(self._deadline - time.monotonic(), 0.001)

    def _follow(self, url: httpx2.URL, headers: Mapping[str, str], owner: httpx2.URL) -> Response:
        """Request a URL once, and what it redirects to; send the headers to the server of the owner only."""
        target = url
        for _ in range(MAX_REDIRECTS + 1):
            response, redirect = self._request(target, headers if _same_site(owner, target) else {})
            if redirect is None:
                return response
            target = _checked_redirect(url, target, redirect)
        raise SourceError(f"{url.host} redirects more than {MAX_REDIRECTS} times", hint="Check its URL")

    def _request(self, url: httpx2.URL, headers: Mapping[str, str]) -> tuple[Response, str | None]:
        """Return the answer of one URL, and where it redirects to."""
        import httpx2  # noqa: PLC0415  slow to import

        timeout = min(self._timeout, self._remaining())
        if self._client is None:
            with name_wrong_variable():
                self._client = httpx2.Client(timeout=self._timeout, verify=ssl_context())
        try:
            with (
                self._interrupted_after(timeout),
                self._client.stream(
                    "GET", url, headers={**_HEADERS, **headers}, timeout=timeout, extensions={"trace": self._trace}
                ) as response,
            ):
                status = response.status_code
                if status in _REDIRECTS:
                    return Response("", {}, b""), response.headers.get("location", "")
                if status == _NOT_MODIFIED:
                    return Response(str(url), response.headers, b"", is_unmodified=True), None
                self._check_status(url.host, response)
                return Response(str(url), response.headers, self._read(url.host, response)), None
        except httpx2.UnsupportedProtocol:
            raise ConfigError(f"'{url.scheme}' is not http or https", hint="Correct the URL of the source") from None
        except httpx2.TimeoutException:
            raise _TemporaryFailure(f"{url.host} did not answer within {timeout:.3g} s") from None
        except httpx2.TransportError as error:
            if self._is_interrupted:
                raise _TemporaryFailure(f"{url.host} did not answer within {timeout:.3g} s") from None
            raise _TemporaryFailure(f"the connection to {url.host} failed: {_describe(error)}") from None

    @staticmethod
    def _check_status(host: str, response: httpx2.Response) -> None:
        status = response.status_code
        if status in _TEMPORARY:
            wait = _requested_wait(response.headers, datetime.now(UTC))
            again = f" and asks to wait {wait:.0f} s" if wait else ""
            raise _TemporaryFailure(f"{host} returned HTTP {status}{again}", wait=wait)
        if not response.is_success:
            raise SourceError(f"{host} returned HTTP {status}", hint=_HINTS.get(status, "Check its settings"))

    def _read(self, host: str, response: httpx2.Response) -> bytes:
        """Return the decompressed body, which is never larger than the limit, however well it was compressed."""
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in _ENCODINGS:
            raise SourceError(
                f"{host} used the unsupported encoding '{encoding}'", hint="Let the server send gzip, or no encoding"
            )
        decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, by its header
        is_compressed = encoding not in {"", "identity"}
        content = bytearray()
        for chunk in response.iter_raw():
            try:
                part = decompressor.decompress(chunk, self._max_bytes + 1 - len(content)) if is_compressed else chunk
            except zlib.error:
                raise _TemporaryFailure(f"{host} answered with damaged gzip data") from None
            content += part
            if len(content) > self._max_bytes:
                limit = f"{self._max_bytes / MEGABYTE:g} MB (max_megabytes)"
                raise SourceError(f"{host} returned more than {limit}", hint="Check its URL, or raise the limit")
        if is_compressed and content and not decompressor.eof:
            raise _TemporaryFailure(f"the connection to {host} ended in the middle of an answer")
        return bytes(content)

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember the stream of the connection: a new one replaces it when TLS starts."""
        stream = info.get("return_value")
        if event.endswith(".complete") and hasattr(stream, "get_extra_info"):
            self._stream = stream

    @contextmanager
    def _interrupted_after(self, seconds: float) -> Iterator[None]:
        """End the connection after a time: a server that sends a byte now and then never exceeds a timeout."""
        self._is_interrupted = False
        over = threading.Timer(seconds, self._interrupt)
        over.daemon = True
        over.start()
        try:
            yield
        finally:
            over.cancel()

    def _interrupt(self) -> None:
        self._is_interrupted = True
        connection = self._stream and self._stream.get_extra_info("socket")
        with suppress(OSError):
            if connection is not None:
                connection.shutdown(socket.SHUT_RDWR)


def _seconds_to_wait(state: tenacity.RetryCallState) -> float:
    """Return the seconds that the server asks for, or an exponential backoff with jitter."""
    import tenacity  # noqa: PLC0415

    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, _TemporaryFailure) and error.wait is not None:
        return error.wait
    return tenacity.wait_random_exponential(multiplier=0.5, max=30)(state)


def _requested_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that an answer asks to wait; None if it does not say."""
    for parse in (_parse_retry_after, partial(_parse_reset, now=now)):
        wait = parse(headers)
        if wait is not None:
            return max(wait, 0.0)
    return None


def _parse_retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "")
    if value.strip().isdigit():
        return float(value)
    date = email.utils.parsedate_tz(value)
    return email.utils.mktime_tz(date) - time.time() if date else None


def _parse_reset(headers: Mapping[str, str], now: datetime) -> float | None:
    """Read when the limit ends: an ISO 8601 time (Mastodon), seconds since 1970 (Bluesky, GitHub), or seconds."""
    for name in _RESET_HEADERS:
        value = headers.get(name, "").strip()
        with suppress(ValueError, OverflowError):
            if value.isdigit():
                number = float(value)
                return number - now.timestamp() if number > 10**9 else number
            time_ = datetime.fromisoformat(value)
            return (time_.replace(tzinfo=time_.tzinfo or UTC) - now).total_seconds()
    return None


def _parse_url(url: str, params: Mapping[str, str] | None = None) -> httpx2.URL:
    import httpx2  # noqa: PLC0415  slow to import

    try:
        parsed = httpx2.URL(url)
        parsed = parsed.copy_merge_params(params) if params else parsed
    except (httpx2.InvalidURL, TypeError, ValueError):
        raise ConfigError("the URL of the source is not valid", hint="Write it like https://example.org/feed") from None
    redaction.hide(parsed.password or "")
    if not parsed.host:
        raise ConfigError("the URL of the source has no host", hint="Write it like https://example.org/feed")
    return parsed


def _same_site(url: httpx2.URL, other: httpx2.URL) -> bool:
    """Whether two URLs are of one server, or the second is of the first's by https."""
    if (url.scheme, url.host, url.port) == (other.scheme, other.host, other.port):
        return True
    return url.host == other.host and (url.scheme, other.scheme) == ("http", "https") and other.port is url.port is None


def _checked_redirect(url: httpx2.URL, current: httpx2.URL, location: str) -> httpx2.URL:
    """Return the target of a redirect.

    Raises:
        SourceError: it is not one to follow.
    """
    import httpx2  # noqa: PLC0415  slow to import

    try:
        target = current.join(location)
    except (httpx2.InvalidURL, ValueError):
        raise SourceError(f"{current.host} redirects to an invalid URL") from None
    if target.scheme not in {"http", "https"} or (current.scheme == "https" and target.scheme == "http"):
        raise SourceError(f"{current.host} redirects to '{target.scheme}', which is not followed")
    if target.host != url.host and _is_private(target.host) and not _is_private(url.host):
        raise SourceError(f"{current.host} redirects to the private address '{target.host}', which is not followed")
    return target


def _is_private(host: str) -> bool:
    """Whether a host has an address that is not one of the public internet."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # the request will fail, or a proxy knows it
        return False
    return any(not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global for *_, address in found)


def _describe(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
