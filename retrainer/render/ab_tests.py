"""A/B tests as lines for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer import console
from retrainer.render.cells import format_minute, format_score
from retrainer.streams import of_stream

if TYPE_CHECKING:
    from retrainer.live.ab_tests import ABTestState

OUTCOMES = {
    "promoted": "the challenger was promoted",
    "kept": "production was kept",
    "futile": "futile, production was kept",
    "stopped": "stopped without a decision",
    "promotion": "ended by a promotion",
    "rollback": "ended by a rollback",
}
_MOST_EVIDENCE = 1000  # more is not shown


def show_test(state: ABTestState, *, several: bool) -> None:
    """Print an A/B test and what it has found; with its stream if there are several."""
    test = state.test
    running = test.status == "running"
    when = f"running since {format_minute(test.started_at)} UTC"
    if not running:
        when = f"{OUTCOMES.get(test.outcome or '', test.outcome)} on {format_minute(test.ended_at)} UTC"
    console.text(f"A/B test of {test.model_type}{of_stream(test.stream, several=several)}, {when}")
    share = f", answers {test.share:g}% of subjects" if running and test.share else ""
    promoted = ", promoted" if test.outcome == "promoted" else ""
    costs = state.cost_usd or {}
    for title, version_id, score, side in (
        ("Production" if running else "Production at the start", test.version_id, state.score, "production"),
        (f"Challenger{share}{promoted}", test.challenger_id, state.challenger_score, "challenger"),
    ):
        cost = f", cost ${costs[side]:.4f} of ${test.max_cost:g}" if side in costs else ""
        console.text(f"  {title}: {version_id}, score {format_score(score)}{cost}")
    posts = f"{_count(state.num_posts, 'live post')}. " if state.num_posts else ""
    console.paragraph(f"{posts}{state.sentence}")
    if running:
        remaining = max(test.max_posts - state.num_posts, 0)
        console.paragraph(
            f"Evidence: {format_evidence(state.evidence_for_challenger)} for the challenger, "
            f"{format_evidence(state.evidence_for_production)} for production; {state.threshold:g} decides. "
            f"Ends undecided after {_count(remaining, 'more post')}, or once the challenger's error can be at most 2% "
            "smaller."
        )
    else:
        console.paragraph(f"Reason: {test.reason}")
    if state.problem:
        console.paragraph(console.Styled(f"{state.problem[0].upper()}{state.problem[1:]}", "warning"))


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def format_evidence(evidence: float) -> str:
    if evidence >= _MOST_EVIDENCE:
        return f"over {_MOST_EVIDENCE:,}"
    return f"{evidence:.1f}"
