"""The workers of a cluster; see `Backend`."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from retrainer.fleet.worker import run_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from retrainer.fleet.units import Outcome, Unit, WorkerSpec
    from retrainer.parallel.child import NotStarted, WorkerLost
    from retrainer.parallel.cluster import Cluster


class ClusterWorkers:
    """Runs units in the workers of a cluster; see `Backend`."""

    def __init__(self, cluster: Cluster[Any]) -> None:
        self._cluster = cluster

    def run(
        self, spec: WorkerSpec, next_unit: Callable[[], Unit | None], is_stopping: Callable[[], bool]
    ) -> Generator[tuple[Unit, Outcome | WorkerLost | NotStarted], None, None]:
        """Run units, as many at a time as the workers can."""

        def stamped() -> Unit | None:
            unit = next_unit()
            return unit and unit._replace(started_at=datetime.now(UTC))  # one clock for all workers

        results = self._cluster.run(
            partial(run_unit, spec), stamped, queue=self._cluster.queue, is_stopping=is_stopping
        )
        for unit, result in results:
            yield unit._replace(started_at=None), result
