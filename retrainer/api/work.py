"""Where blocking work is done: in threads, a few for each kind of it, so that no kind keeps another from its turn."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

from retrainer.errors import AnswerTookTooLong, ServerBusy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

P = ParamSpec("P")
T = TypeVar("T")

# Together they use no more connections than the database engine gives (five, and ten more when they are busy).
LOOKS, INSPECTIONS, CHANGES, FORECASTS = 6, 2, 3, 2


class Work:
    """The threads of one server.

    Args:
        seconds: how long an algorithm may take for an answer; so long, too, a request waits for its turn to ask one.
    """

    def __init__(self, seconds: float) -> None:
        self._looks = CapacityLimiter(LOOKS)
        self._changes = CapacityLimiter(CHANGES)
        self._asking = {"inspect": _Asking(INSPECTIONS, seconds), "forecast": _Asking(FORECASTS, seconds)}

    async def look(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what takes a few milliseconds: a question to the database."""
        return await to_thread.run_sync(partial(call, *args, **kwargs), limiter=self._looks)

    async def change(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what changes something."""
        return await to_thread.run_sync(partial(call, *args, **kwargs), limiter=self._changes)

    async def inspect(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what may have to read a version's files, and ask its algorithm about them.

        Raises:
            AnswerTookTooLong: it goes on for longer than it may. It keeps its thread until it comes back.
            ServerBusy: no thread became free for so long. It will not be begun.
        """
        return await self._asking["inspect"].run(partial(call, *args, **kwargs))

    async def forecast(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what takes seconds of computing: load an algorithm and a model, make forecasts.

        Raises:
            AnswerTookTooLong, ServerBusy: as in `inspect`.
        """
        return await self._asking["forecast"].run(partial(call, *args, **kwargs))

    def stuck(self) -> Mapping[str, int]:
        """Return, by the kind of work, how many threads are taken by an algorithm that was given up."""
        return {kind: asking.stuck for kind, asking in self._asking.items()}

    def require_threads(self) -> None:
        """Check that algorithms can be asked.

        Raises:
            ServerBusy: all threads of a kind of work are stuck.
        """
        for kind, asking in self._asking.items():
            if asking.is_stuck:
                raise ServerBusy(
                    f"all threads of '{kind}' wait for an algorithm that does not come back", hint=_RESTART
                )

    def close(self) -> None:
        """Ask no algorithm any more, and let the threads go that wait for none."""
        for asking in self._asking.values():
            asking.close()


class _Asking:
    """Threads in which algorithms are asked. What they do cannot be ended from outside, but it can be given up."""

    def __init__(self, threads: int, seconds: float) -> None:
        self._threads = threads
        self._seconds = seconds
        self._executor = ThreadPoolExecutor(threads)
        self._given_up: set[Future[Any]] = set()

    async def run(self, call: Callable[[], T]) -> T:
        """Wait for a thread, then for what the call returns."""
        begun, loop = asyncio.Event(), asyncio.get_running_loop()

        def begin() -> T:
            loop.call_soon_threadsafe(begun.set)
            return call()

        future = self._executor.submit(copy_context().run, begin)  # the observers are in the context
        answer = asyncio.wrap_future(future)
        try:
            await self._turn_of(future, begun)
            await asyncio.wait([answer], timeout=self._seconds)
            if answer.done():
                return answer.result()
            self._given_up.add(future)
            future.add_done_callback(self._given_up.discard)
            raise AnswerTookTooLong(f"there was no answer after {self._seconds:g} s", hint=_ALLOW_MORE)
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
        return self.stuck >= self._threads

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


_ALLOW_MORE = "`retrainer serve --answer-seconds` allows more. The algorithm goes on until it comes back"
_RESTART = "Try again later; what /metrics counts as stuck only a restart of the server ends"
