"""HTTP delivery with retries and a time limit. Errors name the host, but never the rest of a URL: it may be secret."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from retrainer.errors import ConfigError
from retrainer.http_environment import name_wrong_variable, ssl_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx2

REQUEST_SECONDS = 10
GRACE_SECONDS = 0.5  # so that a request that times out can say so
_SUCCESS = range(200, 300)
_REDIRECTS = range(300, 400)
_TEMPORARY = {408, 425, 429, *range(500, 600)}


class NotDelivered(Exception):
    """A message could not be delivered. The text says why, without the URL but for its host."""


class _TemporaryFailure(NotDelivered):
    """Another attempt may succeed."""


def post(url: str, content: bytes, headers: Mapping[str, str], limit_seconds: float, *, path_suffix: str = "") -> None:
    """POST to a URL, and retry after temporary failures. Redirects are not followed: they may lead to another host.

    Args:
        limit_seconds: the time limit for all attempts.
        path_suffix: appended to the URL's path, such as `/start`.

    Raises:
        NotDelivered: the content was not accepted.
    """
    import httpx2  # noqa: PLC0415  slow to import
    import tenacity  # noqa: PLC0415

    try:
        target = httpx2.URL(url)
        target = target.copy_with(path=target.path.rstrip("/") + path_suffix) if path_suffix else target
    except (httpx2.InvalidURL, TypeError, ValueError):
        raise NotDelivered("the variable does not hold a URL") from None
    retry = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_TemporaryFailure),
        stop=tenacity.stop_before_delay(limit_seconds),
        wait=tenacity.wait_exponential(multiplier=0.5, max=8),
        reraise=True,
    )
    try:
        with name_wrong_variable():
            client = httpx2.Client(timeout=min(REQUEST_SECONDS, limit_seconds), verify=ssl_context())
    except ConfigError as error:
        raise NotDelivered(str(error)) from None
    with client:
        retry(_post_once, client, target, content, headers)


def _post_once(client: httpx2.Client, url: httpx2.URL, content: bytes, headers: Mapping[str, str]) -> None:
    import httpx2  # noqa: PLC0415  slow to import

    try:
        with client.stream("POST", url, content=content, headers=dict(headers)) as response:  # the body is not read
            status = response.status_code
    except httpx2.UnsupportedProtocol:
        raise NotDelivered("the variable does not hold an http or https URL") from None
    except httpx2.TransportError as error:
        raise _TemporaryFailure(f"no answer from '{url.host}' ({type(error).__name__})") from None
    if status in _SUCCESS:
        return
    if status in _REDIRECTS:
        raise NotDelivered(f"it redirects (HTTP {status}), which is not followed. Set the variable to the final URL")
    if status in _TEMPORARY:
        raise _TemporaryFailure(f"it returned HTTP {status}")
    raise NotDelivered(f"it returned HTTP {status}")


def deliver(
    deliveries: Mapping[str, Callable[[], None]],
    limit_seconds: float,
    hosts: Mapping[str, str] | None = None,
    *,
    grace_seconds: float | None = None,
) -> dict[str, str]:
    """Make all deliveries at the same time, and wait for them up to the limit.

    A server that sends one byte at a time never exceeds the timeout of a request, so each delivery has a thread that
    can be abandoned. It is a daemon thread, which does not keep the process from exiting.

    Args:
        deliveries: by the name of the channel.
        limit_seconds: the time limit that the deliveries were given.
        hosts: the hosts of the channels, as far as they may be named.
        grace_seconds: how much longer to wait for them; `GRACE_SECONDS` by default.

    Returns:
        The reason for each delivery that failed.
    """
    problems: dict[str, str] = {}

    def run(name: str, delivery: Callable[[], None]) -> None:
        try:
            delivery()
        except NotDelivered as error:
            problems[name] = str(error)
        except Exception as error:  # noqa: BLE001  the message of a library's exception may contain the URL
            problems[name] = f"unexpected {type(error).__name__}"

    grace = GRACE_SECONDS if grace_seconds is None else grace_seconds
    deadline = time.monotonic() + limit_seconds + grace
    threads = {
        name: threading.Thread(target=run, args=(name, delivery), name=f"delivery to {name}", daemon=True)
        for name, delivery in deliveries.items()
    }
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join(max(deadline - time.monotonic(), 0))
    known = hosts or {}
    for name, thread in threads.items():
        if thread.is_alive():
            host = f" from '{known[name]}'" if name in known else ""
            problems[name] = f"no answer{host} within {limit_seconds:g} s"
    return problems
