"""The charts of a result, in the order in which a plot shows them: of an evaluation, a comparison, a version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.evaluation.bootstrap import resample_improvement, score_interval
from retrainer.model_types import MODEL_TYPE_NAMES, get_model_type
from retrainer.model_types.timing import TimingTargets
from retrainer.render.charts import calibration, comparisons, errors, forecasts, scores, style

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from retrainer.evaluation.comparison import Comparison
    from retrainer.evaluation.evaluate import Evaluation
    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.base import StoredForecasts
    from retrainer.model_types.timing import TimingForecasts
    from retrainer.pipeline.loading import ScoreIntervals
    from retrainer.registry.tables import LedgerEntry, ModelEvaluation, TrainingRun
    from retrainer.render.charts.chart import Chart
    from retrainer.render.charts.style import Line

    Floats = NDArray[np.float64]


def of_evaluation(evaluation: Evaluation) -> list[Chart | None]:
    """Return the charts of an evaluation: the scores, the posts on which it beats naive, and those of the forecasts."""
    kind, kept = get_model_type(evaluation.model_type), evaluation.scored
    naive = kind.score_components(*kind.select(evaluation.naive_forecasts, evaluation.targets, kept))
    own, times = evaluation.contributions_on(kept), evaluation.origins.time[kept]
    charts = [
        _scores(evaluation.model_type, {"version": (own, style.VERSION), "naive forecast": (naive, style.NAIVE)}),
        comparisons.over_time(times, kind.overall_score(own) - kind.overall_score(naive), ("naive", "the version")),
    ]
    if evaluation.model_type == "timing":
        charts += of_timing(times, evaluation.forecasts, evaluation.naive_forecasts, evaluation.targets.wait_hours)
    return charts


def of_recorded(
    evaluation: ModelEvaluation, intervals: ScoreIntervals | None, stored: StoredForecasts[Any, Any] | None
) -> list[Chart | None]:
    """Return the charts of a recorded evaluation: the scores, and those of timing forecasts.

    Args:
        evaluation: the evaluation.
        intervals: of its scores; None if they are not known.
        stored: its forecasts; None if they are not there any more.
    """
    found = intervals or (None, None)
    sides = (
        ("version", evaluation.metrics, style.VERSION),
        ("naive forecast", evaluation.baseline_metrics, style.NAIVE),
    )
    rows = [
        scores.ScoreInterval(label, metrics["overall_score"], _clip(interval), line)
        for (label, metrics, line), interval in zip(sides, found, strict=True)
    ]
    title = f"{evaluation.model_version_id}: scores of {evaluation.num_predictions:,} posts"
    charts = [scores.intervals(title, rows)]
    if stored is not None and isinstance(stored.targets, TimingTargets):
        charts += of_timing(stored.times, stored.forecasts, stored.naive, stored.targets.wait_hours)
    return charts


def of_runs(
    runs: Sequence[TrainingRun], entries: Sequence[LedgerEntry], naive: Mapping[str, float]
) -> list[Chart | None]:
    """Return the scores of the runs of each model type; see `scores.history`."""
    return [
        scores.history(
            name,
            [run for run in runs if run.model_type == name],
            [entry for entry in entries if entry.model_type == name],
            naive,
        )
        for name in MODEL_TYPE_NAMES
    ]


def of_timing(
    times: NDArray[np.datetime64],
    forecast: TimingForecasts,
    naive: TimingForecasts | None,
    wait_hours: Floats,
    silence_hours: Floats | None = None,
) -> list[Chart | None]:
    """Return the charts of timing forecasts and the actual waits.

    Args:
        times: (n,) datetime64, UTC: when each forecast was made.
        forecast: n.
        naive: n; None if they are not known.
        wait_hours: (n,) the actual waits.
        silence_hours: (n,) before each forecast; None if it is not known.
    """
    if not len(forecast):
        return []
    error = np.abs(forecast.point - wait_hours)
    naive_error = None if naive is None else np.abs(naive.point - wait_hours)
    return [
        forecasts.beside_posts(times, forecast, wait_hours),
        calibration.reliability(get_model_type("timing").reliability(forecast, TimingTargets(wait_hours))),
        calibration.pit(
            forecast.probability_within(wait_hours), None if naive is None else naive.probability_within(wait_hours)
        ),
        errors.by_hour_of_week(times, error),
        None if silence_hours is None else errors.by_silence(silence_hours, error, naive_error),
    ]


def of_comparison(comparison: Comparison, names: tuple[str, str] | None = None) -> list[Chart | None]:
    """Return the charts of a comparison; none if nothing could be compared.

    Args:
        comparison: the comparison.
        names: of a and b; None for the ids of the versions.
    """
    a, b = comparison.evaluation_a, comparison.evaluation_b
    if a is None or b is None or not comparison.num_predictions:
        return []
    kind, both = get_model_type(comparison.model_type), a.scored & b.scored
    naive = kind.score_components(*kind.select(a.naive_forecasts, a.targets, both))
    sides = a.contributions_on(both), b.contributions_on(both)
    names = names or (comparison.version_a, comparison.version_b)
    drawn = {
        names[0]: (sides[0], style.OTHER),
        names[1]: (sides[1], style.VERSION),
        "naive forecast": (naive, style.NAIVE),
    }
    overall = kind.overall_score
    differences = overall(sides[1]) - overall(sides[0])
    return [
        _scores(comparison.model_type, drawn),
        None
        if comparison.evidence is None
        else comparisons.distribution(comparison.evidence, resample_improvement(*sides, overall)),
        comparisons.over_time(a.origins.time[both], differences, names) if differences.any() else None,
        comparisons.situations(comparison.differences, names),
    ]


def _scores(model_type: ModelTypeName, sides: dict[str, tuple[Floats, Line]]) -> Chart | None:
    """Return the scores of several sides on the same posts, by the components of each post, with intervals."""
    overall = get_model_type(model_type).overall_score
    return scores.intervals(
        "Scores on the same posts",
        [
            scores.ScoreInterval(label, float(overall(parts.mean(axis=0))), _clip(score_interval(parts, overall)), line)
            for label, (parts, line) in sides.items()
            if len(parts)
        ],
    )


def _clip(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return interval and (max(interval[0], 0.0), min(interval[1], 1.0))
