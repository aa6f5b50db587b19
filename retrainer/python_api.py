"""The Python API: the commands as functions, exported by `retrainer`.

Each call publishes its events like the command does, to the configured channels and the installed observers.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from retrainer.live import ab_tests
from retrainer.live.ab_tests import LEVEL, MAX_POSTS
from retrainer.live.review import review
from retrainer.model_types.timing import INTERVAL_LEVEL
from retrainer.notify import open_runtime
from retrainer.pipeline import comparing, evaluations, explaining, forecast, run
from retrainer.pipeline.recovery import recover
from retrainer.pipeline.stale_posts import find_stale_posts, report_stale_posts
from retrainer.tuning.settings_changes import write_changes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from retrainer.evaluation.comparison import Comparison
    from retrainer.evaluation.evaluate import Evaluation
    from retrainer.live.ab_tests import ABTestState
    from retrainer.model_types import ModelTypeName, OriginRule
    from retrainer.pipeline.forecast import NextPost
    from retrainer.pipeline.results import RunResult
    from retrainer.project import Project
    from retrainer.registry.tables import ModelExplanation, TrainingRun
    from retrainer.tuning.plan import MetricName
    from retrainer.tuning.results import TuningResult


def retrain(
    project: Project,
    model_type: ModelTypeName,
    *,
    stream: str | None = None,
    as_of: datetime | None = None,
    algorithm: str | None = None,
    auto_promote: bool | None = None,
    wait_seconds: float = 0,
) -> RunResult:
    """Train a new version and promote it if it is better, like `retrainer train`.

    Args:
        project: the project.
        model_type: `timing` or `content`.
        stream: the stream; required if there are several.
        as_of: run as of a past time (aware); None for now.
        algorithm: overrides the configured algorithm.
        auto_promote: overrides `retraining.auto_promote`.
        wait_seconds: how long to wait for another run of this model type to end.

    Raises:
        RetrainerError: the run failed; this is recorded, and production is unchanged.
    """
    project, now = project.choose_stream(stream), as_of or datetime.now(UTC)
    with open_runtime(project, os.environ) as runtime:
        recover(project, runtime)
        review(project, runtime, model_type, now)
        stale = find_stale_posts(project, [model_type], now) if as_of is None else None
        result = run.retrain(
            project,
            runtime,
            model_type,
            now,
            as_of=as_of is not None,
            algorithm=algorithm,
            auto_promote=auto_promote,
            wait_seconds=wait_seconds,
        )
        if stale is not None:
            report_stale_posts(project, runtime, stale)
        return result


def tune(
    project: Project,
    model_type: ModelTypeName,
    *,
    stream: str | None = None,
    algorithms: Sequence[str] = (),
    trials: int = 30,
    timeout: timedelta | None = None,
    metric: MetricName = "overall_score",
    seed: int = 0,
    max_cost: float | None = None,
    cost_objective: bool = False,
    auto_promote: bool | None = None,
    apply: bool = False,
) -> TuningResult:
    """Tune the options of an algorithm, and train with the best ones, like `retrainer tune`.

    Args:
        project: the project.
        model_type: `timing` or `content`.
        stream: the stream; required if there are several.
        algorithms: that compete in one study; empty for the configured one.
        trials: the number of trials of the study.
        timeout: start no trial after this time; None for no limit.
        metric: what a trial is judged by; `crps` applies to timing only.
        seed: of the sampler.
        max_cost: what the paid forecasts of all trials may cost, in US dollars; required if there are any.
        cost_objective: also minimize the cost of the forecasts.
        auto_promote: overrides `retraining.auto_promote`.
        apply: if the winner is promoted, write its options to the settings file.

    Raises:
        RetrainerError: nothing could be tuned, every trial failed, or the run of the winner did. With `apply`,
            also if the settings file cannot be written: the promotion stands, and `tune --show` has the study.
    """
    # Optuna takes long to import.
    from retrainer.tuning import run as tuning  # noqa: PLC0415
    from retrainer.tuning.request import TuningRequest  # noqa: PLC0415

    project = project.choose_stream(stream)
    request = TuningRequest(
        model_type,
        tuple(dict.fromkeys(algorithms)),
        trials=trials,
        timeout_seconds=None if timeout is None else timeout.total_seconds(),
        metric=metric,
        seed=seed,
        max_cost=max_cost,
        cost_objective=cost_objective,
        auto_promote=auto_promote,
    )
    with open_runtime(project, os.environ) as runtime:
        result = tuning.tune(project, runtime, request, datetime.now(UTC))
        winner = result.winner
        if apply and result.promoted and winner is not None and winner.algorithm is not None:
            write_changes(project, runtime, model_type, winner.algorithm, winner.options)
    return result


def evaluate(
    project: Project, version: str, *, stream: str | None = None, origin: OriginRule | None = None
) -> Evaluation:
    """Score a version on the posts later than its training, like `retrainer evaluate`.

    Args:
        project: the project.
        version: its id, or a name as `retrainer evaluate` takes it: `timing@production`.
        stream: the stream of the version; required for a name such as `timing@production` if there are several.
        origin: forecast right after each post (`post`) or at evenly spaced times (`clock`); None as configured.

    Raises:
        RetrainerError: the version cannot be evaluated.
    """
    project, found = project.find_version(version, stream)
    with open_runtime(project, os.environ) as runtime:
        return evaluations.evaluate_version(project, runtime, found.version_id, datetime.now(UTC), origin)


def explain(
    project: Project,
    version: str,
    *,
    stream: str | None = None,
    max_cost: float | None = None,
    posts: int | None = None,
) -> ModelExplanation:
    """Measure what the forecasts of a version depend on, like `retrainer explain`.

    Args:
        project: the project.
        version: as in `evaluate`.
        stream: as in `evaluate`.
        max_cost: what paid forecasts may cost, in US dollars; required if there are any.
        posts: how many to forecast; None for 100 of timing and 20 of content.

    Returns:
        The explanation. Its `problem` says why parts are missing, if any are.

    Raises:
        RetrainerError: nothing could be measured.
    """
    project, found = project.find_version(version, stream)
    with open_runtime(project, os.environ) as runtime:
        now = datetime.now(UTC)
        return explaining.explain_version(project, runtime, found, now, max_cost=max_cost, max_posts=posts)


def compare(
    project: Project,
    version_a: str,
    version_b: str,
    *,
    stream: str | None = None,
    origin: OriginRule | None = None,
) -> Comparison:
    """Score two versions on the same posts, like `retrainer compare`.

    Args:
        project: the project.
        version_a: the reference version.
        version_b: the other version.
        stream: as in `evaluate`.
        origin: as in `evaluate`.

    Raises:
        RetrainerError: the versions cannot be compared.
    """
    (project, a), (_, b) = (project.find_version(version, stream) for version in (version_a, version_b))
    with open_runtime(project, os.environ) as runtime:
        return comparing.compare_versions(project, runtime, a, b, datetime.now(UTC), origin)


def predict(
    project: Project,
    model_type: ModelTypeName,
    *,
    stream: str | None = None,
    interval_level: float = INTERVAL_LEVEL,
    at: datetime | Literal["last"] | None = None,
    until: datetime | timedelta | None = None,
    next_posts: int | None = None,
    subject: str | None = None,
) -> NextPost:
    """Forecast the next post, or the next days, with the production version, like `retrainer predict`.

    Args:
        project: the project.
        model_type: `timing` or `content`.
        stream: the stream; required if there are several.
        interval_level: timing: the probability that an interval covers the actual value, 0.02 to 0.98.
        at: forecast as of this past time (aware), or right after the last post (`last`); None for now.
        until: timing: also forecast the posts a day until then (aware) or for so long, 31 days at most; see
            `NextPost.simulation`.
        next_posts: timing: also forecast when each of so many posts comes; None for 10 with `until`.
        subject: who asks: while an A/B test runs, the same side of it answers the same subject; see `NextPost.side`.

    Raises:
        RetrainerError: nothing is in production, or it cannot forecast.
    """
    project = project.choose_stream(stream)
    with open_runtime(project, os.environ) as runtime:
        return forecast.predict_next(
            project,
            runtime,
            model_type,
            datetime.now(UTC),
            interval_level,
            at=at,
            until=until,
            next_posts=next_posts,
            subject=subject,
        )


def report(
    project: Project, *, stream: str | None = None, model_type: ModelTypeName | None = None, version: str | None = None
) -> str:
    """Return the pages of `retrainer serve` as one HTML document, like `retrainer report`.

    Args:
        project: the project.
        stream: the stream; required if there are several.
        model_type: only this one; None for both.
        version: the version to describe; None for those in production.

    Raises:
        RetrainerError: there is no such stream or version.
    """
    from retrainer.web.report import report_project  # noqa: PLC0415  nothing else needs Jinja

    with open_runtime(project, os.environ) as runtime:
        now = datetime.now(UTC)
        made = report_project(project, runtime, now, model_type=model_type, version=version, stream=stream)
    return made.decode()


def start_ab_test(
    project: Project,
    model_type: ModelTypeName,
    challenger: str,
    *,
    stream: str | None = None,
    share: float = 0.0,
    max_posts: int = MAX_POSTS,
    level: float = LEVEL,
    max_cost: float | None = None,
    reason: str = "Started through the Python API",
) -> ABTestState:
    """Start an A/B test of a version against production, like `retrainer ab start`.

    Args:
        project: the project.
        model_type: `timing` or `content`.
        challenger: the version to test, by its id or a name as `retrainer promote` takes it.
        stream: the stream; required if there are several.
        share: the percentage of subjects that the challenger answers.
        max_posts: end undecided after so many live posts.
        level: the probability of a wrong decision.
        max_cost: what the paid forecasts of each side may cost, in US dollars; required if there are any.
        reason: why, for the record.

    Raises:
        RetrainerError: the test cannot be started.
    """
    project = project.choose_stream(stream)
    with open_runtime(project, os.environ) as runtime:
        version_id = project.registry.find_version(challenger, model_type).version_id
        return ab_tests.start_test(
            project,
            runtime,
            model_type,
            version_id,
            reason,
            datetime.now(UTC),
            share=share,
            max_posts=max_posts,
            level=level,
            max_cost=max_cost,
        )


def check_ab_test(project: Project, model_type: ModelTypeName, *, stream: str | None = None) -> ABTestState | None:
    """Score the new posts, decide the running A/B test if they settle it, and return it, like `retrainer ab status`.

    Args:
        project: the project.
        model_type: `timing` or `content`.
        stream: the stream; required if there are several.

    Returns:
        The running test or, if none is running, the last one; None if there was none.

    Raises:
        RetrainerError: the posts or the database cannot be read.
    """
    project = project.choose_stream(stream)
    with open_runtime(project, os.environ) as runtime:
        return ab_tests.check_test(project, runtime, model_type, datetime.now(UTC))


def stop_ab_test(
    project: Project,
    model_type: ModelTypeName,
    outcome: Literal["promoted", "kept", "stopped"] = "stopped",
    *,
    stream: str | None = None,
    reason: str = "A/B test stopped through the Python API",
) -> ABTestState:
    """Stop the running A/B test, like `retrainer ab stop`.

    Args:
        project: the project.
        model_type: `timing` or `content`.
        outcome: promote the challenger (`promoted`), keep production (`kept`), or decide nothing (`stopped`).
        stream: the stream; required if there are several.
        reason: why, for the record.

    Raises:
        RetrainerError: no test is running, or the challenger cannot be promoted.
    """
    project = project.choose_stream(stream)
    with open_runtime(project, os.environ) as runtime:
        return ab_tests.stop_test(project, runtime, model_type, outcome, reason, datetime.now(UTC))


def history(
    project: Project,
    model_type: ModelTypeName | None = None,
    *,
    stream: str | Sequence[str] | None = None,
    limit: int | None = None,
) -> list[TrainingRun]:
    """Return training runs, newest first, like `retrainer history`.

    Args:
        project: the project.
        model_type: only runs of this model type.
        stream: only runs of this stream or of these, which may be patterns such as `news_*`.
        limit: the maximum number of runs.

    Raises:
        UnknownName: there is no such stream.
    """
    if stream is None:
        registry = project.registry.across(None) if project.opened_by is None else project.registry
    else:
        registry = project.registry.across(project.select_streams([stream] if isinstance(stream, str) else stream))
    return registry.list_runs(model_type, limit)
