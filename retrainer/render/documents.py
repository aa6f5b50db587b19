"""The JSON documents, in the specification's shapes; the command line and the REST API share them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retrainer.algorithms import Importance
    from retrainer.algorithms.events import PluginStatus
    from retrainer.doctor import Finding
    from retrainer.evaluation.comparison import Comparison
    from retrainer.evaluation.evaluate import Evaluation
    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.base import Reliability
    from retrainer.pipeline.forecast import NextPost
    from retrainer.pipeline.results import Failure, RunResult
    from retrainer.pipeline.retention import Prunable
    from retrainer.posts.importer import ImportResult
    from retrainer.posts.store import PostsSummary
    from retrainer.registry.promotions import Change
    from retrainer.registry.tables import LedgerEntry, ModelEvaluation, ModelVersion, TrainingRun

Document = dict[str, Any]


def moment(value: datetime | None) -> str | None:
    """Write a time as in 2025-11-06T12:00:00Z."""
    return None if value is None else f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def doctor_document(findings: Sequence[Finding]) -> Document:
    """List what `doctor` found."""
    rows = [
        {"kind": found.kind, "subject": found.subject, "message": found.message, "mended": found.repaired}
        for found in findings
    ]
    return {"findings": rows, "count": len(rows)}


def prune_document(versions: Sequence[Prunable], *, dry_run: bool) -> Document:
    """List the versions whose files were pruned, or would be."""
    return {
        "dry_run": dry_run,
        "versions": [
            {
                "version_id": case.version.version_id,
                "bytes_on_disk": case.bytes_on_disk,
                "bytes_in_database": case.bytes_in_database,
            }
            for case in versions
        ],
        "count": len(versions),
    }


def version_document(version: ModelVersion) -> Document:
    """Describe one version."""
    return {
        "version_id": version.version_id,
        "model_type": version.model_type,
        "algorithm": version.algorithm,
        "trained_at": moment(version.trained_at),
        "status": version.status,
        "is_production": version.is_production,
        "promoted_at": moment(version.promoted_at),
        "num_training_samples": version.num_training_samples,
        "training_duration_seconds": version.training_duration_seconds,
        "trained_through": moment(version.trained_through),
        "trained_through_post_id": version.trained_through_post_id,
        "hyperparameters": version.hyperparameters,
        "file_path": version.file_path,
        "pinned": version.pinned,
        "pruned_at": moment(version.pruned_at),
    }


def versions_document(versions: Sequence[ModelVersion]) -> Document:
    """List versions."""
    return {"versions": [version_document(version) for version in versions], "count": len(versions)}


def production_document(production: Mapping[ModelTypeName, ModelVersion | None]) -> Document:
    """Say what is live, by model type; null where nothing is."""
    return {
        f"{model_type}_model": None if version is None else version_document(version)
        for model_type, version in production.items()
    }


def run_document(run: TrainingRun) -> Document:
    """Describe one training run."""
    return {
        "run_id": run.run_id,
        "model_type": run.model_type,
        "algorithm": run.algorithm,
        "model_version_id": run.model_version_id,
        "started_at": moment(run.started_at),
        "completed_at": moment(run.completed_at),
        "duration_seconds": run.duration_seconds,
        "as_of": moment(run.as_of),
        "status": run.status,
        "num_training_samples": run.num_training_samples,
        "num_test_samples": run.num_test_samples,
        "test_mae_hours": run.test_mae_hours,
        "test_within_6h_accuracy": run.test_within_6h_accuracy,
        "test_overall_score": run.test_overall_score,
        "compared_with": run.compared_with,
        "production_score": run.production_score,
        "promoted_to_production": run.promoted_to_production,
        "improvement_percentage": run.improvement_percentage,
        "promotion_reason": run.promotion_reason,
        "error": run.error,
        "tokens": run.tokens,
        "cost_usd": run.cost_usd,
        "refusals": run.refusals,
    }


def ledger_document(entry: LedgerEntry) -> Document:
    """Describe one decision."""
    return {
        "at": moment(entry.at),
        "recorded_at": moment(entry.recorded_at),
        "model_type": entry.model_type,
        "action": entry.action,
        "version_id": entry.version_id,
        "from_version_id": entry.from_version_id,
        "to_version_id": entry.to_version_id,
        "actor": entry.actor,
        "automatic": entry.automatic,
        "reason": entry.reason,
        "run_id": entry.run_id,
        "evidence": entry.evidence,
    }


def version_detail_document(
    version: ModelVersion,
    evaluations: Sequence[tuple[ModelEvaluation, Sequence[Reliability]]],
    entries: Sequence[LedgerEntry],
    importance: Sequence[Importance],
) -> Document:
    """Describe one version: its evaluations and the decisions about it, the newest first, and what it leans on."""
    return {
        **version_document(version),
        "evaluations": [recorded_evaluation_document(row, reliability) for row, reliability in evaluations],
        "ledger": [ledger_document(entry) for entry in entries],
        "importance": [asdict(one) for one in importance],
    }


def history_document(runs: Sequence[TrainingRun], total: int, changes: Sequence[LedgerEntry]) -> Document:
    """List training runs, of how many there are, and the latest changes of production, whichever runs are asked for."""
    return {
        "training_runs": [run_document(run) for run in runs],
        "count": len(runs),
        "total": total,
        "changes": [ledger_document(entry) for entry in changes],
    }


def evaluation_document(version_id: str | None, evaluation: Evaluation) -> Document:
    """Describe an evaluation just made."""
    return _evaluation(
        version_id,
        evaluation.metrics,
        evaluation.naive_metrics,
        {**evaluation.window.document(), "post_ids": evaluation.post_ids},
        evaluation.reliability,
    )


def recorded_evaluation_document(row: ModelEvaluation, reliability: Sequence[Reliability]) -> Document:
    """Describe an evaluation as recorded, with its sample of forecasts."""
    window = {"origin": "post", **row.window}  # the only rule when none was recorded
    document = _evaluation(row.model_version_id, row.metrics, row.baseline_metrics, window, reliability)
    return {
        "evaluation_id": row.evaluation_id,
        "run_id": row.run_id,
        "evaluated_at": moment(row.evaluated_at),
        **document,
        "forecasts_file": row.forecasts_file,
        "predictions_json": row.predictions_json,
    }


def _evaluation(
    version_id: str | None,
    metrics: Document,
    baseline: Document,
    window: Document,
    reliability: Sequence[Reliability],
) -> Document:
    return {
        "version_id": version_id,
        "metrics": metrics,
        "baseline": {"metrics": baseline},
        "num_predictions": metrics["num_predictions"],
        "window": window,
        "reliability": [asdict(row) for row in reliability],
    }


def comparison_document(comparison: Comparison) -> Document:
    """Describe a comparison: version b against version a."""

    def side(version_id: str, metrics: dict[str, float] | None) -> Document:
        return {"version_id": version_id, "score": metrics and metrics["overall_score"], "metrics": metrics}

    return {
        "version_a": side(comparison.version_a, comparison.metrics_a),
        "version_b": side(comparison.version_b, comparison.metrics_b),
        "baseline": {"metrics": comparison.naive_metrics},
        "winner": comparison.winner,
        "improvement_percentage": comparison.improvement_percentage,
        "recommendation": comparison.recommendation,
        "reason": comparison.reason,
        "num_predictions": comparison.num_predictions,
        "window": comparison.window.document() if comparison.window else None,
        "evidence": comparison.evidence.document() if comparison.evidence else None,
        "cost_usd": comparison.costs._asdict() if comparison.costs else None,
        "differences": [asdict(difference) for difference in comparison.differences],
    }


def train_document(outcomes: Sequence[RunResult | Failure]) -> Document:
    """Describe what `train` did: its runs, each with its evaluation and comparison, and the errors."""
    from retrainer.pipeline.results import Failure  # noqa: PLC0415  imported by now: it made the outcomes

    runs: list[Document] = []
    errors: list[Document] = []
    for outcome in outcomes:
        if not isinstance(outcome, Failure):
            runs.append(_result_document(outcome))
            continue
        errors.append({"model_type": outcome.model_type, **outcome.error.document()["error"]})
        if outcome.run is not None:
            runs.append(run_document(outcome.run))
    return {"training_runs": runs, "count": len(runs), "errors": errors}


def _result_document(result: RunResult) -> Document:
    if result.run is not None:
        document = run_document(result.run)
    else:
        decision = result.decision
        document = {
            "run_id": None,
            "model_type": result.model_type,
            "algorithm": result.algorithm,
            "status": "dry_run",
            "promoted_to_production": False,
            "would_promote": decision and decision.promote,
            "improvement_percentage": decision and decision.improvement_percentage,
            "promotion_reason": decision and decision.reason,
        }
    evaluation = result.evaluation and evaluation_document(document.get("model_version_id"), result.evaluation)
    comparison = result.comparison and comparison_document(result.comparison)
    return {**document, "evaluation": evaluation, "comparison": comparison}


def change_document(message: str, version_id: str, change: Change | None) -> Document:
    """Say that production was changed, or was what it should be already."""
    return {
        "status": "success",
        "message": message,
        "version_id": version_id,
        "from_version_id": change.from_version if change else None,
        "changed": change is not None,
    }


def next_post_document(forecast: NextPost) -> Document:
    """Describe the next forecast of a model type."""
    document: Document = {
        "model_type": forecast.model_type,
        "version_id": forecast.version_id,
        "made_at": moment(forecast.made_at),
        "last_post_at": moment(forecast.last_post_at),
        "next_post_at": moment(forecast.next_post_at),
    }
    if forecast.model_type == "timing":
        document["point_hours"] = forecast.point_hours
        document["median_hours"] = forecast.median_hours
        document["interval"] = {
            "level": forecast.interval_level,
            "hours": list(forecast.interval_hours or ()),
        }
        document["probability"] = {f"within_{hours}h": share for hours, share in (forecast.probability or {}).items()}
    else:
        document["text"] = forecast.text
        document["outcome"] = forecast.outcome
        document["tokens"] = forecast.tokens
        document["cost_usd"] = forecast.cost_usd
    return document


def plugins_document(plugins: Sequence[PluginStatus]) -> list[Document]:
    """List the installed algorithms and observers."""
    return [
        {
            "name": plugin.name,
            "kind": plugin.kind,
            "version": plugin.version,
            "distribution": plugin.distribution,
            "model_types": list(plugin.description.model_types) if plugin.description else [],
            "summary": plugin.description.summary if plugin.description else None,
            "hooks": list(plugin.hooks),
            "status": "broken" if plugin.problem else "ok",
            "problem": plugin.problem,
        }
        for plugin in plugins
    ]


def import_document(result: ImportResult) -> Document:
    """Say what an import did."""
    file = result.file
    return {
        "mapping": file.mapping,
        "rows": file.rows,
        "added": result.added,
        "already_there": len(file.posts) - result.added,
        "repeated": file.repeated,
        "rejected": [{"line": row.line, "reason": row.reason} for row in file.rejected],
    }


def posts_document(summary: PostsSummary) -> Document:
    """Say how many posts there are."""
    return {
        "count": summary.count,
        "with_content": summary.with_content,
        "first": moment(summary.first),
        "last": moment(summary.last),
    }


def started_document(run_ids: Mapping[str, str | None]) -> Document:
    """Say that runs were started, and which."""
    return {
        "status": "started",
        "message": "Model retraining started in background",
        "note": "Check /models/training-history for progress",
        "run_ids": dict(run_ids),
    }
