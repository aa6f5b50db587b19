"""Forecasts of content that cost money: those that were made are scored, and none is made for that.

Only an A/B test pays for forecasts of its own, since both of its sides must forecast every post. It asks for a text
when the post has come, and tells only the posts before and the time of the post, as an evaluation does.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from retrainer.errors import AlgorithmError, CostLimitReached, RetrainerError
from retrainer.files import exclusive_lock
from retrainer.model_types.base import Origins
from retrainer.model_types.content import ContentForecast
from retrainer.posts.validation import shorten
from retrainer.registry.budgets import SharedBudget
from retrainer.registry.live_tables import LiveForecast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.algorithms.budget import Budget
    from retrainer.algorithms.model import TrainedModel
    from retrainer.project import Project
    from retrainer.registry.budgets import TestSide
    from retrainer.registry.registry import Registry
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)

MAX_FAILURES = 3  # of an A/B test in a row, after which it tries again with the next update


def served_forecasts(
    registry: Registry, fit: str, posts: pd.DataFrame, rows: NDArray[np.int64]
) -> list[ContentForecast | None]:
    """Return what a fit forecast of each post when it was asked, the latest if it was asked more than once.

    Such a forecast knew the posts up to the one before, and was made before the time of the post.

    Args:
        registry: that of the stream.
        fit: the fit, as in `LiveComparison`.
        posts: posts with a text, in order; only those at `rows` and right before matter.
        rows: (n,) the posts to forecast, all with a post before.

    Returns:
        (n) the forecasts; None for a post without one.
    """
    return _find(registry, fit, posts, rows, _is_served)


@dataclass(frozen=True)
class PaidSide:
    """A side of an A/B test whose forecasts cost money.

    Attributes:
        test_id: the test.
        side: which side of it.
        version_id: the version.
        fit: which fit of it, as in `LiveComparison`.
        model: the loaded fit; None to make no calls.
    """

    test_id: str
    side: TestSide
    version_id: str
    fit: str
    model: TrainedModel | None


def shadow_forecasts(
    project: Project,
    runtime: Runtime,
    sides: Sequence[PaidSide],
    posts: pd.DataFrame,
    rows: NDArray[np.int64],
    now: datetime,
) -> list[list[ContentForecast | None]]:
    """Return what the paid sides of an A/B test forecast of each post; make and keep the forecasts that are missing.

    Each call must fit in the limit of its side. One that fails is logged. The second side is not asked about a post
    for which the first one wrote no text, since it could not be scored.

    Args:
        project: the project, seen from the stream.
        sides: one or both sides.
        posts: posts with a text, in order; all that the fits may use.
        rows: (n,) the posts to forecast, in order, all with a post before.
        now: the time of the update, UTC.

    Returns:
        For each side, (m) the forecasts of the first m of these posts; None for a post without one. The others are left
        to the next update: no call was wanted, the last ones failed, or the next one could exceed a limit.
    """
    found = [_find(project.registry, side.fit, posts, rows, _is_shadow) for side in sides]
    missing = [index for index in range(len(rows)) if not _is_complete(found, index)]
    if missing and all(side.model for side in sides):
        before = _count(found)
        try:
            with _alone(project, sides[0].test_id):
                _make_missing(project, runtime, sides, posts, rows, now, found, missing)
        except TimeoutError:
            log.info("Another process is making the forecasts of the A/B test '%s'", sides[0].test_id)
        except RetrainerError as error:
            log.warning("The A/B test '%s' is making no paid calls: %s", sides[0].test_id, error)
        if made := _count(found) - before:
            log.info("Made %d forecasts for the A/B test '%s'", made, sides[0].test_id)
    count = max((index + 1 for index in range(len(rows)) if _is_complete(found, index)), default=0)
    return [forecasts[:count] for forecasts in found]


@contextmanager
def _alone(project: Project, test_id: str) -> Iterator[None]:
    """Keep other processes from making the calls of a test, which would be paid for twice.

    One that uses another project folder with the same database is not kept from it, but from exceeding the limit.

    Raises:
        TimeoutError: another process is making them.
    """
    path = project.answers_dir.parent / f"{test_id}.lock"
    with ExitStack() as stack:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            stack.enter_context(exclusive_lock(path, timeout=0))
        except TimeoutError:
            raise
        except OSError as error:  # the limit holds without the lock
            log.debug("Cannot lock '%s': %s", path, error.strerror)
        yield


def _make_missing(
    project: Project,
    runtime: Runtime,
    sides: Sequence[PaidSide],
    posts: pd.DataFrame,
    rows: NDArray[np.int64],
    now: datetime,
    found: list[list[ContentForecast | None]],
    missing: Sequence[int],
) -> None:
    """Make the missing forecasts post by post, and put them into `found`; until some posts in a row have failed.

    Raises:
        CostLimitReached: the next call could exceed a limit.
        RetrainerError: no call could succeed, or a forecast could not be kept; its answer is cached.
    """
    for side in sides:
        _model(side).algorithm.check_ready(_model(side).options)
    failures = 0
    with ExitStack() as stack:
        budgets = [stack.enter_context(_open_budget(project, runtime, side)) for side in sides]
        for index in missing:
            try:
                for side, budget, forecasts in zip(sides, budgets, found, strict=True):
                    if forecasts[index] is None:
                        forecasts[index] = _make(project, side, budget, posts, rows[index : index + 1], now)
                    if not _has_text(forecasts[index]):
                        break
                failures = 0
            except AlgorithmError as error:
                for budget in budgets:
                    if budget.exceeded:
                        raise CostLimitReached(budget.exceeded) from error
                post_id = shorten(str(posts["post_id"].iloc[rows[index]]))
                log.warning("The A/B test '%s' has no forecast of the post '%s': %s", sides[0].test_id, post_id, error)
                failures += 1
                if failures == MAX_FAILURES:
                    return


def _open_budget(project: Project, runtime: Runtime, side: PaidSide) -> AbstractContextManager[Budget]:
    """Open the budget of a side, within its limit and that of the fleet, if there is one."""
    if runtime.shared_budget is not None and runtime.shared_budget.budget_id is None:
        runtime = replace(runtime, shared_budget=None)  # none of its runs may make calls; the test has its own limit
    return runtime.open_budget(SharedBudget.of_test(project.registry.database, side.test_id, side.side))


def _make(
    project: Project, side: PaidSide, budget: Budget, posts: pd.DataFrame, row: NDArray[np.int64], now: datetime
) -> ContentForecast:
    """Make one forecast and keep it, unless another process has done so meanwhile.

    Raises:
        AlgorithmError: the call failed.
        DatabaseError: the forecast cannot be kept.
    """
    registry = project.registry
    (kept,) = _find(registry, side.fit, posts, row, _is_shadow)
    if kept is not None:
        return kept
    origins = Origins.before(posts, row, target_time_known=True)
    known = posts.iloc[: int(row[0])]
    forecast: ContentForecast
    (forecast,) = _model(side).predict(known, origins, budget)
    if forecast.outcome == "failed":
        raise AlgorithmError("the call failed")
    last, post = known.iloc[-1], posts.iloc[int(row[0])]
    registry.keep_forecast(
        LiveForecast(
            model_type="content",
            version_id=side.version_id,
            fit=side.fit,
            last_post_id=str(last["post_id"]),
            last_post_at=last["created_at"].to_pydatetime(),
            made_at=now,
            target_time=post["created_at"].to_pydatetime(),
            post_id=str(post["post_id"]),
            forecast=asdict(forecast),
        )
    )
    return forecast


def _model(side: PaidSide) -> TrainedModel:
    if side.model is None:
        raise ValueError(f"the model of the {side.side} side was not loaded")
    return side.model


def _is_complete(found: list[list[ContentForecast | None]], index: int) -> bool:
    """Whether a post needs no further call: both sides forecast it, or the first one wrote no text for it."""
    for forecasts in found:
        forecast = forecasts[index]
        if not _has_text(forecast):
            return forecast is not None
    return True


def _count(found: list[list[ContentForecast | None]]) -> int:
    return sum(forecast is not None for forecasts in found for forecast in forecasts)


def _has_text(forecast: ContentForecast | None) -> bool:
    return forecast is not None and forecast.outcome == "ok"


def _is_shadow(forecast: LiveForecast, post_id: str, time: datetime) -> bool:
    return forecast.post_id == post_id and forecast.target_time == time


def _is_served(forecast: LiveForecast, _post_id: str, time: datetime) -> bool:
    return forecast.post_id is None and forecast.made_at < time


def _find(
    registry: Registry,
    fit: str,
    posts: pd.DataFrame,
    rows: NDArray[np.int64],
    is_wanted: Callable[[LiveForecast, str, datetime], bool],
) -> list[ContentForecast | None]:
    """Return the latest wanted forecast of each post among those that knew the posts up to the one before."""
    if not len(rows):
        return []
    times, ids = posts["created_at"].iloc, posts["post_id"].iloc
    last = [(times[row - 1].to_pydatetime(), str(ids[row - 1])) for row in rows]
    kept: dict[tuple[datetime, str], list[LiveForecast]] = {}
    for forecast in registry.list_forecasts(fit, min(last)[0], max(last)[0]):
        kept.setdefault((forecast.last_post_at, forecast.last_post_id), []).append(forecast)
    found: list[ContentForecast | None] = []
    for row, known in zip(rows, last, strict=True):
        post_id, time = str(ids[row]), times[row].to_pydatetime()
        wanted = [forecast for forecast in kept.get(known, []) if is_wanted(forecast, post_id, time)]
        found.append(_parse(wanted[-1].forecast) if wanted else None)
    return found


def _parse(document: dict[str, Any]) -> ContentForecast:
    """Return a kept forecast; one of another release may have other fields."""
    fields = ContentForecast.__dataclass_fields__
    return ContentForecast(**{name: document[name] for name in fields if name in document})
