"""Posts of streams that change."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from datetime import datetime


def random_posts(
    start: datetime,
    days: int,
    *,
    rate: float = 6.0,
    hour: float = 9.0,
    length: int = 60,
    no_text: float = 0.0,
    seed: int = 1,
) -> pd.DataFrame:
    """Return posts that come independently, most of them within some hours of one of the day (UTC).

    Args:
        rate: posts a day.
        length: of the texts, on average.
        no_text: the share of posts without one.
    """
    generator = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), generator.poisson(rate, days))
    seconds = day * 86_400 + (generator.normal(hour, 2.5, len(day)) % 24 * 3_600).astype(int)
    lengths = generator.integers(length // 2, length * 3 // 2, len(day))
    has_text = generator.random(len(day)) >= no_text
    none = pd.array([None] * len(day), dtype="Int64")
    return pd.DataFrame(
        {
            "post_id": [f"{start:%Y%m%d}-{row:05d}" for row in range(len(day))],
            "created_at": pd.DatetimeIndex([start + timedelta(seconds=int(one)) for one in seconds]).as_unit("us"),
            "content": ["w" * count if has else None for count, has in zip(lengths, has_text, strict=True)],
            "replies_count": none,
            "reblogs_count": none,
            "favourites_count": none,
        }
    )
