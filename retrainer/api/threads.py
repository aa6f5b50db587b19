"""Where blocking work is done: in threads, a few for each kind of it, so that no kind keeps another from its turn."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from retrainer.errors import RequestTimeout, ServerBusy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

P = ParamSpec("P")
T = TypeVar("T")

# Together they use no more connections than the database engine gives (five, and ten more when they are busy).
LOOKS, INSPECTIONS, CHANGES, FORECASTS = 6, 2, 3, 2
LOOK_SECONDS = 10.0
CHANGE_SECONDS = 60.0  # more than a change waits for another one to be committed


class Work:
    """The threads of one server.

    What is waited for may not come back: an algorithm, or a database that takes a question and does not answer. Then
    whoever asked is answered all the same: RequestTimeout where it goes on for longer than it may (it keeps its
    thread until it comes back), ServerBusy where no thread became free for so long (it will not be begun). Every kind
    of work raises these two.

    Args:
        seconds: how long an algorithm may take for an answer; so long, too, a request waits for its turn to ask one.
    """

    def __init__(self, seconds: float) -> None:
        self._kinds = {
            "look": _Threads("look", LOOKS, LOOK_SECONDS, _DATABASE),
            "change": _Threads("change", CHANGES, CHANGE_SECONDS, _DATABASE),
            "inspect": _Threads("inspect", INSPECTIONS, seconds, _ALGORITHM),
            "forecast": _Threads("forecast", FORECASTS, seconds, _ALGORITHM),
        }

    async def look(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what takes a few milliseconds: a question to the database."""
        return await self._kinds["look"].run(partial(call, *args, **kwargs))

    async def change(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what changes something."""
        return await self._kinds["change"].run(partial(call, *args, **kwargs))

    async def inspect(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what may have to read a version's files, and ask its algorithm about them."""
        return await self._kinds["inspect"].run(partial(call, *args, **kwargs))

    async def forecast(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what takes seconds of computing: load an algorithm and a model, make forecasts."""
        return await self._kinds["forecast"].run(partial(call, *args, **kwargs))

    def stuck(self) -> Mapping[str, int]:
        """Return, by the kind of work, how many threads are taken by what was given up."""
        return {kind: threads.stuck for kind, threads in self._kinds.items()}

    def require_threads(self) -> None:
        """Check that every kind of work can be done.

        Raises:
            ServerBusy: all threads of a kind are stuck.
        """
        for kind, threads in self._kinds.items():
            if threads.is_stuck:
                raise ServerBusy(f"all threads of '{kind}' wait for what does not come back", hint=_RESTART)

    def close(self) -> None:
        """Begin nothing any more, and let the threads go that wait for nothing."""
        for threads in self._kinds.values():
            threads.close()


class _Threads:
    """Threads of one kind of work. What they do cannot be ended from outside, but it can be given up."""

    def __init__(self, kind: str, count: int, seconds: float, hint: str) -> None:
        self._count = count
        self._seconds = seconds
        self._hint = hint
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=kind)
        self._given_up: set[Future[Any]] = set()

    async def run(self, call: Callable[[], T]) -> T:
        """Wait for a thread, then for what the call returns."""
        begun, loop = asyncio.Event(), asyncio.get_running_loop()

        def begin() -> T:
            loop.call_soon_threadsafe(begun.set)
            return call()

        future = self._executor.submit(begin)
        answer = asyncio.wrap_future(future)
        try:
            await self._turn_of(future, begun)
            await asyncio.wait([answer], timeout=self._seconds)
            if answer.done():
                return answer.result()
            self._given_up.add(future)
            future.add_done_callback(self._given_up.discard)
            raise RequestTimeout(f"there was no answer after {self._seconds:g} s", hint=self._hint)
        finally:
            future.cancel()  # where it has not begun, it never will
            answer.cancel()  # nobody asks any more what came of it

    async def _turn_of(self, future: Future[Any], begun: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await begun.wait()
        except TimeoutError:
            if future.cancel():
                raise ServerBusy(f"no thread became free within {self._seconds:g} s", hint=_RESTART) from None

    @property
    def stuck(self) -> int:
        return len(self._given_up)

    @property
    def is_stuck(self) -> bool:
        return self.stuck >= self._count

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


_ALGORITHM = "`retrainer serve --answer-seconds` allows more. The algorithm goes on until it comes back"
_DATABASE = "See whether the database answers. What was asked for may still come to its end"
_RESTART = "Try again later; what /metrics counts as stuck only a restart of the server ends"
