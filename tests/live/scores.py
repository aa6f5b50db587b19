"""Live scores as `update_live` stores them, with figures that a test chooses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from retrainer.evaluation.sequential import EProcess, Stakes
from retrainer.registry.live import PostScore, append_live_scores
from retrainer.registry.live_tables import LiveComparison

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from retrainer.live.summary import Against
    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project

MONDAY = datetime(2024, 9, 2, tzinfo=UTC)  # the first live post comes a gap later
WORST = 12.0  # the largest loss


def losses(count: int, mean: float, seed: int = 1) -> NDArray[np.float64]:
    """Return (n,) losses between 0 and 12 hours."""
    return np.random.default_rng(seed).beta(2, 2 * (WORST / mean - 1), count) * WORST


def record_scores(
    project: Project,
    against: Against,
    live: NDArray[np.float64],
    other: NDArray[np.float64],
    *,
    model_type: ModelTypeName = "timing",
    other_version_id: str | None = None,
    stake: float = WORST,
) -> LiveComparison:
    """Store a comparison of the production version and its scores on n posts, by the CRPS of both sides.

    The scores are added to the comparison that `update_live` has made, if it was called before.

    Of timing, a post counts as within 6 hours, and inside the interval, if its CRPS is at most 3; of content, both
    components are 1 - loss / 12.
    """
    version = project.registry.get_production(model_type)
    assert version
    current = [one for one in project.registry.list_current_live_comparisons() if one.model_type == model_type]
    found = next((one for one in current if one.against == against), None)
    comparison = found or project.registry.add_live_comparison(
        LiveComparison(
            stream=project.stream,
            model_type=model_type,
            version_id=version.version_id,
            fit=version.fit,
            against=against,
            other_version_id=other_version_id,
            other_fit=other_version_id or "naive",
            origin="post",
            starts_after=MONDAY,
            created_at=MONDAY,
            num_scored=0,
            sums=[],
            other_sums=[],
            state=EProcess().to_bytes(),
        )
    )
    count = len(live)
    uniform = np.arange(count, dtype=float) * 0.6180339887 % 1
    sides = [_figures(model_type, side, uniform) for side in (live, other)]
    stakes = Stakes(live, other, np.full(count, stake), np.full(count, stake), np.full(count, WORST))
    scores = [
        PostScore(
            post_id=f"live-{row:06d}",
            created_at=comparison.starts_after + timedelta(hours=6 * (row + 1)),
            figures=sides[0][row].tolist(),
            other_figures=sides[1][row].tolist(),
            **{name: float(getattr(stakes, name)[row]) for name in Stakes._fields},
        )
        for row in range(count)
    ]
    process = EProcess()
    process.update(stakes)
    totals = {
        "through": scores[-1].created_at,
        "through_post_id": scores[-1].post_id,
        "num_scored": count,
        "sums": sides[0].sum(axis=0).tolist(),
        "other_sums": sides[1].sum(axis=0).tolist(),
        "state": process.to_bytes(),
    }
    with project.registry.database.write() as session:
        assert append_live_scores(session, comparison, scores, totals)
    return comparison


def _figures(model_type: ModelTypeName, loss: NDArray[np.float64], pit: NDArray[np.float64]) -> NDArray[np.float64]:
    if model_type == "content":
        return np.stack([1 - loss / WORST] * 2, axis=1)
    is_near = (loss <= 3).astype(float)
    return np.stack([is_near, 2 * loss, loss, is_near, pit], axis=1)
