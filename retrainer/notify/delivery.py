"""Sending: tried again where that may help, and never longer than told. No error says what the URL is."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx2

ONE_TRY_SECONDS = 10
_OK = range(200, 300)
_REDIRECTS = range(300, 400)
_TEMPORARY = {408, 425, 429, *range(500, 600)}


class NotDelivered(Exception):
    """It could not be sent. Says why, without the URL."""


class _TryAgain(NotDelivered):
    """It may be possible in a moment."""


def post(url: str, content: bytes, headers: Mapping[str, str], limit_seconds: float, *, below: str = "") -> None:
    """POST to a URL; a redirection is not followed, since it may lead to another host.

    Args:
        limit_seconds: how long it may be tried.
        below: what is appended to the URL's path, such as `/start`.

    Raises:
        NotDelivered: it was not accepted.
    """
    import httpx2  # noqa: PLC0415  slow to import
    import tenacity  # noqa: PLC0415

    try:
        target = httpx2.URL(url)
        target = target.copy_with(path=target.path.rstrip("/") + below) if below else target
    except (httpx2.InvalidURL, TypeError, ValueError):
        raise NotDelivered("what the variable holds is no URL") from None
    again = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_TryAgain),
        stop=tenacity.stop_before_delay(limit_seconds),
        wait=tenacity.wait_exponential(multiplier=0.5, max=8),
        reraise=True,
    )
    with httpx2.Client(timeout=min(ONE_TRY_SECONDS, limit_seconds)) as client:
        again(_once, client, target, content, headers)


def _once(client: httpx2.Client, url: httpx2.URL, content: bytes, headers: Mapping[str, str]) -> None:
    import httpx2  # noqa: PLC0415

    try:
        with client.stream("POST", url, content=content, headers=dict(headers)) as response:  # the body is not read
            status = response.status_code
    except httpx2.UnsupportedProtocol:
        raise NotDelivered("what the variable holds is no http or https URL") from None
    except httpx2.TransportError as error:
        raise _TryAgain(f"no answer ({type(error).__name__})") from None
    if status in _OK:
        return
    if status in _REDIRECTS:
        raise NotDelivered(f"it redirects (HTTP {status}), which is not followed: give the URL that it leads to")
    if status in _TEMPORARY:
        raise _TryAgain(f"it answered HTTP {status}")
    raise NotDelivered(f"it answered HTTP {status}")


def deliver(jobs: Mapping[str, Callable[[], None]], limit_seconds: float) -> dict[str, str]:
    """Run all jobs side by side and wait for them, but not longer than the limit.

    A server may send a byte at a time and so keep any single wait short; a job that is late is left to itself.

    Returns:
        Why, for each job that failed.
    """
    problems: dict[str, str] = {}

    def run(name: str, job: Callable[[], None]) -> None:
        try:
            job()
        except NotDelivered as error:
            problems[name] = str(error)
        except Exception as error:  # noqa: BLE001  a library's own words might hold the URL
            problems[name] = f"an unexpected {type(error).__name__}"

    deadline = time.monotonic() + limit_seconds
    threads = {
        name: threading.Thread(target=run, args=(name, job), name=f"to {name}", daemon=True)
        for name, job in jobs.items()
    }
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join(max(deadline - time.monotonic(), 0))
    late = [name for name, thread in threads.items() if thread.is_alive()]
    return {**problems, **dict.fromkeys(late, f"no end after {limit_seconds:g} s")}
