"""Scores beside those of the naive forecast: of a run, an evaluation, a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrainer import console
from retrainer.model_types import get_model_type
from retrainer.render.cells import skill_style

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retrainer.console import Styled
    from retrainer.evaluation.bootstrap import Evidence
    from retrainer.evaluation.comparison import Comparison, Difference
    from retrainer.evaluation.evaluate import Evaluation
    from retrainer.model_types import ModelTypeName, OriginRule
    from retrainer.model_types.base import Metric, Reliability
    from retrainer.pipeline.results import Failure, RunResult
    from retrainer.registry.tables import ModelEvaluation

    Sides = Mapping[str, Mapping[str, float] | None]  # metrics by heading, such as `new`, `production`, `naive`


def show_run_results(outcomes: Sequence[RunResult | Failure]) -> None:
    """Print the scores and the decision of each run, and after them what failed, which the log says in full.

    Unevaluated dry runs are in the log only.
    """
    from retrainer.pipeline.results import RunResult  # noqa: PLC0415  imported by now: it made the outcomes

    for result in outcomes:
        if not isinstance(result, RunResult) or result.evaluation is None:
            continue
        sides, count = run_sides(result)
        total = result.run.num_test_samples if result.run else None
        posts = "test posts" if total is None or total == count else f"of {total} test posts"
        forecasts = _count_forecasts(count, result.evaluation.window.origin, posts)
        title = f"{result.model_type.capitalize()}: {result.algorithm}, {forecasts}"
        show_metrics(title, get_model_type(result.model_type).metrics, sides)
        if result.comparison is not None:
            _show_differences(result.comparison.differences, "production", "new")
            if result.comparison.evidence is not None:
                console.paragraph(describe_evidence("The new model", result.comparison.evidence))
        if result.run is None:
            console.paragraph(f"Dry run: nothing is recorded. {result.reason}")
        elif result.promoted:
            console.paragraph(console.Styled(f"Promoted: {result.reason}", "good"))
        else:
            console.paragraph(f"Not promoted: {result.reason}")
        console.text()
    if any(isinstance(outcome, RunResult) for outcome in outcomes):
        for outcome in outcomes:
            if not isinstance(outcome, RunResult):
                failure = f"{outcome.model_type.capitalize()} failed: {outcome.error.message}"
                console.paragraph(console.Styled(failure, "bad"))


def show_evaluation(version_id: str, evaluation: Evaluation) -> None:
    """Print the scores of a version, and how reliable its stated probabilities are."""
    forecasts = _count_forecasts(evaluation.num_predictions, evaluation.window.origin, "posts")
    title = f"{version_id}: {forecasts} from {evaluation.window.start:%Y-%m-%d} to {evaluation.window.end:%Y-%m-%d}"
    metrics = get_model_type(evaluation.model_type).metrics
    show_metrics(title, metrics, {"version": evaluation.metrics, "naive": evaluation.naive_metrics})
    _show_descriptions(metrics, evaluation.metrics)
    skill = evaluation.metrics["skill"]
    comparative = "better than" if skill > 0 else "no better than" if skill == 0 else "worse than"
    sentence = f"Skill {skill:+.3f}: {comparative} the naive forecast (0 is as good, 1 is perfect)"
    console.text(console.Styled(sentence, skill_style(skill)))
    if evaluation.num_predictions < len(evaluation.post_ids):
        console.text(f"{len(evaluation.post_ids) - evaluation.num_predictions} forecasts could not be scored")
    _show_reliability(evaluation.reliability)


def show_recorded_evaluation(model_type: ModelTypeName, evaluation: ModelEvaluation) -> None:
    """Print the scores of a recorded evaluation."""
    window = evaluation.window
    forecasts = _count_forecasts(evaluation.num_predictions, window.get("origin", "post"), "posts")
    title = (
        f"Evaluated {evaluation.evaluated_at:%Y-%m-%d %H:%M} UTC on {forecasts} "
        f"from {window['start'][:10]} to {window['end'][:10]}"
    )
    sides = {"version": evaluation.metrics, "naive": evaluation.baseline_metrics}
    show_metrics(title, get_model_type(model_type).metrics, sides)


def show_comparison(comparison: Comparison) -> None:
    """Print the scores of two versions side by side, and the recommendation."""
    console.text(f"A: {comparison.version_a}")
    console.text(f"B: {comparison.version_b}")
    sides = {"B": comparison.metrics_b, "A": comparison.metrics_a, "naive": comparison.naive_metrics}
    origin = comparison.window.origin if comparison.window else "post"
    # Costs cover all forecasts, scores only the posts that both versions forecast: costs follow below.
    metrics = [metric for metric in get_model_type(comparison.model_type).metrics if not metric.is_tally]
    title = _count_forecasts(comparison.num_predictions, origin, "posts")
    show_metrics(title, metrics, add_skill(comparison.model_type, sides), judged="B")
    _show_differences(comparison.differences, "A", "B")
    if comparison.evidence is not None:
        console.paragraph(describe_evidence("B", comparison.evidence))
    if comparison.costs is not None:
        console.text(f"Cost: A ${comparison.costs.a:.4f}, B ${comparison.costs.b:.4f}")
    console.text(f"Winner: {comparison.winner or 'none'}")
    console.paragraph(f"Recommendation: {comparison.recommendation.replace('_', ' ')}. {comparison.reason}")


def run_sides(result: RunResult) -> tuple[Sides, int]:
    """Return the metrics of the new version, production and the naive forecast, and the number of posts.

    With a production version, they are of the posts that both versions forecast.
    """
    evaluation, comparison = result.evaluation, result.comparison
    if evaluation is None:
        return {}, 0
    if comparison is None or comparison.metrics_b is None:
        return {"new": evaluation.metrics, "naive": evaluation.naive_metrics}, evaluation.num_predictions
    sides = {
        "new": {**evaluation.metrics, **comparison.metrics_b},
        "production": comparison.metrics_a,
        "naive": comparison.naive_metrics,
    }
    return add_skill(result.model_type, sides), comparison.num_predictions


def metric_rows(metrics: Sequence[Metric], sides: Sides) -> tuple[list[str], list[tuple[Metric, list[str]]]]:
    """Return the headings of the sides that have metrics, and their values of each metric that one of them has."""
    present = {heading: values for heading, values in sides.items() if values}
    rows = [
        (metric, [metric.format(values.get(metric.key)) for values in present.values()])
        for metric in metrics
        if any(metric.has_value(values.get(metric.key)) for values in present.values())
    ]
    return list(present), rows


def show_metrics(title: str, metrics: Sequence[Metric], sides: Sides, *, judged: str = "") -> None:
    """Print metrics side by side, and judge the first side: against the naive forecast, and by good values.

    Args:
        judged: the name of the first side, if the table has to repeat it.
    """
    headings, rows = metric_rows(metrics, sides)
    first, naive = (sides.get(heading) or {} for heading in (headings[0] if headings else "", "naive"))
    cells = [
        (
            metric.label,
            *values,
            _against_naive(metric, first.get(metric.key), naive.get(metric.key)),
            good_value(metric, first.get(metric.key)),
        )
        for metric, values in rows
    ]
    console.table(["Metric", *headings, f"{judged} vs naive".strip(), "Good value"], cells, title=title, right=headings)


def _against_naive(metric: Metric, value: float | None, naive: float | None) -> str | Styled:
    match metric.compare(value, naive):
        case None:
            return ""
        case "same":
            return "= same"
        case "better":
            return console.Styled("✓ better", "good")
        case "worse":
            return console.Styled("✗ worse", "bad")


def describe_evidence(name: str, evidence: Evidence) -> str:
    """Return how certain an improvement is, and the smallest one that such a test would find."""
    sentence = (
        f"{name} is better with probability {evidence.probability_better:.2f} on {evidence.num_predictions} posts"
    )
    if not evidence.smallest_detectable_percentage:  # None, or 0 if no two resamples differ
        return sentence
    return f"{sentence}; minimum detectable effect {evidence.smallest_detectable_percentage:.1f}% (80% power)"


def add_skill(model_type: ModelTypeName, sides: Sides) -> Sides:
    """Add to each side its skill over the naive forecast on the same posts."""
    naive = sides.get("naive")
    if not naive:
        return sides
    skill_scores = get_model_type(model_type).skill_scores
    return {
        heading: {**metrics, **skill_scores(dict(metrics), dict(naive))} if metrics and heading != "naive" else metrics
        for heading, metrics in sides.items()
    }


def good_value(metric: Metric, value: float | None) -> str:
    """Return what a good value is, and whether this one is; empty if neither is known."""
    if metric.threshold is None or value is None:
        return ""
    sign, bound = metric.threshold
    wanted = f"{sign} {bound:.0%}" if metric.unit == "share" else f"{sign} {bound:g}"
    is_good = value < bound if sign == "<" else value > bound
    return f"{wanted} {'✓' if is_good else '✗'}"


def _count_forecasts(count: int, origin: OriginRule, posts: str) -> str:
    return f"{count} {posts}" if origin == "post" else f"{count} evenly spaced times"


def _show_descriptions(metrics: Sequence[Metric], values: Mapping[str, Any]) -> None:
    """Print a line about each metric whose label does not explain it."""
    described = [metric for metric in metrics if metric.description and metric.key in values]
    if described:
        console.text("The overall score decides. The other metrics:")
        for metric in described:
            console.text(f"  {metric.label}: {metric.description}")
        console.text()


def _show_differences(differences: Sequence[Difference], name_a: str, name_b: str) -> None:
    if differences:
        rows = [
            (row.situation, str(row.num_predictions), f"{row.score_b:.4f}", f"{row.score_a:.4f}") for row in differences
        ]
        columns = ["Largest differences", "Posts", name_b, name_a]
        console.table(columns, rows, right=columns[1:])


def _show_reliability(rows: Sequence[Reliability]) -> None:
    if rows:
        console.text()
        cells = [(row.what, f"{row.stated:.1%}", f"{row.observed:.1%}", str(row.num_predictions)) for row in rows]
        columns = ["Event", "Stated", "Observed", "Forecasts"]
        title = "Reliability: stated probabilities and observed frequencies"
        console.table(columns, cells, title=title, right=columns[1:])
