"""Threads for blocking work, a few for each kind of it, so that no kind of work holds up another."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from retrainer.errors import RequestTimeout, ServerBusy

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")
Work = Literal["look", "change", "inspect", "forecast"]

# The kinds are the labels of the metric `retrainer_stuck_threads`. Together they use no more connections than the
# database engine allows: five, and ten more under load.
THREADS: dict[Work, int] = {"look": 6, "change": 3, "inspect": 2, "forecast": 2}
QUERY_SECONDS = 10.0
CHANGE_SECONDS = 60.0  # longer than a change waits for another one to be committed

_DATABASE_HINT = "Check whether the database answers. The request may still be carried out"
_ALGORITHM_HINT = "`retrainer serve --answer-seconds` allows more. The algorithm continues until it returns"
_BUSY_HINT = "Try again later. Threads that /metrics counts as stuck are freed only by a restart of the server"


class Threads:
    """The threads of one server.

    A call may never return, be it to an algorithm or to a database that does not answer. Its request is answered all
    the same: with RequestTimeout if the call takes too long (it keeps its thread until it returns), with ServerBusy if
    no thread became free (the call is not started). Every kind of work raises these two.

    Args:
        answer_seconds: the time limit for work that asks an algorithm, including the wait for a thread.
    """

    def __init__(self, answer_seconds: float) -> None:
        self._pools: dict[Work, _Pool] = {
            "look": _Pool("look", QUERY_SECONDS, _DATABASE_HINT),
            "change": _Pool("change", CHANGE_SECONDS, _DATABASE_HINT),
            "inspect": _Pool("inspect", answer_seconds, _ALGORITHM_HINT),
            "forecast": _Pool("forecast", answer_seconds, _ALGORITHM_HINT),
        }

    async def run(self, work: Work, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call in a thread.

        Args:
            work: `look` for a query of the database, `change` for a change of it, `inspect` for what may load a
                version, `forecast` for what may make forecasts.
            call: the call, with its arguments.
        """
        return await self._pools[work].run(partial(call, *args, **kwargs))

    def count_stuck(self, work: Work) -> int:
        """Return the number of threads in calls that were given up."""
        return self._pools[work].stuck

    def require_free(self) -> None:
        """Check that every kind of work can be done.

        Raises:
            ServerBusy: all threads for one kind of work are stuck.
        """
        for work, pool in self._pools.items():
            if pool.stuck >= THREADS[work]:
                raise ServerBusy(f"all threads for '{work}' are stuck", hint=_BUSY_HINT)


class _Pool:
    """The threads for one kind of work. A call cannot be stopped, but it can be given up."""

    def __init__(self, work: Work, seconds: float, hint: str) -> None:
        self._seconds = seconds
        self._hint = hint
        self._executor = ThreadPoolExecutor(THREADS[work], thread_name_prefix=work)
        self._given_up: set[Future[Any]] = set()

    @property
    def stuck(self) -> int:
        return len(self._given_up)

    async def run(self, call: Callable[[], T]) -> T:
        """Wait for a thread and for the result of the call."""
        future = self._executor.submit(call)
        try:
            async with asyncio.timeout(self._seconds) as limit:
                return await asyncio.wrap_future(future)
        except TimeoutError:
            if not limit.expired():
                raise  # of the call itself
        # The timeout has cancelled the call, unless a thread has begun it.
        if future.cancelled():
            raise ServerBusy(f"no thread became free within {self._seconds:g} s", hint=_BUSY_HINT)
        self._given_up.add(future)
        future.add_done_callback(self._given_up.discard)
        raise RequestTimeout(f"no answer within {self._seconds:g} s", hint=self._hint)
