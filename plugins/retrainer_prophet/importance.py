"""What the forecast leans on: how much worse the hazard foretells the training gaps without each of its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer_prophet.features import GROUPS
from retrainer_prophet.seasonality import HOURS_OF_WEEK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from retrainer_prophet.hazard import Hazard, Rows
    from retrainer_prophet.seasonality import Rhythm

    Floats = NDArray[np.float64]

UNIT = "bits a post"
_NO_RHYTHM = 1e-9
_LABELS = {
    "rhythm": "hour of the week",
    "gaps": "last gaps and their averages",
    "counts": "number of posts of late",
    "habits": "posts at this time on earlier days",
}
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def importances(rows: Rows, learnt: Hazard, rhythm: Rhythm, hours: Floats) -> list[dict[str, Any]]:
    """Return label, value, unit and note of each part, the weightiest first.

    The value is the log likelihood of the training gaps that is lost where a part is left at its average and the level
    of the hazard is set anew, in bits a post.
    """
    parts = {"silence": learnt.of_class[rows.classes]}
    first = 0
    for name, width in GROUPS:
        columns = slice(first, first + width)
        parts[name] = rows.features[:, columns] @ learnt.slopes[columns]
        first += width
    logarithm = np.sum(list(parts.values()), axis=0) + np.log(rows.spent)
    with_all = _log_likelihood(logarithm, rows.came)
    posts = max(rows.came.sum(), 1.0)
    notes = _notes(rhythm, hours)
    found = []
    for name, part in parts.items():
        lost = with_all - _log_likelihood(logarithm - part + np.average(part, weights=rows.spent), rows.came)
        label = _LABELS.get(name, "silence since the last post")
        found.append({"label": label, "value": float(lost / posts / np.log(2)), "unit": UNIT, "note": notes[name]})
    return sorted(found, key=lambda one: -one["value"])


def _log_likelihood(logarithm: Floats, came: Floats) -> float:
    level = np.log(max(came.sum(), 1.0) / np.exp(logarithm).sum())
    return float((came * (logarithm + level)).sum() - came.sum())


def _notes(rhythm: Rhythm, hours: Floats) -> dict[str, str]:
    gaps = np.diff(hours)
    median, long = np.quantile(gaps, [0.5, 0.9])
    week = rhythm.week
    flat = bool(np.ptp(week) < _NO_RHYTHM)
    busiest, quietest = _hour(int(week.argmax())), _hour(int(week.argmin()))
    a_day = (len(hours) - 1) / max((hours[-1] - hours[0]) / 24, 1 / 24)
    return {
        "silence": f"half of the gaps are under {median:.3g} h, nine in ten under {long:.3g} h",
        "rhythm": "no rhythm found" if flat else f"busiest {busiest}, quietest {quietest} ({rhythm.timezone})",
        "gaps": "",
        "counts": f"{a_day:.3g} posts a day on average",
        "habits": "",
    }


def _hour(hour_of_week: int) -> str:
    day, hour = divmod(hour_of_week % HOURS_OF_WEEK, 24)
    return f"{_DAYS[day]} {hour:02d}:00"
