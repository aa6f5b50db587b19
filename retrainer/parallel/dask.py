"""A Dask cluster."""

from __future__ import annotations

import logging
import time
import warnings
from collections import Counter
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from retrainer.parallel.child import END_SECONDS, Answer, call_in_child, interrupt_calls, withdraw_calls
from retrainer.parallel.cluster import CONNECT_SECONDS, POLL_SECONDS, Cluster, lost, require_extra, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from distributed import Client, Future

    T = TypeVar("T")

_WAIT_SECONDS = 0.1  # for a unit to end, before looking whether those that wait in a worker are still wanted
_GATHER_SECONDS = 10  # to fetch a small result from the worker that holds it


class DaskCluster(Cluster["Future"]):
    """A Dask cluster: each unit goes to one worker, as many at a time as it has threads.

    A unit is tied to its worker. So Dask does not run it again somewhere else when the worker is lost, of which nobody
    would learn: the caller decides.
    """

    name = "dask"
    queue = 2  # it takes about 60 ms to learn that a unit has ended and to hand out the next
    hint = "Start one with: dask worker ADDRESS --nthreads 1"

    def __init__(self, address: str, client: Client) -> None:
        super().__init__(address)
        self._client = client
        self._workers: Mapping[str, int] = {}
        self._looked_at = -POLL_SECONDS
        self._done: SimpleQueue[Future] = SimpleQueue()
        self._worker_of: dict[Future, str] = {}
        self._free: list[str] = []

    @classmethod
    def connect(cls, address: str) -> DaskCluster:
        """Connect to a scheduler.

        Raises:
            UsageError: Dask is not installed.
            RetrainerError: the scheduler does not answer.
        """
        require_extra(cls.name, "distributed")
        import distributed.comm  # noqa: PLC0415  slow to import, and an extra

        for name in [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # what matters is reported as an error
        warnings.filterwarnings("ignore", module="distributed")
        try:
            distributed.comm.resolve_address(address)  # a client with a wrong one does not end
            client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False, name="retrainer")
        except (OSError, ValueError) as error:
            raise unreachable(cls.name, address, error) from error
        return cls(address, client)

    def close(self) -> None:
        """Close the connection; the cluster goes on."""
        with suppress(OSError, TimeoutError):
            self._client.close(timeout=CONNECT_SECONDS)

    def _look(self) -> None:
        """Look which workers there are, if that is some time ago."""
        if time.monotonic() - self._looked_at < POLL_SECONDS:
            return
        try:
            self._workers = self._client.nthreads()
        except (OSError, RuntimeError, ValueError) as error:
            raise self._gone() from error
        self._looked_at = time.monotonic()

    def _room(self, queue: int) -> list[str]:
        self._look()
        load = Counter(self._worker_of.values())
        room = {worker: queue * threads - load[worker] for worker, threads in self._workers.items()}
        return sorted((worker for worker, free in room.items() if free > 0), key=lambda worker: load[worker])

    def _has_room(self, queue: int) -> bool:
        self._free = self._room(queue)
        return bool(self._free)

    def _submit(self, token: str, function: Callable[[T], Any], unit: T) -> Future:
        worker = self._free[0]  # if it has gone meanwhile, the unit is lost
        future = self._client.submit(
            call_in_child, token, function, unit, workers=[worker], allow_other_workers=False, pure=False
        )
        self._worker_of[future] = worker
        future.add_done_callback(self._done.put)
        return future

    def _completed(self, busy: list[Future]) -> Iterator[tuple[Future, Answer]]:
        with suppress(Empty):
            future = self._done.get(timeout=_WAIT_SECONDS)
            if future in self._worker_of:
                answer = self._answer(future)
                del self._worker_of[future]
                yield future, answer
        self._look()
        for future in busy:
            worker = self._worker_of.get(future)
            if worker is not None and worker not in self._workers:
                del self._worker_of[future]
                future.cancel(force=True)
                yield future, lost(f"the Dask worker '{worker}' is gone")

    def _answer(self, future: Future) -> Answer:
        if future.status == "cancelled":
            raise self._gone()
        worker = self._worker_of[future]
        try:
            answer: Answer = future.result(timeout=_GATHER_SECONDS)
        except (OSError, TimeoutError):
            return lost(f"the Dask worker '{worker}' is gone")
        except Exception as error:  # noqa: BLE001  whatever happened in the worker, such as a missing library
            return lost(f"the Dask worker '{worker}' failed: {type(error).__name__}: {error}")
        return answer

    def _withdraw(self, token: str) -> None:
        with suppress(OSError, TimeoutError, RuntimeError, ValueError):
            self._client.run(withdraw_calls, token, on_error="ignore")

    def _interrupt(self, token: str, busy: list[Future]) -> None:
        from distributed import wait  # noqa: PLC0415

        with suppress(OSError, TimeoutError, RuntimeError, ValueError):
            self._client.run(interrupt_calls, token, on_error="ignore")
            wait(busy, timeout=END_SECONDS)
