"""Time axes in UTC."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from matplotlib.axis import Axis
    from numpy.typing import NDArray

_FORMATS = ["%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M", "%H:%M:%S"]  # by years, months, days, hours, minutes, seconds
_AT_ZERO = ["", "%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M"]


def naive_utc(times: Sequence[datetime]) -> NDArray[np.datetime64]:
    """Return (n,) times in UTC as matplotlib takes them."""
    return np.array([time.astimezone(UTC).replace(tzinfo=None) for time in times], dtype="datetime64[us]")


def format_axis(axis: Axis) -> None:
    """Label a time axis with few round times and dates like 2026-11 or 11-25."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # noqa: PLC0415  slow to import

    locator = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    axis.set_major_locator(locator)
    formatter = ConciseDateFormatter(  # type: ignore[no-untyped-call]
        locator, formats=_FORMATS, zero_formats=_AT_ZERO, show_offset=False
    )
    axis.set_major_formatter(formatter)
