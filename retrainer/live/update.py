"""Bring the live scores of a model type up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.tables import LiveComparison
    from retrainer.runtime import Runtime


def update_live(project: Project, runtime: Runtime, model_type: ModelTypeName, now: datetime) -> list[LiveComparison]:
    """Score the new live posts up to a time with the fit in production, and return its comparisons as of that time.

    Each comparison is with one of: the naive forecast, the version that a rollback would return to, the challenger of
    the running A/B test. One of which a side cannot be loaded is logged and left out.

    Returns:
        The comparisons, `naive` first; none without a production version. They are not those of the database if `now`
        is before their `through`: then `state`, `through` and `num_scored` are as of `now`.

    Raises:
        DatabaseError, PostsError: the database or the posts cannot be read.
    """
    raise NotImplementedError
