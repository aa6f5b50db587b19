"""Where blocking work is done: in threads, a few for each kind of it, so that no kind keeps another from its turn."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

# Together they use no more connections than the database engine gives (five, and ten more when they are busy).
LOOKS, INSPECTIONS, CHANGES, FORECASTS = 6, 2, 3, 2


class Work:
    """The threads of one server."""

    def __init__(self) -> None:
        self._looks = CapacityLimiter(LOOKS)
        self._inspections = CapacityLimiter(INSPECTIONS)
        self._changes = CapacityLimiter(CHANGES)
        self._forecasts = CapacityLimiter(FORECASTS)

    async def look(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what takes a few milliseconds: a question to the database."""
        return await to_thread.run_sync(partial(call, *args, **kwargs), limiter=self._looks)

    async def inspect(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what may have to read a version's files."""
        return await to_thread.run_sync(partial(call, *args, **kwargs), limiter=self._inspections)

    async def change(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what changes something."""
        return await to_thread.run_sync(partial(call, *args, **kwargs), limiter=self._changes)

    async def forecast(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what takes seconds of computing: load a model, make forecasts."""
        return await to_thread.run_sync(partial(call, *args, **kwargs), limiter=self._forecasts)
