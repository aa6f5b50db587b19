"""One chart of each kind, of synthetic results, some with texts that could do harm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.algorithms.hookspecs import Importance
from retrainer.config import Settings
from retrainer.evaluation.bootstrap import bootstrap_comparison, resample_improvement
from retrainer.evaluation.comparison import Difference
from retrainer.live.drift import Drift
from retrainer.live.error_interval import ErrorInterval
from retrainer.live.report import Evidence, LiveReport, LiveWeek
from retrainer.live.summary import Score
from retrainer.model_types import get_model_type
from retrainer.model_types.timing import LEVELS, TimingForecasts, TimingTargets
from retrainer.pipeline.forecast import NextPost
from retrainer.pipeline.simulation import DayCount, Simulation
from retrainer.registry.tables import LedgerEntry, ModelExplanation, TrainingRun
from retrainer.render.charts import (
    calibration,
    comparisons,
    errors,
    forecasts,
    importance,
    live,
    posts,
    scores,
    style,
    tuning,
)
from retrainer.render.charts import replay as replay_charts
from retrainer.replay.policies import Policy
from retrainer.replay.results import Ending, ReplayReport, report
from retrainer.replay.step import StepResult
from tests.render.test_tuning import make_report

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from retrainer.render.charts.chart import Chart

HOSTILE = "</title><script>alert(1)</script> & \"q' $x^2$ \\frac{1}{2} \x1b[31m\u202e"
AT = datetime(2026, 11, 25, 14, 3, tzinfo=UTC)
START = np.datetime64("2026-03-01T00:00", "us")
COUNT = 300
TIMING = get_model_type("timing")


def random() -> np.random.Generator:
    return np.random.default_rng(7)


def post_times(count: int = COUNT) -> NDArray[np.datetime64]:
    """Return the times of posts, mostly by day."""
    hours = np.cumsum(random().exponential(9, count))
    return START + (hours * 3600e6).astype("timedelta64[us]")


def timing_forecasts() -> tuple[TimingForecasts, NDArray[np.float64]]:
    """Return forecasts and what came."""
    means = 2 + random().exponential(7, (COUNT, 1))
    return TimingForecasts.from_quantiles(-means * np.log1p(-LEVELS)), random().exponential(9, COUNT)


def next_post() -> NextPost:
    quantiles = np.sort(np.concatenate([random().exponential(3, 60), 12 + random().exponential(4, 39)]))
    days = [
        DayCount(AT + timedelta(days=day), AT + timedelta(days=day + 1), 3.4 + day, (1, 6 + day), AT.date())
        for day in range(3)
    ]
    simulation = Simulation(500, "UTC", AT + timedelta(days=3), None, tuple(days), ())
    return NextPost(
        "timing",
        "v",
        AT,
        AT,
        AT,
        AT,
        stale=False,
        next_post_at=AT,
        point_hours=3.0,
        median_hours=float(quantiles[49]),
        interval_level=0.8,
        interval_hours=(float(quantiles[9]), float(quantiles[89])),
        quantiles_hours=tuple(quantiles.tolist()),
        simulation=simulation,
    )


def training_runs() -> list[TrainingRun]:
    runs = []
    for number in range(8):
        is_failed = number == 4
        runs.append(
            TrainingRun(
                run_id=f"run_{number}",
                model_type="timing",
                model_version_id=None if is_failed else f"prophet_timing_2026{number:04d} {HOSTILE}",
                status="failed" if is_failed else "completed",
                started_at=AT + timedelta(days=7 * number),
                test_overall_score=None if is_failed else 0.6 + 0.02 * number,
                production_score=None if is_failed or not number else 0.61 + 0.015 * number,
                promoted_to_production=number % 3 == 0,
            )
        )
    return runs


def ledger_entries() -> list[LedgerEntry]:
    return [
        LedgerEntry(at=AT + timedelta(days=23), action="rollback", model_type="timing", automatic=False),
        LedgerEntry(at=AT + timedelta(days=37), action="promotion", model_type="timing", automatic=False),
    ]


def live_report() -> LiveReport:
    weeks = []
    monday = datetime(2026, 3, 2, tzinfo=UTC)
    for number in range(14):
        if number == 6:
            continue  # a week without posts
        score = Score(40, 0.7 + 0.01 * (number % 5), 4.0, 0.8)
        naive = Score(40, 0.68 + 0.008 * (number % 4), 4.5, 0.8)
        width = 0.5 / (number + 1)
        weeks.append(
            LiveWeek(
                monday + timedelta(weeks=number),
                score,
                naive,
                score,  # it coincides with the live version's
                None if number < 5 else naive,
                ErrorInterval(0.08 - width, 0.08 + width / 3, 0.08),
                {"naive": Evidence(0.3**number, 3.0**number), "previous": Evidence(1.0, 1.0)},
            )
        )
    return LiveReport(
        stream="default",
        model_type="timing",
        at=AT,
        version_id=HOSTILE,
        algorithm="prophet",
        promoted_at=None,
        fit="f",
        since=None,
        comparisons=[],
        weeks=weeks,
        calibration=None,
        expected_score_coverage=None,
        late_posts=None,
        verdict="fine",
        sentence="Fine.",
        promise=None,
        drift=[],
    )


def replay_report() -> ReplayReport:
    """Return a replay of four policies, the first two of which do the same."""
    times = post_times()
    figures = np.column_stack([random().random(COUNT) < 0.7, random().exponential(6, COUNT)]).astype(float)
    done = []
    for number, name in enumerate(("configured", "never", "always", HOSTILE)):
        own = figures * [1.0, 1.0 - 0.02 * max(number - 1, 0)]
        steps = [
            StepResult(
                at=_utc(times[start]),
                until=_utc(times[start + 49]),
                digest="",
                version_id="v",
                promoted=number > 1 or not start,
                rows=list(range(start, start + 50)),
                figures=own[start : start + 50].tolist(),
                naive_figures=(figures[start : start + 50] * [0.9, 1.2]).tolist(),
            )
            for start in range(0, COUNT, 50)
        ]
        done.append((Policy(name, Settings(), "prophet", retrains=name != "never"), steps))
    return report("timing", (_utc(times[0]), _utc(times[-1])), done, Ending(), times)


def drifts() -> list[Drift]:
    return [
        Drift("rate", True, AT.date(), 2.0, 4.0, 2.0, None, 9e4, 1095.0, 90, 40, 28, "Posts come twice as often"),
        Drift("gaps", False, None, 3.0, 2.9, 0.97, None, 12.0, 1095.0, 90, 40, 28, "Gaps are about as long"),
        Drift("length", False, None, None, None, None, None, None, 1095.0, 9, 40, 0, "Too few days to say"),
    ]


def explanation_of(version_id: str, label: str, **changes: Any) -> ModelExplanation:
    """Return an explanation of content, one part of which could not be measured."""
    worth = {
        "overall_score": {"value": 0.03, "interval": [0.01, 0.05]},
        "lift": {"value": 0.012, "interval": [-0.004, 0.028]},
    }
    columns: dict[str, Any] = {
        "explanation_id": "explanation_20260101_000000_0000",
        "model_version_id": version_id,
        "explained_at": datetime(2026, 1, 1, tzinfo=UTC),
        "method": "left_out",
        "window": {"start": "2025-12-01T00:00:00Z", "end": "2025-12-31T00:00:00Z", "posts": 40, "origin": "post"},
        "num_predictions": 20,
        "metrics": {"overall_score": 0.43, "lift": 0.018},
        "parts": [
            {"name": "last_posts", "label": label, "num_predictions": 20, "worth": worth, "problem": ""},
            {"name": "moment", "label": "the moment", "num_predictions": 0, "worth": None, "problem": label},
        ],
        "seed": None,
        "cost_usd": 0.0123,
        "problem": f"the limit is reached {label}",
    }
    return ModelExplanation(**{**columns, **changes})


def sample_charts() -> dict[str, Chart]:
    """Return the charts by name."""
    forecast, waits = timing_forecasts()
    times = post_times()
    naive = TimingForecasts.from_quantiles(np.repeat(-9 * np.log1p(-LEVELS)[None], COUNT, axis=0))
    error, naive_error = (np.abs(side.point - waits) for side in (forecast, naive))
    parts = [TIMING.score_components(side, TimingTargets(waits)) for side in (naive, forecast)]
    evidence = bootstrap_comparison(parts[0], parts[1], TIMING.overall_score)
    differences = TIMING.overall_score(parts[1]) - TIMING.overall_score(parts[0])
    names = ("baseline_timing_20261101_120000_09be", HOSTILE)
    rows = [
        scores.ScoreInterval("production version", 0.71, (0.68, 0.73)),
        scores.ScoreInterval("naive forecast", 0.66, (0.64, 0.68), style.NAIVE),
        scores.ScoreInterval(HOSTILE, 0.69, None, style.OTHER),
    ]
    importances = [
        Importance(f"feature {number} {HOSTILE}", 1 / number, "bits a post", HOSTILE) for number in (1, 2, 3)
    ]
    situations = [Difference("on a weekend", 40, 0.61, 0.66), Difference(HOSTILE, 30, 0.72, 0.7)]
    worth, _ = importance.parts(explanation_of("claude_api_content_20260101_000000_0000", HOSTILE))
    charts = {
        "worth": worth,
        "next post": forecasts.next_post(next_post()),
        "days": forecasts.days(next_post()),
        "beside posts": forecasts.beside_posts(times, forecast, waits),
        "reliability": calibration.reliability(TIMING.reliability(forecast, TimingTargets(waits))),
        "pit": calibration.pit(forecast.probability_within(waits), naive.probability_within(waits)),
        "hours of errors": errors.by_hour_of_week(times, error),
        "silences": errors.by_silence(random().exponential(9, COUNT), error, naive_error),
        "importance": importance.bars(importances),
        "history": scores.history("timing", training_runs(), ledger_entries(), {"run_1": 0.6, "run_7": 0.64}),
        "intervals": scores.intervals(HOSTILE, rows),
        "distribution": comparisons.distribution(
            evidence, resample_improvement(parts[0], parts[1], TIMING.overall_score)
        ),
        "differences": comparisons.over_time(times, differences, names),
        "situations": comparisons.situations(situations, names),
        "rate": posts.rate(times),
        "hours": posts.hours_of_week(post_times(2000)),
        "gaps": posts.gaps(times),
        "drift": posts.drift(drifts()),
        "live scores": live.scores(live_report()),
        "live errors": live.errors(live_report()),
        "live evidence": live.evidence(live_report()),
        "replay": replay_charts.scores(replay_report()),
        "promotions": replay_charts.promotions(replay_report()),
        "trials": tuning.trials(make_report(0.6, 0.62, 0.58, 0.65, 0.64)),
    }
    assert None not in charts.values()
    return {name: chart for name, chart in charts.items() if chart is not None}


def _utc(time: np.datetime64) -> datetime:
    found: datetime = time.astype(datetime)
    return found.replace(tzinfo=UTC)
