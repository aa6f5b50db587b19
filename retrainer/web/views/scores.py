"""Metrics side by side, judged: against the naive forecast, and by good values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retrainer.render.scores import good_value, metric_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retrainer.model_types.base import Metric, ModelType

_TONES = {"better": "good", "worse": "bad"}


@dataclass(frozen=True)
class MetricRow:
    """A metric of several sides.

    Attributes:
        label: its name.
        description: an explanation; empty if the label says enough.
        values: of each side, in its unit.
        against_naive: whether the first side is `better` or `worse` than the naive forecast, or the `same`; or empty.
        tone: `good`, `bad` or empty, by that.
        good_value: what a good value is, and whether the first side has one; empty if that is not defined.
    """

    label: str
    description: str
    values: Sequence[str]
    against_naive: str
    tone: str
    good_value: str


@dataclass(frozen=True)
class MetricTable:
    """Metrics side by side.

    Attributes:
        headings: of the sides; the first one is judged.
        rows: the metrics that one of the sides has.
    """

    headings: Sequence[str]
    rows: Sequence[MetricRow]


def metric_table(model_type: ModelType[Any, Any], sides: Mapping[str, Mapping[str, Any] | None]) -> MetricTable:
    """Return the metrics of sides by their headings; the first side is judged, one of them may be called `naive`.

    Args:
        sides: the metrics by heading; None for a side that has none.
    """
    headings, rows = metric_rows(model_type.metrics, sides)
    first = sides.get(headings[0]) or {} if headings else {}
    naive = sides.get("naive") or {}
    return MetricTable(headings, [_judge(metric, values, first, naive) for metric, values in rows])


def _judge(metric: Metric, values: Sequence[str], first: Mapping[str, Any], naive: Mapping[str, Any]) -> MetricRow:
    value = first.get(metric.key)
    found = metric.compare(value, naive.get(metric.key)) or ""
    tone, good = _TONES.get(found, ""), good_value(metric, value)
    return MetricRow(metric.label, metric.description, values, found, tone, good)
