"""What is recorded, as tables and lines for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrainer import console
from retrainer.render.scores import show_recorded_evaluation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from retrainer.algorithms import Importance
    from retrainer.doctor import Finding
    from retrainer.model_types import ModelTypeName
    from retrainer.pipeline.retention import Prunable
    from retrainer.posts.store import PostsSummary
    from retrainer.registry.tables import Hold, LedgerEntry, ModelEvaluation, ModelVersion, TrainingRun

MAX_REJECTED_SHOWN = 10

# What happened to a version, by the action of the ledger entry.
_EVENTS = {
    "promotion": "was promoted to production",
    "rollback": "was put back into production",
    "rejection": "was not promoted",
    "archive": "was archived",
    "restore": "was restored",
    "prune": "was pruned: its files were deleted",
    "pin": "was pinned",
    "unpin": "was unpinned",
    "import": "was imported",
}


def show_history(runs: Sequence[TrainingRun], total: int, changes: Sequence[LedgerEntry]) -> None:
    """Print training runs, and the latest changes of production."""
    if not runs:
        empty = "No training runs. Start one with `retrainer train`"
        console.text(f"No training runs on this page, {total} in all" if total else empty)
        return
    rows = [
        (
            _format_minute(run.started_at),
            run.model_type,
            run.model_version_id or f"- ({run.algorithm})",
            run.status,
            _format_score(run.test_overall_score),
            _format_score(run.production_score),
            "yes" if run.promoted_to_production else "no",
            run.promotion_reason or run.error or "",
        )
        for run in runs
    ]
    columns = ["Started (UTC)", "Type", "Version", "Status", "Score", "Production", "Promoted", "Reason"]
    console.table(columns, rows, title=f"Training runs ({len(runs)} of {total})", right=["Score", "Production"])
    if changes:
        _show_changes(changes)


def _show_changes(entries: Sequence[LedgerEntry]) -> None:
    rows = [
        (
            _format_minute(entry.recorded_at),
            entry.model_type,
            entry.action,
            entry.from_version_id or "-",
            entry.to_version_id or "-",
            entry.actor + (" (automatic)" if entry.automatic else ""),
            entry.reason,
        )
        for entry in entries
    ]
    columns = ["Time (UTC)", "Type", "Action", "From", "To", "Actor", "Reason"]
    console.table(columns, rows, title="Latest changes of production")


def show_versions(versions: Sequence[ModelVersion]) -> None:
    """Print a list of versions."""
    if not versions:
        console.text("No versions yet. Train one with `retrainer train`")
        return
    rows = [
        (
            version.version_id,
            version.status + (" (pinned)" if version.pinned else ""),
            _format_minute(version.trained_at),
            str(version.num_training_samples),
            _format_minute(version.trained_through),
        )
        for version in versions
    ]
    console.table(["Version", "Status", "Trained (UTC)", "Posts", "Trained through (UTC)"], rows, right=["Posts"])


def show_production(
    versions: Mapping[ModelTypeName, ModelVersion | None], holds: Mapping[ModelTypeName, Hold | None]
) -> None:
    """Print the production version of each model type, and whether automatic promotion is on hold."""
    for model_type, version in versions.items():
        hold = holds[model_type]
        note = f"; automatic promotion on hold since {_format_minute(hold.since)}: {hold.reason}" if hold else ""
        if version is None:
            console.text(f"{model_type}: none{note}")
        else:
            refit = version.refit
            posts = (
                f"fitted again on {refit.num_samples} posts through {_format_minute(refit.through)} UTC"
                if refit
                else f"{version.num_training_samples} posts"
            )
            console.text(
                f"{model_type}: {version.version_id} (promoted {_format_minute(version.promoted_at)} UTC, "
                f"{posts}){note}"
            )


def show_run(run: TrainingRun) -> None:
    """Print what is recorded about a run."""
    taken = "" if run.completed_at is None else f", took {(run.completed_at - run.started_at).total_seconds():.1f} s"
    for label, value in (
        ("Run", run.run_id),
        ("Type", f"{run.model_type}, by {run.algorithm}"),
        ("Status", run.status),
        ("Started", f"{_format_minute(run.started_at)} UTC{taken}"),
        ("As of", None if run.as_of is None else f"{_format_minute(run.as_of)} UTC"),
        (
            "Posts",
            None if run.num_test_samples is None else f"{run.num_training_samples} train, {run.num_test_samples} test",
        ),
        ("Version", run.model_version_id),
        ("Compared", run.compared_with),
        ("Score", None if run.test_overall_score is None else _format_score(run.test_overall_score)),
        ("Production", None if run.production_score is None else _format_score(run.production_score)),
        ("Promoted", "yes" if run.promoted_to_production else "no"),
        ("Cost", f"{run.cost_usd:.4f} USD, {run.tokens} tokens" if run.cost_usd else None),
        ("Reason", run.promotion_reason),
        ("Error", run.error),
    ):
        if value is not None:
            console.text(f"{label + ':':<12}{value}")


def show_version(
    version: ModelVersion,
    evaluations: Sequence[ModelEvaluation],
    entries: Sequence[LedgerEntry],
    importance: Sequence[Importance],
) -> None:
    """Print everything about a version: training, feature importance, scores, decisions."""
    options = ", ".join(
        f"{name}={value}" for name, value in version.hyperparameters.items() if not isinstance(value, dict)
    )
    state = f"{', in production' if version.is_production else ''}{', pinned' if version.pinned else ''}"
    for label, value in (
        ("Version", version.version_id),
        ("Status", version.status + state),
        ("Trained", f"{_format_minute(version.trained_at)} UTC in {version.training_duration_seconds:.1f} s"),
        ("Posts", f"{version.num_training_samples}, the last at {_format_minute(version.trained_through)} UTC"),
        *(
            [("Live fit", f"{refit.num_samples} posts, the last at {_format_minute(refit.through)} UTC")]
            if (refit := version.refit)
            else []
        ),
        ("Options", options or "none"),
        ("Files", version.file_path),
    ):
        console.text(f"{label + ':':<10}{value}")
    console.text()
    if importance:
        rows = [(row.label, f"{row.value:.4g}", row.unit, row.note) for row in importance]
        console.table(["Feature importance", "Value", "Unit", "Note"], rows, right=["Value"])
    for evaluation in evaluations:
        show_recorded_evaluation(version.model_type_name, evaluation)
    for entry in reversed(entries):
        console.text(_describe_entry(entry, version.version_id))


def _describe_entry(entry: LedgerEntry, version_id: str) -> str:
    """Return a sentence about what happened to a version, with the scores behind it."""
    if version_id not in {entry.version_id, entry.to_version_id}:
        event = f"was replaced by {entry.to_version_id} ({entry.action})"
    elif entry.action in {"promotion", "rollback"} and entry.from_version_id:
        event = f"{_EVENTS[entry.action]}, replacing {entry.from_version_id}"
    else:
        event = _EVENTS[entry.action]
    actor = f"({'automatically, ' if entry.automatic else ''}{entry.actor})"
    reason = f"{entry.reason.rstrip('.')}{_format_scores(entry.evidence)}."
    return f"{_format_minute(entry.recorded_at)} UTC: it {event} {actor}. {reason}"


def _format_scores(evidence: Mapping[str, Any]) -> str:
    old, new, naive = (evidence.get(key) for key in ("metrics_a", "metrics_b", "baseline_metrics"))
    if not (old and new and naive):
        return ""
    scores = f"{new['overall_score']:.4f} against {old['overall_score']:.4f}, naive {naive['overall_score']:.4f}"
    return f": {scores}, on the same {evidence['num_predictions']} posts"


def show_prunable(prunable: Sequence[Prunable]) -> None:
    """Print the versions whose files would be deleted, and how much space that frees."""
    if not prunable:
        console.text("No archived version has files to delete")
        return
    rows = [
        (
            item.version.version_id,
            _format_minute(item.version.trained_at),
            _format_size(item.bytes_on_disk),
            _format_size(item.bytes_in_database),
        )
        for item in prunable
    ]
    on_disk, in_database = sum(p.bytes_on_disk for p in prunable), sum(p.bytes_in_database for p in prunable)
    total = ("Total", "", _format_size(on_disk), _format_size(in_database))
    columns = ["Archived version", "Trained (UTC)", "On disk", "In the database"]
    console.table(columns, [*rows, total], right=columns[2:])


def show_findings(findings: Sequence[Finding]) -> None:
    """Print what `doctor` found."""
    if not findings:
        console.text("No problems found")
        return
    for finding in findings:
        state = {None: "", True: " (repaired)", False: " (not repaired)"}
        console.text(f"{finding.kind}: {finding.message}{state[finding.repaired]}")
    if any(finding.repaired is None for finding in findings):
        console.text("Repair them with `retrainer doctor --repair`")


def show_posts(summary: PostsSummary, location: str) -> None:
    """Print how many posts there are."""
    if not summary.count:
        console.text(f"0 posts in {location}")
        return
    console.text(
        f"{summary.count} posts, {summary.with_content} with text, from {_format_minute(summary.first)} to "
        f"{_format_minute(summary.last)} UTC, in {location}"
    )


def _format_minute(time: datetime | None) -> str:
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M}"


def _format_score(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"


def _format_size(size: int) -> str:
    return f"{size / 1024:.1f} KiB" if size < 1024 * 1024 else f"{size / 1024 / 1024:.1f} MiB"
