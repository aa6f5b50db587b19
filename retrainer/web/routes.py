"""All routes of the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.web import actions, docs, login, run_events, static_routes
from retrainer.web.pages import route_of
from retrainer.web.specs import PageSpec
from retrainer.web.views import compare, live, overview, posts, replay, run, runs, streams, version, versions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import Route

# A new page: a module of `views` with `ROUTES`, and its name here. What needs more than a view is a Route.
_ROUTES: list[Sequence[PageSpec | Route]] = [
    static_routes.ROUTES,
    login.ROUTES,
    actions.ROUTES,
    docs.ROUTES,
    streams.ROUTES,
    overview.ROUTES,
    runs.ROUTES,
    compare.ROUTES,
    live.ROUTES,
    posts.ROUTES,
    replay.ROUTES,
    run.ROUTES,
    run_events.ROUTES,
    version.ROUTES,
    versions.ROUTES,
]
ROUTES: list[Route] = [route_of(one) if isinstance(one, PageSpec) else one for routes in _ROUTES for one in routes]
_FIRST_PARTS = frozenset(route.path.split("/")[1] for route in ROUTES)  # the API has others


def is_page(path: str) -> bool:
    """Whether an address belongs to the pages rather than to the REST API."""
    return path.split("/")[1:2] != [] and path.split("/")[1] in _FIRST_PARTS
