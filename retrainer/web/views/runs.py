"""The list of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.errors import UsageError, invalid_value
from retrainer.registry.runs import RunFilter
from retrainer.web.rendering import Page
from retrainer.web.specs import page
from retrainer.web.views.lists import PER_PAGE, chosen_type, count_pages, page_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.tables import TrainingRun
    from retrainer.web.site import Visit

RESULTS = {
    "promoted": RunFilter(promoted=True),
    "not_promoted": RunFilter(status="completed", promoted=False),
    "failed": RunFilter(status="failed"),
    "running": RunFilter(status="running"),
}


@dataclass(frozen=True)
class RunList:
    """A page of the runs of a stream, newest first.

    Attributes:
        total: how many runs match.
        result: only those with this outcome; None for all.
    """

    runs: Sequence[TrainingRun]
    total: int
    page: int
    pages: int
    model_type: ModelTypeName | None
    result: str | None


def gather_runs(project: Project, query: Mapping[str, str]) -> RunList:
    """Gather what the list of runs shows.

    Args:
        query: the parameters `type`, `result` and `page` of the address.

    Raises:
        UsageError: one is invalid.
    """
    model_type, number, result = chosen_type(query), page_number(query), query.get("result")
    if result is not None and result not in RESULTS:
        raise UsageError(invalid_value("result", result, f"choose {', '.join(RESULTS)}"))
    wanted = RunFilter() if result is None else RESULTS[result]
    total = project.registry.count_runs(model_type, wanted)
    wanted = RunFilter(status=wanted.status, promoted=wanted.promoted, offset=(number - 1) * PER_PAGE)
    runs = project.registry.list_runs(model_type, PER_PAGE, wanted)
    return RunList(runs, total, number, count_pages(total), model_type, result)


def runs(visit: Visit) -> Page:
    """Return the page that lists runs, newest first."""
    found = gather_runs(visit.project, visit.query)
    return Page("runs.html", "Runs", {"list": found, "results": list(RESULTS)}, "/runs")


ROUTES = [page("/runs", runs, work="look", cached="without runs", parameters=("type", "result", "page"))]
