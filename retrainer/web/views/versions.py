"""The list of versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.web.rendering import Page
from retrainer.web.specs import page

if TYPE_CHECKING:
    from retrainer.web.site import Visit

PER_PAGE = 50


def versions(visit: Visit) -> Page:
    """Return the page that lists versions, newest first."""
    found = visit.project.registry.list_versions(limit=PER_PAGE)
    return Page("versions.html", "Versions", {"versions": found}, "/versions")


ROUTES = [page("/versions", versions, work="look", cached="always", parameters=("type", "page"))]
