"""Which streams and model types a fleet trains: decided for all of them in a few queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.errors import RetrainerError, UsageError
from retrainer.fleet.units import Unit
from retrainer.schedule.due import due_of_streams
from retrainer.streams import ModelKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.runtime import Runtime


@dataclass(frozen=True)
class Selection:
    """The units of a fleet.

    Attributes:
        units: those that train, and after them those that only review.
        streams: the number of streams that were considered.
        not_due: the number of models that are not due.
    """

    units: list[Unit]
    streams: int
    not_due: int = 0

    @property
    def runs(self) -> list[Unit]:
        """The units that train."""
        return [unit for unit in self.units if not unit.only_reviews]


def select_units(
    project: Project,
    streams: Sequence[str],
    model_types: Sequence[ModelTypeName],
    now: datetime,
    *,
    if_due: bool,
    as_of: datetime | None = None,
) -> Selection:
    """Select the models to train: of these streams and types, those that are enabled and, if wanted, due.

    One of the others is reviewed if it may be rolled back, or an A/B test of it is running.

    Args:
        as_of: the past time that the runs are for; None for now.
    """
    last = project.registry.across(None).last_completed_runs()
    due = due_of_streams(project, streams, model_types, now, last) if if_due else {}
    if as_of is not None:
        last = project.registry.across(None).last_completed_runs(as_of)
    tested = {test.model_key for test in project.registry.across(None).list_running_tests()}
    live = project.registry.across(None).production_algorithms()
    units: list[Unit] = []
    reviews: list[Unit] = []
    not_due = 0
    for stream, settings in project.settings.for_streams(streams).items():
        for model_type in model_types:
            key = ModelKey(stream, model_type)
            is_enabled = settings.retraining.is_enabled(model_type)
            if is_enabled and (not if_due or due[key].is_due):
                run = last.get(key)
                known = () if run is None else (run.run_id, run.started_at)
                units.append(Unit(stream, model_type, *known))
                continue
            not_due += is_enabled
            if key in live and (settings.live.rollback or key in tested):
                reviews.append(Unit(stream, model_type, only_reviews=True))
    return Selection([*units, *reviews], len(streams), not_due)


def require_max_cost(
    project: Project, runtime: Runtime, units: Iterable[Unit], algorithm: str | None, max_cost: float | None
) -> bool:
    """Return whether any unit has a paid algorithm, its configured or its production one.

    Raises:
        UsageError: one has, and there is no limit; or the algorithm given does not forecast one of the types.
        UnknownName, AlgorithmError: the algorithm given is not installed or is broken.
    """
    production = project.registry.across(None).production_algorithms()
    names: dict[tuple[str, ModelTypeName], Unit] = {}
    for unit in units:
        settings = project.settings.for_stream(unit.stream)
        configured = settings.model(unit.model_type).algorithm if algorithm is None else algorithm
        for name in (configured, production.get(ModelKey(unit.stream, unit.model_type))):
            if name is not None:
                names.setdefault((name, unit.model_type), unit)
    for (name, model_type), unit in names.items():
        try:
            paid = runtime.algorithms(name, model_type).description.paid
        except RetrainerError:
            if name == algorithm:
                raise
            continue  # its runs report it
        if paid and max_cost is None:
            raise UsageError(
                f"the {model_type} model of '{unit.stream}' uses the paid algorithm '{name}'",
                hint="Limit the total cost with --max-cost",
            )
        if paid:
            return True
    return False
