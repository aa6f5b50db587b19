"""What each `train` does first for a model type: look at production on the posts that have come since."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from retrainer.errors import RetrainerError, wrap_unexpected
from retrainer.pipeline.timeout import time_limit

if TYPE_CHECKING:
    from datetime import datetime

    from retrainer.live.rollback import Review
    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)


def review(
    project: Project,
    runtime: Runtime,
    model_type: ModelTypeName,
    now: datetime,
    *,
    roll_back: bool = True,
) -> Review | None:
    """Score the new live posts, decide the running A/B test, and roll back by evidence.

    It never prevents training: what goes wrong is logged as a warning, and `retraining.max_run_minutes` ends it, too.

    Args:
        roll_back: whether to roll back; several streams are decided on together, see `retrainer.live.fleet`.

    Returns:
        What was decided; None without a production version, without `roll_back`, or if something went wrong.
    """
    try:
        production = project.registry.find_in_production(model_type)
        if production is None:
            return None
        from retrainer.live.ab_tests import decide_test  # noqa: PLC0415  slow to import, and needed only now
        from retrainer.live.rollback import review_production  # noqa: PLC0415
        from retrainer.live.update import update_live  # noqa: PLC0415

        minutes = project.settings.retraining.max_run_minutes
        with time_limit(minutes, lambda _: None, 0.0):  # what is left waits for the next time
            comparisons = update_live(project, runtime, model_type, now, production=production)
            if production.test is not None:
                decide_test(project, runtime, model_type, now)
            if not roll_back:
                return None
            return review_production(project, runtime, model_type, now, comparisons=comparisons)
    except Exception as error:
        problem = error if isinstance(error, RetrainerError) else wrap_unexpected(error)
        log.warning("Live scores of %s not updated: %s", model_type, problem)
        log.debug("Live scores of %s not updated", model_type, exc_info=True)
        return None
