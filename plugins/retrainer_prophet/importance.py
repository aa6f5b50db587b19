"""Feature importance: how much worse the hazard predicts the training gaps without each group of features."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.algorithms import Importance
from retrainer_prophet.features import FEATURE_GROUPS

if TYPE_CHECKING:
    from retrainer_prophet.hazard import Hazard, RegressionData
    from retrainer_prophet.seasonality import WeeklyProfile
    from retrainer_prophet.time_grid import Floats

_FLAT = 1e-9
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def feature_importance(
    data: RegressionData, hazard: Hazard, profile: WeeklyProfile, hours: Floats
) -> list[dict[str, Any]]:
    """Return each group of features as an `Importance` in plain data, the most important first.

    The value is the loss of log likelihood of the training gaps, in bits per post, when the group's part of the log
    hazard is replaced by its average and the level of the hazard is refitted.
    """
    parts = {"silence": hazard.intercepts[data.classes]}
    first = 0
    for name, width in FEATURE_GROUPS:
        columns = slice(first, first + width)
        parts[name] = data.features[:, columns] @ hazard.coefficients[columns]
        first += width
    log_expected = np.sum(list(parts.values()), axis=0) + np.log(data.exposure)
    full = _log_likelihood(log_expected, data.events)
    posts = max(data.events.sum(), 1.0)
    texts = _labels_and_notes(profile, hours)
    found = []
    for name, part in parts.items():
        without = _log_likelihood(log_expected - part + np.average(part, weights=data.exposure), data.events)
        bits = float((full - without) / posts / np.log(2))
        label, note = texts[name]
        found.append(Importance(label, bits, "bits a post", note))
    return [asdict(importance) for importance in sorted(found, key=lambda importance: -importance.value)]


def _log_likelihood(log_expected: Floats, events: Floats) -> float:
    level = np.log(max(events.sum(), 1.0) / np.exp(log_expected).sum())
    return float((events * (log_expected + level)).sum() - events.sum())


def _labels_and_notes(profile: WeeklyProfile, hours: Floats) -> dict[str, tuple[str, str]]:
    median, long = np.quantile(np.diff(hours), [0.5, 0.9])
    busiest, quietest = _hour_name(int(profile.week.argmax())), _hour_name(int(profile.week.argmin()))
    rhythm = f"busiest {busiest}, quietest {quietest} ({profile.timezone})"
    posts_per_day = (len(hours) - 1) / max((hours[-1] - hours[0]) / 24, 1 / 24)
    return {
        "silence": (
            "silence since the last post",
            f"half of the gaps are under {median:.3g} h, nine in ten under {long:.3g} h",
        ),
        "rhythm": ("hour of the week", "no rhythm found" if np.ptp(profile.week) < _FLAT else rhythm),
        "gaps": ("last gaps and their averages", ""),
        "counts": ("recent number of posts", f"{posts_per_day:.3g} posts a day on average"),
        "habits": ("posts at this time on earlier days", ""),
        "clock": ("hour of the day and of the week, refitted", ""),
        "pace": ("silence relative to the last gaps", ""),
    }


def _hour_name(hour_of_week: int) -> str:
    return f"{_DAYS[hour_of_week // 24]} {hour_of_week % 24:02d}:00"
