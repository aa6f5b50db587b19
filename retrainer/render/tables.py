"""What the commands' results look like to a person; `output` prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrainer import console
from retrainer.model_types import get_model_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from retrainer.algorithms import Importance
    from retrainer.doctor import Finding
    from retrainer.evaluation.bootstrap import Evidence
    from retrainer.evaluation.comparison import Comparison
    from retrainer.evaluation.evaluate import Evaluation
    from retrainer.model_types import ModelTypeName, OriginRule
    from retrainer.model_types.base import Metric, Reliability
    from retrainer.pipeline.forecast import NextPost
    from retrainer.pipeline.results import Failure, RunResult
    from retrainer.pipeline.retention import Prunable
    from retrainer.posts.importer import ImportResult
    from retrainer.posts.store import PostsSummary
    from retrainer.registry.tables import Hold, LedgerEntry, ModelEvaluation, ModelVersion, TrainingRun

REJECTED_SHOWN = 10


def train_outcomes(outcomes: Sequence[RunResult | Failure]) -> None:
    """Show each run's figures and the decision; a failure was told when it happened."""
    from retrainer.pipeline.results import Failure  # noqa: PLC0415  imported by now: it made the outcomes

    for outcome in outcomes:
        if isinstance(outcome, Failure) or outcome.evaluation is None:
            continue
        comparison = outcome.comparison
        if comparison is not None and comparison.metrics_b is not None:
            sides: dict[str, Mapping[str, float] | None] = {
                "new": {**outcome.evaluation.metrics, **comparison.metrics_b},
                "production": comparison.metrics_a,
                "naive": comparison.naive_metrics,
            }
            count = comparison.num_predictions
        else:
            sides = {"new": outcome.evaluation.metrics, "naive": outcome.evaluation.naive_metrics}
            count = outcome.evaluation.num_predictions
        foretold = _foretold(count, outcome.evaluation.window.origin, "test posts")
        title = f"{outcome.model_type.capitalize()}: {outcome.algorithm}, {foretold}"
        _metrics_table(title, get_model_type(outcome.model_type).metrics, _with_skill(outcome.model_type, sides))
        decision = outcome.run.promotion_reason if outcome.run else outcome.decision and outcome.decision.reason
        if comparison is not None:
            _differences(comparison, "production", "new")
            if comparison.evidence is not None:
                console.text(_sureness("The new model", comparison.evidence))
        if outcome.run is None:
            console.text(f"Dry run, nothing is recorded. {decision}")
        else:
            console.text(f"{'Promoted' if outcome.promoted else 'Not promoted'}: {decision}")
        console.text()


def evaluation(version_id: str, made: Evaluation) -> None:
    """Show an evaluation just made."""
    foretold = _foretold(made.num_predictions, made.window.origin, "posts")
    title = f"{version_id}: {foretold} from {_day(made.window.start)} to {_day(made.window.end)}"
    sides = {"version": made.metrics, "naive": made.naive_metrics}
    _metrics_table(title, get_model_type(made.model_type).metrics, sides)
    _legend(get_model_type(made.model_type).metrics, made.metrics)
    console.text(_skill(made.metrics))
    if made.num_predictions < len(made.post_ids):
        console.text(f"{len(made.post_ids) - made.num_predictions} forecasts could not be scored")
    _reliability(made.reliability)


def comparison(made: Comparison) -> None:
    """Show two versions side by side."""
    console.text(f"A: {made.version_a}")
    console.text(f"B: {made.version_b}")
    sides = {"B": made.metrics_b, "A": made.metrics_a, "naive": made.naive_metrics}
    foretold = _foretold(made.num_predictions, made.window.origin if made.window else "post", "posts")
    _metrics_table(foretold, _scores_only(made.model_type), _with_skill(made.model_type, sides))
    _differences(made, "A", "B")
    if made.evidence is not None:
        console.text(_sureness("B", made.evidence))
    if made.costs is not None:
        console.text(f"Cost: A ${made.costs.a:.4f}, B ${made.costs.b:.4f}")
    console.text(f"Winner: {made.winner or 'none'}")
    console.text(f"Recommendation: {made.recommendation.replace('_', ' ')}. {made.reason}")


def history(runs: Sequence[TrainingRun], total: int, changes: Sequence[LedgerEntry]) -> None:
    """Show training runs, and the changes of production."""
    if not runs:
        console.text(
            f"None of {total} training runs" if total else "No training runs. Start one with `retrainer train`"
        )
        return
    rows = [
        (
            _minute(run.started_at),
            run.model_type,
            run.model_version_id or f"- ({run.algorithm})",
            run.status,
            _score(run.test_overall_score),
            _score(run.production_score),
            "yes" if run.promoted_to_production else "no",
            run.promotion_reason or run.error or "",
        )
        for run in runs
    ]
    columns = ["Started (UTC)", "Type", "Version", "Status", "Score", "Production", "Promoted", "Why"]
    console.table(columns, rows, title=f"Training runs ({len(runs)} of {total})", right=["Score", "Production"])
    if changes:
        _ledger("Latest changes of production", changes)


def versions(rows: Sequence[ModelVersion]) -> None:
    """List versions."""
    if not rows:
        console.text("No versions yet. Train one with `retrainer train`")
        return
    cells = [
        (
            row.version_id,
            row.status + (" (pinned)" if row.pinned else ""),
            _minute(row.trained_at),
            str(row.num_training_samples),
            _minute(row.trained_through),
        )
        for row in rows
    ]
    console.table(["Version", "Status", "Trained (UTC)", "Posts", "Trained through (UTC)"], cells, right=["Posts"])


def production(live: Mapping[ModelTypeName, ModelVersion | None], holds: Mapping[ModelTypeName, Hold | None]) -> None:
    """Show what is live."""
    for model_type, row in live.items():
        held = holds[model_type]
        note = f"; automatic promotion on hold since {_minute(held.since)}: {held.reason}" if held else ""
        if row is None:
            console.text(f"{model_type}: none{note}")
        else:
            console.text(
                f"{model_type}: {row.version_id} (promoted {_minute(row.promoted_at)} UTC, "
                f"{row.num_training_samples} posts){note}"
            )


def version(
    row: ModelVersion,
    evaluations: Sequence[ModelEvaluation],
    entries: Sequence[LedgerEntry],
    importance: Sequence[Importance],
) -> None:
    """Show one version's life, and what it leans on."""
    options = ", ".join(f"{key}={value}" for key, value in row.hyperparameters.items() if not isinstance(value, dict))
    facts = [
        ("Version", row.version_id),
        (
            "Status",
            f"{row.status}{', in production' if row.is_production else ''}{', pinned' if row.pinned else ''}",
        ),
        ("Trained", f"{_minute(row.trained_at)} UTC in {row.training_duration_seconds:.1f} s"),
        ("On", f"{row.num_training_samples} posts, the last of {_minute(row.trained_through)} UTC"),
        ("Options", options or "none"),
        ("Files", row.file_path),
    ]
    for label, value in facts:
        console.text(f"{label + ':':<10}{value}")
    console.text()
    _importance(importance)
    for made in evaluations:
        window = made.window
        foretold = _foretold(made.num_predictions, window.get("origin", "post"), "posts")
        title = (
            f"Evaluated {_minute(made.evaluated_at)} UTC on {foretold} "
            f"from {window['start'][:10]} to {window['end'][:10]}"
        )
        sides = {"version": made.metrics, "naive": made.baseline_metrics}
        _metrics_table(title, get_model_type(row.model_type_name).metrics, sides)
    for entry in reversed(entries):
        console.text(_sentence(entry, row.version_id))


def prunable(cases: Sequence[Prunable]) -> None:
    """Show whose files would be deleted, and what that frees."""
    if not cases:
        console.text("No archived version has files to delete")
        return
    rows = [
        (
            case.version.version_id,
            _minute(case.version.trained_at),
            _size(case.bytes_on_disk),
            _size(case.bytes_in_database),
        )
        for case in cases
    ]
    total = ("all", "", _size(sum(c.bytes_on_disk for c in cases)), _size(sum(c.bytes_in_database for c in cases)))
    columns = ["Archived version", "Trained (UTC)", "On disk", "In the database"]
    console.table(columns, [*rows, total], right=columns[2:])


def findings(found: Sequence[Finding]) -> None:
    """Show what `doctor` found."""
    if not found:
        console.text("No problems found")
        return
    for finding in found:
        state = {None: "", True: " (repaired)", False: " (cannot repair: no copy in the database)"}
        console.text(f"{finding.kind}: {finding.message}{state[finding.repaired]}")
    if any(finding.repaired is None for finding in found):
        console.text("Repair them with `retrainer doctor --repair`")


def next_post(forecast: NextPost) -> None:
    """Show the forecast of the next post."""
    console.text(f"By {forecast.version_id}, the last post known: {_minute(forecast.last_post_at)} UTC")
    if forecast.model_type == "content":
        console.text(f"For {_minute(forecast.next_post_at)} UTC:")
        console.text(forecast.text if forecast.text is not None else f"(no text: {forecast.outcome})")
        return
    low, high = forecast.interval_hours or (0.0, 0.0)
    level = _percent(forecast.interval_level or 0.0)
    console.text(f"Next post: {_minute(forecast.next_post_at)} UTC, in {forecast.point_hours:.1f} h")
    console.text(f"Median {forecast.median_hours:.1f} h; {level} interval from {low:.1f} to {high:.1f} h")
    shares = ", ".join(f"{hours} h: {share:.0%}" for hours, share in (forecast.probability or {}).items())
    console.text(f"Probability of a post within {shares}")


def imported(result: ImportResult) -> None:
    """Show what an import did."""
    file = result.file
    console.text("Columns: " + ", ".join(f"{ours} from '{theirs}'" for ours, theirs in file.mapping.items()))
    there = len(file.posts) - result.added
    console.text(
        f"Read {file.rows} rows: {result.added} posts added, {there} already there, {file.repeated} repeated, "
        f"{len(file.rejected)} rejected"
    )
    for row in file.rejected[:REJECTED_SHOWN]:
        console.text(f"  line {row.line}: {row.reason}")
    if len(file.rejected) > REJECTED_SHOWN:
        console.text(f"  and {len(file.rejected) - REJECTED_SHOWN} more (--json lists all)")


def posts(summary: PostsSummary, place: str) -> None:
    """Show how many posts there are."""
    if not summary.count:
        console.text(f"0 posts in {place}")
        return
    console.text(
        f"{summary.count} posts, {summary.with_content} with text, from {_minute(summary.first)} to "
        f"{_minute(summary.last)} UTC, in {place}"
    )


def _sentence(entry: LedgerEntry, version_id: str) -> str:
    """Tell one decision about a version, with the figures behind it."""
    how = "automatically, " if entry.automatic else ""
    who = f"({how}{entry.actor})"
    replaced = f", replacing {entry.from_version_id}" if entry.from_version_id else ""
    if version_id not in {entry.version_id, entry.to_version_id}:
        what = f"went out of production: {entry.action} of {entry.to_version_id}"
    elif entry.action in {"promotion", "rollback"} and entry.to_version_id == version_id:
        what = f"went into production by {entry.action}{replaced}"
    elif entry.action == "rejection":
        what = "was not promoted"
    else:
        what = {
            "archive": "was archived",
            "restore": "was restored",
            "prune": "lost its files",
            "pin": "was pinned",
        }.get(entry.action, "was unpinned")
    return f"{_minute(entry.recorded_at)} UTC: it {what} {who}. {entry.reason.rstrip('.')}{_figures(entry.evidence)}."


def _figures(evidence: Mapping[str, Any]) -> str:
    """Return the scores that a decision rested on."""
    old, new, naive = (evidence.get(key) for key in ("metrics_a", "metrics_b", "baseline_metrics"))
    if not (old and new and naive):
        return ""
    scores = f"{new['overall_score']:.4f} against {old['overall_score']:.4f}, naive {naive['overall_score']:.4f}"
    return f": {scores}, on the same {evidence['num_predictions']} posts"


def _ledger(title: str, entries: Sequence[LedgerEntry]) -> None:
    rows = [
        (
            _minute(entry.recorded_at),
            entry.model_type,
            entry.action,
            entry.from_version_id or "-",
            entry.to_version_id or "-",
            entry.actor + (" (automatic)" if entry.automatic else ""),
            entry.reason,
        )
        for entry in entries
    ]
    console.table(["When (UTC)", "Type", "What", "From", "To", "Who", "Why"], rows, title=title)


def _differences(made: Comparison, name_a: str, name_b: str) -> None:
    """Show where the two differ most."""
    if not made.differences:
        return
    rows = [
        (one.situation, str(one.num_predictions), f"{one.score_b:.4f}", f"{one.score_a:.4f}")
        for one in made.differences
    ]
    columns = ["Where they differ most", "Posts", name_b, name_a]
    console.table(columns, rows, right=columns[1:])


def _sureness(name: str, evidence: Evidence) -> str:
    """Say how sure the improvement is, and how small a one could have been seen."""
    sentence = f"{name} is better with probability {evidence.probability_better:.2f}"
    if not evidence.smallest_detectable_percentage:  # None, or 0: no resample differed, so nothing is known of smaller
        return sentence
    return (
        f"{sentence}; an improvement of {evidence.smallest_detectable_percentage:.1f}% would have shown on such posts "
        f"in 8 of 10 cases"
    )


def _metrics_table(title: str, metrics: Sequence[Metric], sides: Mapping[str, Mapping[str, float] | None]) -> None:
    """Print figures side by side, beside the good values.

    Args:
        title: a line above the table.
        metrics: the metrics to show; one that no side has is left out.
        sides: the metrics by heading, such as `new`, `production`, `naive`.
    """
    present = {heading: values for heading, values in sides.items() if values}
    rows = [
        (
            metric.label,
            *(metric.format(values.get(metric.key)) for values in present.values()),
            _good_value(metric, next(iter(present.values()), {}).get(metric.key)),
        )
        for metric in metrics
        if any(metric.has_value(values.get(metric.key)) for values in present.values())
    ]
    console.table(["Metric", *present, "Good value"], rows, title=title, right=list(present))


def _good_value(metric: Metric, value: float | None) -> str:
    if metric.threshold is None or value is None:
        return ""
    sign, bound = metric.threshold
    wanted = f"{sign} {bound:.0%}" if metric.unit == "share" else f"{sign} {bound:g}"
    return f"{wanted} {'✓' if metric.is_good(value) else '✗'}"


def _legend(metrics: Sequence[Metric], shown: Mapping[str, Any]) -> None:
    """Say in a line each what the figures beside the score mean, where they do not say so by their name."""
    explained = [metric for metric in metrics if metric.description and metric.key in shown]
    if not explained:
        return
    console.text("The overall score decides. Beside it:")
    for metric in explained:
        console.text(f"  {metric.label}: {metric.description}")
    console.text()


def _scores_only(model_type: ModelTypeName) -> tuple[Metric, ...]:
    """Return the metrics that are scores; what a side cost is not part of a comparison's figures."""
    return tuple(metric for metric in get_model_type(model_type).metrics if metric.unit not in {"count", "dollars"})


def _with_skill(
    model_type: ModelTypeName, sides: Mapping[str, Mapping[str, float] | None]
) -> dict[str, Mapping[str, float] | None]:
    """Add to each side its skill against the naive forecast on the very posts shown; none is said of that itself."""
    naive = sides.get("naive")
    if not naive:
        return dict(sides)
    return {
        heading: {**metrics, **get_model_type(model_type).skill_scores(dict(metrics), dict(naive))}
        if metrics and heading != "naive"
        else metrics
        for heading, metrics in sides.items()
    }


def _foretold(count: int, origin: OriginRule, posts: str) -> str:
    """Say how many forecasts were made, and from where."""
    return f"{count} {posts}" if origin == "post" else f"{count} evenly spaced times"


def _reliability(rows: Sequence[Reliability]) -> None:
    """Show stated probabilities beside what came."""
    if not rows:
        return
    console.text()
    cells = [(row.what, f"{row.stated:.1%}", f"{row.observed:.1%}", str(row.num_predictions)) for row in rows]
    columns = ["Stated of each forecast", "Stated", "Observed", "Forecasts"]
    console.table(columns, cells, title="Reliability: what was stated, and how often it came true", right=columns[1:])


def _importance(rows: Sequence[Importance]) -> None:
    """Show what a version leans on, where its algorithm says so."""
    if rows:
        cells = [(row.label, f"{row.value:.4g}", row.unit, row.note) for row in rows]
        console.table(["What the forecast leans on", "", "Unit", "Note"], cells, right=[""])


def _percent(share: float) -> str:
    """Write 0.8 as 80% and 0.975 as 97.5%."""
    return f"{share * 100:.4g}%"


def _skill(metrics: Mapping[str, Any]) -> str:
    skill = metrics["skill"]
    word = "better than" if skill > 0 else "no better than" if skill == 0 else "worse than"
    return f"Skill {skill:+.3f}: {word} the naive forecast (0 is as good, 1 is perfect)"


def _size(count: int) -> str:
    return f"{count / 1024:.1f} KiB" if count < 1024 * 1024 else f"{count / 1024 / 1024:.1f} MiB"


def _minute(value: datetime | None) -> str:
    return "-" if value is None else f"{value:%Y-%m-%d %H:%M}"


def _day(value: datetime) -> str:
    return f"{value:%Y-%m-%d}"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
