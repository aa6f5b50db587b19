"""The first page: the list of streams or, of a project with one stream, its overview."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from retrainer.errors import UsageError, did_you_mean, invalid_value
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.overview import SORT_KEYS, OverviewFilter, list_streams
from retrainer.streams_status import get_streams_status
from retrainer.web.rendering import Page
from retrainer.web.specs import page
from retrainer.web.views.lists import PER_PAGE, count_pages, page_number
from retrainer.web.views.overview import overview

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from retrainer.overview import SortKey, StreamOverview
    from retrainer.project import Project
    from retrainer.streams_status import StreamsStatus
    from retrainer.web.site import Visit

Choice = TypeVar("Choice", bound=str)
SHOWN_PROBLEMS = 5
SHOWN_TYPES = MODEL_TYPE_NAMES
SORTS: dict[SortKey, str] = {
    "name": "Name",
    "posts": "Most posts",
    "newest": "Newest post",
    "score": "Lowest score",
    "skill": "Lowest skill",
    "failure": "Latest failure",
}
FILTERS = {
    "due": ("Due", OverviewFilter(due=True)),
    "held": ("On hold", OverviewFilter(held=True)),
    "failed": ("Last run failed", OverviewFilter(failed=True)),
    "not_live": ("Nothing live", OverviewFilter(not_live=True)),
}


@dataclass(frozen=True)
class StreamList:
    """The streams of a project.

    Attributes:
        status: numbers of all streams, and what is wrong.
        streams: those of the page.
        total: how many match.
    """

    status: StreamsStatus
    streams: Sequence[StreamOverview]
    total: int
    page: int
    pages: int
    sort: str
    only: str
    search: str


def gather_streams(project: Project, now: datetime, query: Mapping[str, str]) -> StreamList:
    """Gather what the list of streams shows.

    Args:
        query: the parameters `sort`, `only`, `search` and `page` of the address.

    Raises:
        UsageError: one is invalid.
    """
    sort = _choose("sort", query.get("sort", "name"), SORT_KEYS)
    only = _choose("only", query.get("only", ""), ("", *FILTERS))
    search, number = query.get("search", ""), page_number(query)
    names = None
    if search:
        names = [name for name in project.list_streams() if search.casefold() in name.casefold()]
    wanted = FILTERS[only][1] if only else OverviewFilter()
    offset = (number - 1) * PER_PAGE
    streams, total = list_streams(project, now, names, wanted, sort=sort, limit=PER_PAGE, offset=offset)
    status = get_streams_status(project, now, None)
    return StreamList(status, streams, total, number, count_pages(total), sort, only, search)


def _choose(name: str, value: str, known: Sequence[Choice]) -> Choice:
    for one in known:
        if one == value:
            return one
    hint = did_you_mean(value, known) or f"Choose {', '.join(filter(None, known))}"
    raise UsageError(invalid_value(name, value, "unknown"), hint=hint)


def first_page(visit: Visit) -> Page:
    """Return the list of streams or, if there is only one, its overview."""
    project = visit.site.project
    if len(project.list_streams()) == 1 and not visit.query:
        return overview(visit)
    found = gather_streams(project, visit.now, visit.query)
    shown = {"list": found, "sorts": SORTS, "filters": FILTERS, "types": SHOWN_TYPES, "max_problems": SHOWN_PROBLEMS}
    return Page("streams.html", "Streams", shown, "/")


ROUTES = [page("/", first_page, about="project", parameters=("sort", "only", "search", "page"))]
