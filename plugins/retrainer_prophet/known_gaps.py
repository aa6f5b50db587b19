"""What the hazards in force expected of the known gaps, by which forecasts are corrected.

The level and the factors of the bins correct every forecast, the recalibration those at clock times. Each gap is
compared with the hazard in force when it began; only the level compares earlier gaps with the hazard it corrects.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from retrainer.algorithms import RECALIBRATION_GAPS, PseudoOrigins, Recalibration
from retrainer_prophet.checkpoints import checkpoint_after
from retrainer_prophet.expected_events import BIN_GAPS, bin_factors, cumulative_hazard, events_per_bin, exposure_per_bin
from retrainer_prophet.level import LEVEL_GAPS, NUM_STAGES, STAGES, stage_levels
from retrainer_prophet.time_grid import NUM_CELLS, PARTS, WIDTHS, part_edges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from retrainer_prophet.hazard import GapRows
    from retrainer_prophet.stream import Stream
    from retrainer_prophet.time_grid import Floats, Integers

GAPS_BEFORE = RECALIBRATION_GAPS + BIN_GAPS  # an origin, that its forecast rests on

_BLOCK = 20_000  # pseudo-origins in memory at once


@dataclass(frozen=True)
class KnownGaps:
    """Consecutive known gaps, and the gap that runs after them.

    Attributes:
        first: the number of the first gap; see `stream`.
        checkpoint: whose hazard is in force at the end; None without gaps.
        levels: (gaps + 1, stages) at the beginning of each gap; see `level.stage_levels`.
        expected: (gaps,) posts expected in the gap.
        ended: (gaps,) whether the gap ended within the time grid.
        origins: the pseudo-origins in the gaps; `gap` is a number.
        pit: (n,) the forecast probability that the wait from each pseudo-origin is no longer than it was.
        stage_observed, stage_expected: (m, stages) posts of the last gaps, by the hazard at the checkpoint.
    """

    first: int
    checkpoint: int | None
    levels: Floats
    expected: Floats
    ended: NDArray[np.bool_]
    origins: PseudoOrigins
    pit: Floats
    stage_observed: Floats
    stage_expected: Floats

    @classmethod
    def before(cls, first: int) -> KnownGaps:
        """Return no gaps, before the gap with a number."""
        nothing, stages = np.empty(0), np.empty((0, NUM_STAGES))
        origins = PseudoOrigins.inside(nothing, np.empty(0, dtype=np.int64))
        return cls(first, None, stages, nothing, np.empty(0, dtype=bool), origins, nothing, stages, stages)

    @property
    def last(self) -> int:
        """The number of the gap that runs."""
        return self.first + len(self.expected)

    def extended(self, stream: Stream, last: int) -> KnownGaps:
        """Return these gaps and those up to before the gap with the number `last`."""
        known = self
        while known.last < last or known.checkpoint != stream.checkpoints(np.array([last]))[0]:
            known = known._with_next_segment(stream, last)
        return known

    def _with_next_segment(self, stream: Stream, last: int) -> KnownGaps:
        """Add gaps with one hazard in force, up to `last` or the next checkpoint."""
        first = self.last
        checkpoint = int(stream.checkpoints(np.array([first]))[0])
        hazard = stream.hazard(checkpoint)
        end = min(checkpoint_after(checkpoint, stream.fitted.training_gaps), last)
        same_hazard = checkpoint == self.checkpoint
        rows = stream.rows(first if same_hazard else max(first - LEVEL_GAPS, stream.first), end)
        rates = hazard.rates_of_rows(rows.features, rows.cells)
        observed, stage_expected = _posts_per_stage(rows, rates * rows.exposure)
        if same_hazard:
            observed = np.concatenate([self.stage_observed, observed])
            stage_expected = np.concatenate([self.stage_expected, stage_expected])
        levels = stage_levels(observed, stage_expected, end - first + 1)
        new = slice(rows.starts[-1 - (end - first)], None)
        gaps = np.diff(stream.hours[first + stream.offset : end + stream.offset + 1])
        origins = PseudoOrigins.inside(gaps, np.arange(first, end))
        # Expected posts up to each cell, over all rows; within a gap, differences.
        starts = rows.starts[-1 - (end - first) :] - rows.starts[-1 - (end - first)]
        gap = np.repeat(np.arange(end - first), np.diff(starts))
        rates = rates[new] * levels[gap, STAGES[rows.cells[new]]]
        sums = np.append(0.0, np.cumsum(rates * rows.exposure[new]))
        expected = sums[starts[1:]] - sums[starts[:-1]]
        ended = np.zeros(end - first, dtype=bool)
        ended[gap[rows.ended[new]]] = True
        reached = np.interp(origins.silence, part_edges(hazard.shapes), np.arange(NUM_CELLS * PARTS + 1) / PARTS)
        cell = np.minimum(reached.astype(np.int64), np.diff(starts)[origins.gap] - 1)
        row = starts[origins.gap] + cell
        before = sums[row] - sums[starts[origins.gap]] + rates[row] * WIDTHS[cell] * (reached - cell)
        added = KnownGaps(
            self.first,
            checkpoint,
            np.concatenate([self.levels[: first - self.first], levels]),
            np.concatenate([self.expected, expected]),
            np.concatenate([self.ended, ended]),
            PseudoOrigins(
                np.concatenate([self.origins.gap, origins.gap + first]),
                np.concatenate([self.origins.silence, origins.silence]),
                np.concatenate([self.origins.wait, origins.wait]),
                np.concatenate([self.origins.weight, origins.weight]),
            ),
            np.concatenate([self.pit, np.empty(len(before))]),
            observed[-LEVEL_GAPS:],
            stage_expected[-LEVEL_GAPS:],
        )
        added.pit[len(self.pit) :] = added.probability_between(origins.gap + first, before, expected[origins.gap])
        return added

    def factors(self, numbers: Integers, running: Floats) -> Floats:
        """Return (n, bins) the factors of the hazard in gaps, by the gaps before each and its silence so far.

        Args:
            numbers: (n,) the gaps; those before `first` + 400 see too few earlier ones.
            running: (n,) posts expected in the silence so far.
        """
        index = numbers - self.first
        low, high = max(int(index.min()) - BIN_GAPS, 0), int(index.max())
        expected = self.expected[low:high]
        events, exposure = (
            np.concatenate([np.zeros((1, per_bin.shape[1])), np.cumsum(per_bin, axis=0)])
            for per_bin in (events_per_bin(expected, self.ended[low:high]), exposure_per_bin(expected))
        )
        until, since = index - low, np.maximum(index - BIN_GAPS, 0) - low
        return bin_factors(events[until] - events[since], exposure[until] - exposure[since] + exposure_per_bin(running))

    def probability_between(self, numbers: Integers, before: Floats, until: Floats) -> Floats:
        """Return (n,) the probability of a post by the time `until` posts are expected, given none `before`."""
        probability = np.empty(len(numbers))
        for start in range(0, len(numbers), _BLOCK):
            block = slice(start, start + _BLOCK)
            factors = self.factors(numbers[block], before[block])
            hazard = cumulative_hazard(until[block], factors) - cumulative_hazard(before[block], factors)
            probability[block] = -np.expm1(-hazard)
        return probability

    def recalibration(self, number: int) -> Recalibration:
        """Return the recalibration at clock times in a gap."""
        first, last = np.searchsorted(self.origins.gap, (number - RECALIBRATION_GAPS, number))
        recent = slice(int(first), int(last))
        return Recalibration.from_pit(self.pit[recent], self.origins.weight[recent], self.origins.gap[recent])

    def recent(self, gaps: int) -> KnownGaps:
        """Return at most so many of the last gaps."""
        skipped = max(len(self.expected) - gaps, 0)
        kept = self.origins.gap >= self.first + skipped
        origins = PseudoOrigins(
            self.origins.gap[kept], self.origins.silence[kept], self.origins.wait[kept], self.origins.weight[kept]
        )
        return replace(
            self,
            first=self.first + skipped,
            levels=self.levels[skipped:],
            expected=self.expected[skipped:],
            ended=self.ended[skipped:],
            origins=origins,
            pit=self.pit[kept],
        )


def _posts_per_stage(rows: GapRows, expected: Floats) -> tuple[Floats, Floats]:
    """Return (gaps, stages) observed and expected posts of each gap, from (rows,) expected ones."""
    count = len(rows.starts) - 1
    index = rows.gap_of_row * NUM_STAGES + STAGES[rows.cells]
    observed = np.bincount(index, weights=rows.ended, minlength=count * NUM_STAGES)
    summed = np.bincount(index, weights=expected, minlength=count * NUM_STAGES)
    return observed.astype(float).reshape(count, NUM_STAGES), summed.astype(float).reshape(count, NUM_STAGES)
