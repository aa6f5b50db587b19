"""The examples of the OpenAPI document."""

from __future__ import annotations

from typing import Any

Example = dict[str, Any]

OLD = "prophet_timing_20251030_120000_91c4"
TIMING = "prophet_timing_20251106_120000_a3f2"
CONTENT = "claude_api_content_20251106_120530_b4e9"
RUN_ID = "run_20251106_120000_a3f2"

FAILURE: Example = {
    "error": {
        "code": "unknown_name",
        "message": f"unknown version '{OLD}'",
        "hint": "`retrainer versions` lists them",
    }
}

VERSION: Example = {
    "version_id": TIMING,
    "model_type": "timing",
    "algorithm": "prophet",
    "trained_at": "2025-11-06T12:00:00Z",
    "status": "active",
    "is_production": True,
    "promoted_at": "2025-11-06T12:05:00Z",
    "num_training_samples": 298,
    "training_duration_seconds": 12.5,
    "trained_through": "2025-08-14T09:31:12Z",
    "trained_through_post_id": "115026551",
    "hyperparameters": {},
    "file_path": f"models/timing/{TIMING}",
    "pinned": False,
    "pruned_at": None,
}
_CONTENT: Example = VERSION | {
    "version_id": CONTENT,
    "model_type": "content",
    "algorithm": "claude_api",
    "trained_at": "2025-11-06T12:05:30Z",
    "promoted_at": "2025-11-06T12:07:00Z",
    "file_path": f"models/content/{CONTENT}",
}
PRODUCTION: Example = {"timing_model": VERSION, "content_model": _CONTENT}
VERSIONS: Example = {"versions": [VERSION], "count": 1}

_OLD_METRICS: Example = {"overall_score": 0.6753, "mae_hours": 9.12, "within_6h_accuracy": 0.59}
METRICS: Example = {
    "overall_score": 0.7123,
    "mae_hours": 8.45,
    "rmse_hours": 12.6,
    "within_6h_accuracy": 0.625,
    "within_12h_accuracy": 0.78,
    "within_24h_accuracy": 0.93,
}
_NAIVE_METRICS: Example = {"overall_score": 0.4127, "mae_hours": 15.3, "within_6h_accuracy": 0.43}
WINDOW: Example = {"start": "2025-08-14T09:31:12Z", "end": "2025-11-06T11:12:00Z", "posts": 75, "origin": "post"}
EVIDENCE: Example = {
    "interval_percentage": [1.2, 9.7],
    "level": 0.95,
    "probability_better": 0.993,
    "settled_at": 0.95,
    "smallest_detectable_percentage": 5.1,
    "more_posts": 0,
    "num_predictions": 20,
    "block_length": 3,
    "resamples": 2000,
    "seed": 0,
}
COSTS: Example = {"a": 0.082, "b": 0.075}
DIFFERENCE: Example = {"situation": "on a weekend", "num_predictions": 8, "score_a": 0.61, "score_b": 0.72}
EVALUATION: Example = {
    "evaluation_id": "eval_20251106_120330_c7d1",
    "run_id": RUN_ID,
    "evaluated_at": "2025-11-06T12:03:30Z",
    "version_id": TIMING,
    "metrics": METRICS | {"num_predictions": 20},
    "baseline": {"metrics": _NAIVE_METRICS},
    "num_predictions": 20,
    "window": WINDOW,
    "reliability": [{"what": "post within 6 h", "stated": 0.62, "observed": 0.58, "num_predictions": 20}],
    "forecasts_file": "evaluations/eval_20251106_120330_c7d1.npz",
    "predictions_json": [
        {
            "post_id": "115026551",
            "point_hours": 2.5,
            "median_hours": 3.1,
            "interval_hours": [0.4, 11.6],
            "actual_hours": 4.2,
        }
    ],
}
FIGURES: Example = {
    "version_a": OLD,
    "version_b": TIMING,
    "metrics_a": _OLD_METRICS,
    "metrics_b": METRICS,
    "baseline_metrics": _NAIVE_METRICS,
    "num_predictions": 20,
    "window": WINDOW,
    "evidence": EVIDENCE,
    "cost_usd": None,
    "differences": [DIFFERENCE],
}

_REASON = "New model is 5.5% better"
_DECISION: Example = {
    "at": "2025-11-06T12:03:45Z",
    "recorded_at": "2025-11-06T12:03:45Z",
    "model_type": "timing",
    "action": "promotion",
    "version_id": TIMING,
    "from_version_id": OLD,
    "to_version_id": TIMING,
    "actor": "retrainer@server",
    "automatic": True,
    "reason": _REASON,
    "run_id": RUN_ID,
    "evidence": FIGURES,
}
VERSION_LIFE: Example = VERSION | {
    "evaluations": [EVALUATION],
    "ledger": [_DECISION],
    "importance": [
        {
            "label": "hour of the week",
            "value": 0.31,
            "unit": "bits a post",
            "note": "busiest Tuesday 14:00, quietest Sunday 04:00",
        }
    ],
}

RUN: Example = {
    "run_id": RUN_ID,
    "model_type": "timing",
    "algorithm": "prophet",
    "model_version_id": TIMING,
    "started_at": "2025-11-06T12:00:00Z",
    "completed_at": "2025-11-06T12:03:45Z",
    "duration_seconds": 225.3,
    "as_of": None,
    "status": "completed",
    "num_training_samples": 298,
    "num_test_samples": 75,
    "test_mae_hours": 8.45,
    "test_within_6h_accuracy": 0.625,
    "test_overall_score": 0.7123,
    "compared_with": OLD,
    "production_score": 0.6753,
    "promoted_to_production": True,
    "improvement_percentage": 5.48,
    "promotion_reason": _REASON,
    "error": None,
    "tokens": 0,
    "cost_usd": 0.0,
    "refusals": 0,
}
HISTORY: Example = {"training_runs": [RUN], "count": 1, "total": 37, "changes": [_DECISION]}

COMPARISON: Example = {
    "version_a": {"version_id": OLD, "score": 0.6753, "metrics": _OLD_METRICS},
    "version_b": {"version_id": TIMING, "score": 0.7123, "metrics": METRICS},
    "baseline": {"metrics": _NAIVE_METRICS},
    "winner": TIMING,
    "improvement_percentage": 5.48,
    "recommendation": "promote",
    "reason": _REASON,
    "num_predictions": 20,
    "window": WINDOW,
    "evidence": EVIDENCE,
    "cost_usd": None,
    "differences": [DIFFERENCE],
}
STARTED: Example = {
    "status": "started",
    "message": "Model retraining started in background",
    "note": "Check /models/training-history for progress",
    "run_ids": {"timing": RUN_ID, "content": "run_20251106_120000_b4e9"},
}
CHANGED: Example = {
    "status": "success",
    "message": f"Model {TIMING} promoted to production",
    "version_id": TIMING,
    "from_version_id": OLD,
    "changed": True,
}
NEXT_TIMING: Example = {
    "model_type": "timing",
    "version_id": TIMING,
    "made_at": "2025-11-06T12:10:00Z",
    "last_post_at": "2025-11-06T11:12:00Z",
    "next_post_at": "2025-11-06T14:40:00Z",
    "point_hours": 2.5,
    "median_hours": 3.1,
    "interval": {"level": 0.8, "hours": [0.4, 11.6]},
    "probability": {"within_6h": 0.71, "within_12h": 0.88, "within_24h": 0.97},
}
NEXT_CONTENT: Example = {
    "model_type": "content",
    "version_id": CONTENT,
    "made_at": "2025-11-06T12:10:00Z",
    "last_post_at": "2025-11-06T11:12:00Z",
    "next_post_at": "2025-11-06T15:16:00Z",
    "text": "The first frost is here. Time to bring the pots inside.",
    "outcome": "ok",
    "tokens": 1240,
    "cost_usd": 0.0041,
}
