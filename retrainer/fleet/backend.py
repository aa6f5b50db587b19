"""Where the units of a fleet run: in processes of this machine, or on a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from retrainer.fleet.units import Outcome, Unit, WorkerSpec
    from retrainer.parallel.child import NotStarted, WorkerLost


class Backend(Protocol):
    """Runs units in workers."""

    def run(
        self, spec: WorkerSpec, next_unit: Callable[[], Unit | None], is_stopping: Callable[[], bool]
    ) -> Generator[tuple[Unit, Outcome | WorkerLost | NotStarted], None, None]:
        """Run units with `run_unit` until there are none left; yield each with its outcome, as it ends.

        A worker that is lost takes no other one along. When the generator is closed, it interrupts the units that are
        running, so that their runs are closed as failed.

        Args:
            spec: what all units share.
            next_unit: returns the next unit for a free worker; None if there is none for now. It is asked again after
                each outcome, since a lost unit may be tried again.
            is_stopping: whether units that wait in a worker should not begin: they are handed back as `NotStarted`.
        """
        ...
