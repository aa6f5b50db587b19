"""The list of versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.web.rendering import Page
from retrainer.web.specs import page
from retrainer.web.views.lists import PER_PAGE, chosen_type, count_pages, page_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion
    from retrainer.registry.versions import LatestScore
    from retrainer.web.site import Visit


@dataclass(frozen=True)
class VersionList:
    """A page of the versions of a stream, newest first.

    Attributes:
        scores: of their latest evaluations, by version.
        total: how many versions there are.
    """

    versions: Sequence[ModelVersion]
    scores: Mapping[str, LatestScore]
    total: int
    page: int
    pages: int
    model_type: ModelTypeName | None


def gather_versions(project: Project, query: Mapping[str, str]) -> VersionList:
    """Gather what the list of versions shows.

    Args:
        query: the parameters `type` and `page` of the address.

    Raises:
        UsageError: one is invalid.
    """
    registry, model_type, number = project.registry, chosen_type(query), page_number(query)
    found = registry.list_versions(model_type, PER_PAGE, offset=(number - 1) * PER_PAGE)
    scores = registry.latest_scores([version.version_id for version in found])
    total = registry.count_versions(model_type)
    return VersionList(found, scores, total, number, count_pages(total), model_type)


def versions(visit: Visit) -> Page:
    """Return the page that lists versions, newest first."""
    found = gather_versions(visit.project, visit.query)
    return Page("versions.html", "Versions", {"list": found}, "/versions")


ROUTES = [page("/versions", versions, work="look", cached="always", parameters=("type", "page"))]
