"""Where the units of a fleet run: in processes of this machine, or on a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from retrainer.fleet.units import Outcome, Unit, WorkerSpec


@dataclass(frozen=True)
class WorkerLost:
    """A worker ended before it handed back the outcome of its unit.

    Attributes:
        reason: how it ended, such as `its process 4711 ended with signal 9`.
        pid: its process, if known.
    """

    reason: str
    pid: int | None = None


class Backend(Protocol):
    """Runs units in workers."""

    def run(
        self, spec: WorkerSpec, next_unit: Callable[[], Unit | None]
    ) -> Generator[tuple[Unit, Outcome | WorkerLost], None, None]:
        """Run units with `run_unit` until there are none left; yield each with its outcome, as it ends.

        A worker that is lost takes no other one along. When the generator is closed, it interrupts the units that are
        running, so that their runs are closed as failed.

        Args:
            spec: what all units share.
            next_unit: returns the next unit for a free worker; None if there is none for now. It is asked again after
                each outcome, since a lost unit may be tried again.
        """
        ...
