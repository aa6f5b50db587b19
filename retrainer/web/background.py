"""Results that take longer than a page may: they are computed in the background, and cached."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Event, Lock, Semaphore, Thread
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from retrainer.logs import WITH_TRACEBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")
log = logging.getLogger(__name__)

WAIT_SECONDS = 0.15  # for a result that is not there yet
THREADS = 2
MAX_RESULTS = 1000
MAX_WAITING = 100  # computations that may wait for a thread


@dataclass
class _Entry(Generic[T]):
    """A result, or one to come.

    Attributes:
        at: when the computation began, by the monotonic clock; the result may be as old.
        done: set when there is a result.
    """

    at: float
    done: Event = field(default_factory=Event)
    result: T | None = None


class Background:
    """Computes results in threads of its own, and keeps the latest ones.

    The threads end with the process, since a computation can be one of a plugin that never returns.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._free = Semaphore(THREADS)
        self._results: OrderedDict[Hashable, _Entry[Any]] = OrderedDict()
        self._running: dict[Hashable, _Entry[Any]] = {}

    def get(
        self, key: Hashable, compute: Callable[[], T], *, max_age: float | None = None, wait: float = WAIT_SECONDS
    ) -> T | None:
        """Return the result under a key; None if it is not there yet.

        Args:
            key: what the result depends on.
            compute: returns it; it must not raise. A result of None is not cached.
            max_age: in seconds; an older result is returned only if there is no newer one yet.
            wait: how long to wait for the result, in seconds.
        """
        with self._lock:
            cached = self._results.get(key)
            if cached is not None:
                self._results.move_to_end(key)
                if max_age is None or time.monotonic() - cached.at < max_age:
                    return cached.result
            entry = self._running.get(key)
            if entry is None:
                if len(self._running) >= MAX_WAITING:
                    return cached.result if cached is not None else None
                entry = self._running[key] = _Entry(time.monotonic())
                Thread(target=self._compute, args=(key, entry, compute), name="background", daemon=True).start()
        entry.done.wait(wait)
        if entry.result is not None or cached is None:
            return entry.result
        return cached.result

    def forget(self, key: Hashable) -> None:
        """Compute a result again when it is asked for: it was an error, which may have passed."""
        with self._lock:
            self._results.pop(key, None)

    def _compute(self, key: Hashable, entry: _Entry[T], compute: Callable[[], T]) -> None:
        try:
            with self._free:
                entry.at = time.monotonic()
                entry.result = compute()
        except Exception as error:  # a thread has nobody to raise it to
            log.exception("Unexpected %s", type(error).__name__, extra={WITH_TRACEBACK: True})
        finally:
            with self._lock:
                del self._running[key]
                if entry.result is not None:
                    self._results[key] = entry
                    self._results.move_to_end(key)
                    if len(self._results) > MAX_RESULTS:
                        self._results.popitem(last=False)
            entry.done.set()
