"""All routes of the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.web import static_files
from retrainer.web.views import versions

if TYPE_CHECKING:
    from starlette.routing import Route

# A new page: a module of `views` with `ROUTES`, and its name here.
ROUTES: list[Route] = [route for module in (static_files, versions) for route in module.ROUTES]
_FIRST_PARTS = frozenset(route.path.split("/")[1] for route in ROUTES)  # the API has others


def is_page(path: str) -> bool:
    """Whether an address belongs to the pages rather than to the REST API."""
    return path.split("/")[1:2] != [] and path.split("/")[1] in _FIRST_PARTS
