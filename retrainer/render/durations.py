"""How long something lasts, for people."""

from __future__ import annotations

_UNITS = ((365.25 * 24, "years"), (24.0, "days"), (1.0, "h"), (1 / 60, "min"), (1 / 3600, "s"))
_MIN_DAYS, _MIN_YEARS = 2, 2


def format_hours(hours: float) -> str:
    """Return a duration in the largest unit that fits: 40 s, 12 min, 6.5 h, 12 days, 3.5 years."""
    seconds = hours * 3600
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    if hours < 59.5 / 60:
        return f"{hours * 60:.0f} min"
    if hours < 47.95:
        return f"{hours:.1f} h"
    days = hours / 24
    if days < 99.5:
        return f"{days:.1f} days"
    if days < 730:
        return f"{days:.0f} days"
    return f"{days / 365.25:,.1f} years"
