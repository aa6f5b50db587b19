"""The latest replay of each model type: its policies side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.model_types import MODEL_TYPE_NAMES, get_model_type
from retrainer.render import replay as replay_text
from retrainer.render.charts import replay as charts
from retrainer.replay.latest import read_latest
from retrainer.web.rendering import NOTHING, Page, score, signed
from retrainer.web.specs import page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.render.charts.chart import Chart
    from retrainer.replay.latest import LatestReplay
    from retrainer.replay.results import PolicyReport
    from retrainer.web.site import Visit

SCORE_HEADERS = ("Policy", "Posts", "Live score", "95% interval", "Naive", "Skill", "Against configured")
DECISION_HEADERS = ("Policy", "Trained", "Failed", "Promoted", "Judged", "Reversed", "Missed", "Below naive", "Cost")


@dataclass(frozen=True)
class ReplayedModel:
    """One model type.

    Attributes:
        latest: its latest replay; None without one.
        charts: the score of each policy over time, with bands, and its promotions.
        policies: each with what it changes.
        scores: a row of `SCORE_HEADERS` for each policy that forecast a post.
        decisions: a row of `DECISION_HEADERS` for each policy.
    """

    model_type: ModelTypeName
    latest: LatestReplay | None
    charts: Sequence[Chart] = ()
    policies: Sequence[tuple[str, str]] = ()
    scores: Sequence[Sequence[str]] = ()
    decisions: Sequence[Sequence[str]] = ()
    score_headers: Sequence[str] = SCORE_HEADERS
    decision_headers: Sequence[str] = DECISION_HEADERS


def gather_replay(project: Project, model_types: Sequence[ModelTypeName] = MODEL_TYPE_NAMES) -> list[ReplayedModel]:
    """Return the latest replays of a stream."""
    return [_gather_model(project, model_type) for model_type in model_types]


def _gather_model(project: Project, model_type: ModelTypeName) -> ReplayedModel:
    latest = read_latest(project, model_type)
    if latest is None:
        return ReplayedModel(model_type, None)
    policies = latest.report.policies
    return ReplayedModel(
        model_type,
        latest,
        charts=[chart for chart in (charts.scores(latest.report), charts.promotions(latest.report)) if chart],
        policies=[(one.policy.name, _describe(one)) for one in policies],
        scores=[_score_cells(one) for one in policies if one.live is not None],
        decisions=[_decision_cells(one) for one in policies],
    )


def _describe(one: PolicyReport) -> str:
    policy = one.policy
    if not policy.retrains:
        return "keeps its first version"
    every = f"trains '{policy.algorithm}' every {policy.settings.retraining.schedule_days:g} days"
    rule = "promotes every version" if policy.promotes_all else "promotes by its configured rule"
    changes = "".join(
        f", {key}={value}" for key, value in policy.changes.items() if key not in {"algorithm", "schedule_days"}
    )
    return f"{every} and {rule}{changes}"


def _score_cells(one: PolicyReport) -> tuple[str, ...]:
    live = one.live
    assert live is not None  # noqa: S101  filtered by the caller
    (metric,) = (metric for metric in get_model_type(live.model_type).metrics if metric.key == "overall_score")
    return (
        one.policy.name,
        f"{len(live):,}",
        score(live.score.value),
        replay_text.format_interval(live.score, metric),
        score(live.naive_score.value),
        signed(live.skill, 3),
        replay_text.format_difference(one),
    )


def _decision_cells(one: PolicyReport) -> tuple[str, ...]:
    cost = one.cost_usd + one.live_cost_usd
    return (
        one.policy.name,
        str(one.trainings),
        str(one.failures),
        str(one.promotions),
        f"{one.looked_at} of {one.decisions}" if one.decisions else NOTHING,
        str(one.reversed_promotions),
        str(one.missed),
        replay_text.format_worse_than_naive(one),
        f"${cost:.4f}" if cost else NOTHING,
    )


def replay(visit: Visit) -> Page:
    """Return the page of the latest replays of a stream."""
    return Page("replay.html", "Replay", {"models": gather_replay(visit.project)}, "/replay")


ROUTES = [page("/replay", replay, work="inspect", cached="briefly")]
