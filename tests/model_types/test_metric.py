"""A metric of a version is better or worse than another value by its distance from the best one."""

from __future__ import annotations

import pytest

from retrainer.model_types import ModelTypeName, get_model_type


@pytest.mark.parametrize(
    ("model_type", "key", "value", "naive", "judgement"),
    [
        ("timing", "overall_score", 0.5, 0.4, "better"),
        ("timing", "mae_hours", 10.0, 12.0, "better"),
        ("timing", "mae_hours", 12.0, 10.0, "worse"),
        ("timing", "crps_hours", 10.001, 10.0, "same"),
        ("timing", "interval_coverage", 0.95, 0.7, "worse"),
        ("timing", "interval_coverage", 0.75, 0.9, "better"),
        ("timing", "skill", 0.1, None, None),
        ("content", "bleu", 20.0, 10.0, "better"),
        ("content", "copy_rate", 0.0, 1.0, None),
        ("content", "tokens", 10.0, 0.0, None),
    ],
)
def test_a_metric_is_compared_as_it_is_shown(
    model_type: ModelTypeName, key: str, value: float, naive: float | None, judgement: str | None
) -> None:
    (metric,) = [metric for metric in get_model_type(model_type).metrics if metric.key == key]
    assert metric.compare(value, naive) == judgement
