"""The loop that hands out work to a cluster.

It uses the engines' own calls. With joblib's backends, Dask runs the task of a lost worker again without telling, up to
three times, and then the whole call fails. Fugue hands out parts of a table, of which all are done or none.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

from retrainer.errors import RetrainerError, UsageError
from retrainer.parallel.child import Answer, WorkerLost

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

POLL_SECONDS = 1.0  # between two looks at which workers there are
CONNECT_SECONDS = 5.0
WORKERS_SECONDS = 30.0  # to wait for a worker when there is none

Handle = TypeVar("Handle")
T = TypeVar("T")


class Cluster(ABC, Generic[Handle]):
    """A connection to a cluster.

    Attributes:
        name: of the engine, as in the extra that installs it.
        address: as the user gave it.
        hint: how a worker is started.
        queue: how many units a worker should have for each that it can run at a time; more than one if handing one out
            takes so long that a worker would wait.
    """

    name: str
    queue: int = 1
    hint: str

    def __init__(self, address: str) -> None:
        self.address = address

    def run(
        self,
        function: Callable[[T], Any],
        next_unit: Callable[[], T | None],
        *,
        queue: int = 1,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> Generator[tuple[T, Any], None, None]:
        """Call a function for each unit in a worker; yield the unit with the result as it ends.

        The result is `WorkerLost` if its worker was lost, and `NotStarted` if it was withdrawn.

        Function, units and results are pickled, so they hold no secrets, and the workers need the same release. When
        the generator is closed, the calls that are running are interrupted.

        Args:
            function: of a module, perhaps with arguments bound by `partial`.
            next_unit: returns the next unit for a free worker; None if there is none for now. It is asked again after
                each result.
            queue: how many units to hand to a worker for each that it can run at a time.
            is_stopping: whether to withdraw the units that are waiting in a worker.

        Raises:
            RetrainerError: the scheduler is gone, or there are no workers.
        """
        token = uuid4().hex
        busy: dict[Handle, T] = {}
        deadline = time.monotonic() + WORKERS_SECONDS
        is_withdrawn = queue == 1
        try:
            while True:
                if not is_withdrawn and is_stopping():
                    is_withdrawn = True
                    self._withdraw(token)
                while self._has_room(queue):
                    deadline = time.monotonic() + WORKERS_SECONDS
                    unit = next_unit()
                    if unit is None:
                        if not busy:
                            return
                        break
                    busy[self._submit(token, function, unit)] = unit
                if not busy and time.monotonic() > deadline:
                    raise RetrainerError(f"the cluster at '{self.address}' has no workers", hint=self.hint)
                for handle, answer in self._completed(list(busy)):
                    unit = busy.pop(handle)
                    for record in answer.records:
                        logging.getLogger(record.name).handle(record)
                    yield unit, answer.result
        finally:
            if busy:
                self._interrupt(token, list(busy))

    @abstractmethod
    def close(self) -> None:
        """Close the connection; the cluster goes on."""

    @abstractmethod
    def _has_room(self, queue: int) -> bool:
        """Whether a worker can take another unit."""

    @abstractmethod
    def _submit(self, token: str, function: Callable[[T], Any], unit: T) -> Handle:
        """Hand a unit to a worker."""

    @abstractmethod
    def _completed(self, busy: list[Handle]) -> Iterator[tuple[Handle, Answer]]:
        """Wait a moment for calls to end; yield those that did."""

    def _withdraw(self, token: str) -> None:
        """Let the calls that wait in a worker return `NotStarted`."""

    @abstractmethod
    def _interrupt(self, token: str, busy: list[Handle]) -> None:
        """Interrupt the calls that are running, and wait a while for their end."""

    def _gone(self) -> RetrainerError:
        return RetrainerError(
            f"the {self.name.capitalize()} cluster at '{self.address}' is gone",
            hint="Start it, and run the command again",
        )


def unreachable(name: str, address: str, error: object) -> RetrainerError:
    """Return the error of a cluster that does not answer."""
    return RetrainerError(
        f"cannot connect to the {name.capitalize()} cluster at '{address}': {error}",
        hint="Check the address, and that the cluster runs",
    )


def require_extra(name: str, module: str) -> None:
    """Check that an engine is installed.

    Raises:
        UsageError: it is not.
    """
    if find_spec(module) is None:
        raise UsageError(
            f"--backend {name} needs a library that is not installed: {module}",
            hint=f"Run: pip install 'retrainer[{name}]'",
        )


def lost(reason: str) -> Answer:
    """Return the answer of a worker that was lost."""
    return Answer(WorkerLost(reason), [])
