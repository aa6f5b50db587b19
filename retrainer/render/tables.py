"""What is recorded, as tables and lines for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrainer import console
from retrainer.posts.validation import number
from retrainer.render.cells import (
    format_actor,
    format_id,
    format_minute,
    format_moment,
    format_result,
    format_score,
    format_size,
    format_stream,
    moment_heading,
)
from retrainer.render.explanations import show_explanation, show_importance
from retrainer.render.ledger import describe_event, describe_reason, flatten_options
from retrainer.render.scores import show_recorded_evaluation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retrainer.algorithms import Importance
    from retrainer.console import Styled
    from retrainer.doctor import Finding
    from retrainer.live.summary import Score
    from retrainer.model_types import ModelTypeName
    from retrainer.pipeline.retention import Prunable
    from retrainer.posts.store import PostsSummary
    from retrainer.registry.tables import (
        Hold,
        LedgerEntry,
        ModelEvaluation,
        ModelExplanation,
        ModelVersion,
        TrainingRun,
    )
    from retrainer.render.documents.project import PluginDocument

MAX_REJECTED_SHOWN = 10


def show_history(
    runs: Sequence[TrainingRun],
    total: int,
    changes: Sequence[LedgerEntry],
    live: Mapping[str, Score],
    short_ids: Mapping[str, str],
    *,
    with_stream: bool,
) -> None:
    """Print training runs, and the latest changes of production.

    Args:
        live: the live scores of versions that have any.
        with_stream: whether to show the stream of each run.
    """
    if not runs:
        empty = "No training runs. Start one with `retrainer train`"
        console.text(f"No training runs on this page, {total} in all" if total else empty)
        return
    rows: list[tuple[str | Styled, ...]] = [
        (
            format_id(run.run_id, short_ids),
            format_moment(run.started_at),
            *([format_stream(run.stream)] if with_stream else []),
            run.model_type,
            format_id(run.model_version_id, short_ids),
            format_score(run.test_overall_score),
            format_score(run.production_score),
            *([_format_live(live.get(run.model_version_id or ""))] if live else []),
            format_result(run),
            run.promotion_reason or run.error or "",
        )
        for run in runs
    ]
    columns = ["Run", moment_heading("Started"), *_stream_heading(with_stream), "Type", "Version", "Score"]
    columns += ["Production", *(["Live"] if live else []), "Result", "Reason"]
    title = f"Training runs ({len(runs)} of {total})"
    scores = ["Score", "Production", "Live"]
    console.table(columns, rows, title=title, right=scores, optional=["Production"], cut=True)
    if changes:
        _show_changes(changes, short_ids, with_stream=with_stream)


def _format_live(score: Score | None) -> str:
    return format_score(score and score.score)


def _stream_heading(with_stream: bool) -> list[str]:
    return ["Stream"] if with_stream else []


def _show_changes(entries: Sequence[LedgerEntry], short_ids: Mapping[str, str], *, with_stream: bool) -> None:
    rows = [
        (
            format_moment(entry.recorded_at),
            *([format_stream(entry.stream)] if with_stream else []),
            entry.model_type,
            entry.action,
            format_id(entry.from_version_id, short_ids),
            format_id(entry.to_version_id, short_ids),
            format_actor(entry.actor, automatic=entry.automatic),
            entry.reason,
        )
        for entry in entries
    ]
    columns = [moment_heading("Time"), *_stream_heading(with_stream), "Type", "Action", "From", "To", "Actor", "Reason"]
    console.table(columns, rows, title="Latest changes of production", cut=True)


def show_versions(versions: Sequence[ModelVersion], short_ids: Mapping[str, str], *, with_stream: bool) -> None:
    """Print a list of versions; `with_stream`, with the stream of each."""
    if not versions:
        console.text("No versions yet. Train one with `retrainer train`")
        return
    rows = [
        (
            format_id(version.version_id, short_ids),
            *([format_stream(version.stream)] if with_stream else []),
            version.model_type,
            version.algorithm,
            _format_status(version),
            format_moment(version.trained_at),
            str(version.num_training_samples),
            format_moment(version.trained_through),
        )
        for version in versions
    ]
    columns = ["Version", *_stream_heading(with_stream), "Type", "Algorithm", "Status", moment_heading("Trained")]
    columns.append("Posts")
    console.table([*columns, moment_heading("Last post")], rows, right=["Posts"])


def _format_status(version: ModelVersion) -> Styled | str:
    status = version.status + (" (pinned)" if version.pinned else "")
    if version.is_production:
        return console.Styled(status, "good")
    return console.Styled(status, "bad") if version.status == "failed" else status


def show_productions(versions: Sequence[ModelVersion], holds: Sequence[Hold], short_ids: Mapping[str, str]) -> None:
    """Print the production versions of several streams, and what is on hold."""
    if not versions:
        console.text("No version is in production")
    else:
        on_hold = {(hold.stream, hold.model_type) for hold in holds}
        rows: list[tuple[str | Styled, ...]] = [
            (
                format_stream(version.stream),
                version.model_type,
                *_production_cells(version, short_ids),
                console.Styled("on hold", "warning") if version.model_key in on_hold else "",
            )
            for version in versions
        ]
        columns = ["Stream", "Type", "Version", "Algorithm", moment_heading("Promoted"), "Fit", "Posts"]
        columns += [moment_heading("Last post"), "Hold"]
        console.table(columns, rows, right=["Posts"], optional=["Fit", "Posts"])


def show_production(
    versions: Mapping[ModelTypeName, ModelVersion | None],
    holds: Mapping[ModelTypeName, Hold | None],
    short_ids: Mapping[str, str],
) -> None:
    """Print the production version of each model type, and whether automatic promotion is on hold."""
    rows = [
        (
            model_type,
            *(("none", "-", "-", "-", "-", "-") if version is None else _production_cells(version, short_ids)),
        )
        for model_type, version in versions.items()
    ]
    columns = ["Type", "Version", "Algorithm", moment_heading("Promoted"), "Fit", "Posts", moment_heading("Last post")]
    console.table(columns, rows, right=["Posts"])
    for model_type, hold in holds.items():
        if hold is not None:
            since = f"{format_minute(hold.since)} UTC"
            note = f"Automatic promotion of {model_type} is on hold since {since}: {hold.reason}"
            console.paragraph(console.Styled(note, "warning"))


def _production_cells(version: ModelVersion, short_ids: Mapping[str, str]) -> tuple[str, ...]:
    """Return the cells about a production version; its posts are those of the fit that serves."""
    refit = version.refit
    return (
        format_id(version.version_id, short_ids),
        version.algorithm,
        format_moment(version.promoted_at),
        "live" if refit else "evaluated",
        str(refit.num_samples if refit else version.num_training_samples),
        format_moment(refit.through if refit else version.trained_through),
    )


def show_run(run: TrainingRun, *, with_stream: bool) -> None:
    """Print what is recorded about a run."""
    taken = "" if run.completed_at is None else f", took {(run.completed_at - run.started_at).total_seconds():.1f} s"
    for label, value in (
        ("Run", run.run_id),
        ("Stream", run.stream if with_stream else None),
        ("Type", f"{run.model_type}, by {run.algorithm}"),
        ("Status", run.status),
        ("Started", f"{format_minute(run.started_at)} UTC{taken}"),
        ("As of", None if run.as_of is None else f"{format_minute(run.as_of)} UTC"),
        (
            "Posts",
            None if run.num_test_samples is None else f"{run.num_training_samples} train, {run.num_test_samples} test",
        ),
        ("Version", run.model_version_id),
        ("Compared", run.compared_with),
        ("Score", None if run.test_overall_score is None else format_score(run.test_overall_score)),
        ("Production", None if run.production_score is None else format_score(run.production_score)),
        ("Promoted", "yes" if run.promoted_to_production else "no"),
        ("Cost", f"{run.cost_usd:.4f} USD, {run.tokens} tokens" if run.cost_usd else None),
        ("Reason", run.promotion_reason),
        ("Error", run.error),
    ):
        if value is not None:
            console.paragraph(f"{label + ':':<12}{value}")


def show_version(
    version: ModelVersion,
    evaluations: Sequence[ModelEvaluation],
    entries: Sequence[LedgerEntry],
    importance: Sequence[Importance],
    live: Score | None,
    explanation: ModelExplanation | None = None,
    *,
    with_stream: bool,
) -> None:
    """Print everything about a version: training, what its forecasts depend on, scores, decisions.

    Args:
        live: its score on live posts; None without any.
        explanation: the latest; None without any.
    """
    options = ", ".join(f"{name}: {value}" for name, value in flatten_options(version.hyperparameters))
    state = f"{', in production' if version.is_production else ''}{', pinned' if version.pinned else ''}"
    for label, value in (
        ("Version", version.version_id),
        *([("Stream", version.stream)] if with_stream else []),
        ("Status", version.status + state),
        ("Trained", f"{format_minute(version.trained_at)} UTC in {version.training_duration_seconds:.1f} s"),
        ("Posts", f"{version.num_training_samples}, the last at {format_minute(version.trained_through)} UTC"),
        *(
            [("Live fit", f"{refit.num_samples} posts, the last at {format_minute(refit.through)} UTC")]
            if (refit := version.refit)
            else []
        ),
        *([("Live", f"score {format_score(live.score)} on {number(live.num_posts, 'live post')}")] if live else []),
        ("Options", options or "none"),
        ("Files", version.file_path),
    ):
        console.paragraph(f"{label + ':':<10}{value}")
    console.text()
    show_importance(importance)
    if explanation is not None:
        show_explanation(explanation)
    shown: list[Any] = []
    for evaluation in evaluations:
        result = (evaluation.window, evaluation.metrics, evaluation.baseline_metrics)
        if result not in shown:  # another run may have scored it on the same posts
            shown.append(result)
            show_recorded_evaluation(version.model_type_name, evaluation)
    for entry in reversed(entries):
        console.paragraph(_describe_entry(entry, version.version_id))


def _describe_entry(entry: LedgerEntry, version_id: str) -> str:
    """Return a sentence about what happened to a version, with the scores behind it."""
    actor = f"({'automatically, ' if entry.automatic else ''}{entry.actor})"
    event = describe_event(entry, version_id)
    return f"{format_minute(entry.recorded_at)} UTC: it {event} {actor}. {describe_reason(entry)}"


def show_prunable(prunable: Sequence[Prunable], short_ids: Mapping[str, str], *, with_stream: bool) -> None:
    """Print the versions whose files would be deleted, and how much space that frees."""
    if not prunable:
        console.text("No archived version has files to delete")
        return
    rows = [
        (
            format_id(item.version.version_id, short_ids),
            *([format_stream(item.version.stream)] if with_stream else []),
            item.version.model_type,
            item.version.algorithm,
            format_moment(item.version.trained_at),
            format_size(item.bytes_on_disk),
            format_size(item.bytes_in_database),
        )
        for item in prunable
    ]
    on_disk, in_database = sum(p.bytes_on_disk for p in prunable), sum(p.bytes_in_database for p in prunable)
    columns = ["Archived version", *_stream_heading(with_stream), "Type", "Algorithm", moment_heading("Trained")]
    total = ("Total", *([""] * (len(columns) - 1)), format_size(on_disk), format_size(in_database))
    sizes = ["On disk", "In the database"]
    console.table([*columns, *sizes], [*rows, total], right=sizes)


def show_plugins(plugins: Sequence[PluginDocument]) -> None:
    """Print the installed plugins, the broken ones first."""
    rows = [
        (
            plugin.name,
            plugin.kind,
            " ".join(plugin.model_types) or "-",
            f"{plugin.distribution} {plugin.version}",
            console.Styled(plugin.status, "bad" if plugin.problem else "good"),
            plugin.problem or plugin.summary or "",
        )
        for plugin in sorted(plugins, key=lambda plugin: plugin.problem is None)
    ]
    console.table(["Name", "Kind", "Types", "Package", "Status", "Summary"], rows, optional=["Package"])


def show_findings(findings: Sequence[Finding]) -> None:
    """Print what `doctor` found."""
    if not findings:
        console.text("No problems found")
        return
    for finding in findings:
        state = {None: "", True: " (repaired)", False: " (not repaired)" if finding.repairable else ""}
        sentences = f"{finding.message}. {finding.hint}" if finding.hint else finding.message
        console.text(f"{finding.kind}: {sentences}{state[finding.repaired]}")
    if any(finding.repaired is None and finding.repairable for finding in findings):
        console.text("Repair them with `retrainer doctor --repair`")


def show_posts(summary: PostsSummary, location: str) -> None:
    """Print how many posts there are."""
    if not summary.count:
        console.text(f"0 posts in {location}")
        return
    console.text(
        f"{number(summary.count, 'post')}, {summary.with_content} with text, from {format_minute(summary.first)} to "
        f"{format_minute(summary.last)} UTC, in {location}"
    )
