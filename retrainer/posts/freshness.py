"""Whether posts still arrive: the time since the newest one against the gaps between those before it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from datetime import datetime

    import numpy.typing as npt
    import pandas as pd

MAX_GAPS = 10_000  # the latest; streams change
USUAL_SHARE = 0.999  # of the gaps that are at most as long as the longest usual one …
_ENOUGH_GAPS = 1_000  # … which is among so many; with fewer gaps …
_MARGIN = 2  # … it is that many times the longest one so far


@dataclass(frozen=True)
class Freshness:
    """How long ago the newest post was, and how long gaps usually are.

    Attributes:
        newest_at: the time of the newest post, UTC.
        silence: the time since then.
        usual_gap: the longest usual gap: 99.9% of the latest 10,000 gaps are at most as long. With fewer than 1,000
            gaps, twice the longest one. None with fewer than two posts.
    """

    newest_at: datetime
    silence: timedelta
    usual_gap: timedelta | None

    @property
    def stale_since(self) -> datetime | None:
        """When the posts became stale, or will if none arrives; None with fewer than two posts."""
        return None if self.usual_gap is None else self.newest_at + self.usual_gap

    @property
    def is_stale(self) -> bool:
        """Whether no post has arrived for longer than the longest usual gap."""
        return self.usual_gap is not None and self.silence > self.usual_gap


def measure_freshness(times: pd.Series[Any], now: datetime) -> Freshness | None:
    """Compare the time since the newest post with the gaps between posts.

    Args:
        times: when the posts were created, in order (datetime64, UTC); none is later than now.
        now: the time, UTC.

    Returns:
        None without posts.
    """
    if times.empty:
        return None
    newest = times.iloc[-1].to_pydatetime()
    latest = times.iloc[-MAX_GAPS - 1 :].astype("datetime64[us, UTC]").astype("int64")
    gaps = np.diff(latest.to_numpy(dtype=np.int64))
    return Freshness(newest, now - newest, _longest_usual(gaps))


def _longest_usual(gaps: npt.NDArray[np.int64]) -> timedelta | None:
    if not gaps.size:
        return None
    if gaps.size < _ENOUGH_GAPS:
        return timedelta(microseconds=_MARGIN * int(gaps.max()))
    return timedelta(microseconds=int(np.quantile(gaps, USUAL_SHARE, method="higher")))
