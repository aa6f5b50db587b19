"""What the hazards in force expected of the known gaps, by which forecasts are corrected.

The level and the factors of the bins correct every forecast, the recalibration those at clock times. Each gap is
compared with the hazard in force when it began; only the level compares earlier gaps with the hazard it corrects.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from retrainer.algorithms import RECALIBRATION_GAPS, PseudoOrigins, Recalibration
from retrainer_prophet.expected_events import (
    BIN_GAPS,
    bin_factors,
    cumulative_hazard,
    events_per_bin,
    exposure_per_bin,
    in_units,
)
from retrainer_prophet.level import LEVEL_GAPS, NUM_STAGES, STAGES, stage_levels
from retrainer_prophet.pauses import hazard_with_pauses, pause_survival
from retrainer_prophet.time_grid import NUM_CELLS, PARTS, WIDTHS, part_edges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from retrainer_prophet.hazard import GapRows
    from retrainer_prophet.stream import FittedModel, Stream
    from retrainer_prophet.time_grid import Floats, Integers

GAPS_BEFORE = RECALIBRATION_GAPS + BIN_GAPS  # an origin, that its forecast rests on

_BLOCK = 20_000  # pseudo-origins in memory at once


@dataclass(frozen=True)
class Segment:
    """Consecutive gaps with one hazard in force, and what it expected of them.

    Attributes:
        first: the number of the first gap; see `stream`.
        levels: (gaps + 1, stages) at the beginning of each gap and of the one after them; see `level.stage_levels`.
        expected: (gaps,) posts expected in the gap.
        ended: (gaps,) whether the gap ended within the time grid.
        origins: the pseudo-origins in the gaps; `gap` is a number.
        before: (n,) posts expected from the beginning of the gap to each pseudo-origin.
        stages: (m, 2, stages) observed and expected posts of the last gaps, also of those before `first`.
        fitted: the model.
    """

    first: int
    levels: Floats
    expected: Floats
    ended: NDArray[np.bool_]
    origins: PseudoOrigins
    before: Floats
    stages: Floats
    fitted: FittedModel

    @classmethod
    def of(cls, stream: Stream, checkpoint: int, first: int, last: int, stages: Floats | None = None) -> Segment:
        """Compare the gaps from `first` to before `last` with the hazard at a checkpoint.

        Args:
            stream: the posts.
            checkpoint: whose hazard is in force.
            first: the number of the first gap.
            last: the number of the gap after them.
            stages: those of the segment before, if the same hazard was in force there.
        """
        hazard = stream.hazard(checkpoint)
        rows = stream.rows(max(first - LEVEL_GAPS, stream.first) if stages is None else first, last)
        rates = hazard.rates_of_rows(rows.features, rows.cells)
        compared = _posts_per_stage(rows, rates * rows.exposure)
        if stages is not None:
            compared = np.concatenate([stages, compared])
        count = last - first
        levels = stage_levels(compared[:, 0], compared[:, 1], count + 1)
        starts = rows.starts[-1 - count :] - rows.starts[-1 - count]
        new = slice(rows.starts[-1 - count], None)
        gap = np.repeat(np.arange(count), np.diff(starts))
        rates = rates[new] * levels[gap, STAGES[rows.cells[new]]]
        # Expected posts up to each cell, over all rows; within a gap, differences.
        sums = np.append(0.0, np.cumsum(in_units(rates * rows.exposure[new])))
        ended = np.zeros(count, dtype=bool)
        ended[gap[rows.ended[new]]] = True
        gaps = np.diff(stream.hours[first + stream.offset : last + stream.offset + 1])
        origins = PseudoOrigins.inside(gaps, np.arange(first, last))
        reached = np.interp(origins.silence, part_edges(hazard.shapes), np.arange(NUM_CELLS * PARTS + 1) / PARTS)
        cell = np.minimum(reached.astype(np.int64), np.diff(starts)[origins.gap] - 1)
        row = starts[origins.gap] + cell
        return cls(
            first,
            levels,
            expected=sums[starts[1:]] - sums[starts[:-1]],
            ended=ended,
            origins=PseudoOrigins(origins.gap + first, origins.silence, origins.wait, origins.weight),
            before=sums[row] - sums[starts[origins.gap]] + rates[row] * WIDTHS[cell] * (reached - cell),
            stages=compared[-LEVEL_GAPS:],
            fitted=stream.fitted,
        )


@dataclass(frozen=True)
class KnownGaps:
    """The known gaps of consecutive segments, and the gap that runs after them.

    Attributes:
        first, levels, expected, ended, origins, stages: see `Segment`; `stages` are by the hazard of the last one.
        pit: (n,) the forecast probability that the wait from each pseudo-origin is no longer than it was.
    """

    first: int
    levels: Floats
    expected: Floats
    ended: NDArray[np.bool_]
    origins: PseudoOrigins
    pit: Floats
    stages: Floats

    @classmethod
    def of(cls, segment: Segment) -> KnownGaps:
        """Take the gaps of one segment."""
        nothing = np.empty(0)
        no_origins = PseudoOrigins.inside(nothing, np.empty(0, dtype=np.int64))
        empty = cls(
            segment.first,
            segment.levels[:1],
            nothing,
            np.empty(0, dtype=bool),
            no_origins,
            nothing,
            segment.stages,
        )
        return empty.followed_by(segment)

    @property
    def last(self) -> int:
        """The number of the gap that runs."""
        return self.first + len(self.expected)

    def followed_by(self, segment: Segment) -> KnownGaps:
        """Return these gaps and those of the segment after them."""
        added = KnownGaps(
            self.first,
            np.concatenate([self.levels[:-1], segment.levels]),
            np.concatenate([self.expected, segment.expected]),
            np.concatenate([self.ended, segment.ended]),
            _joined(self.origins, segment.origins),
            np.concatenate([self.pit, np.empty(len(segment.before))]),
            segment.stages,
        )
        if len(segment.before):
            until = segment.expected[segment.origins.gap - segment.first]
            added.pit[len(self.pit) :] = added.probabilities(segment.origins, segment.before, until, segment.fitted)
        return added

    def extended(self, stream: Stream, checkpoint: int, last: int) -> KnownGaps:
        """Return these gaps and those up to before the gap `last`, with the hazard of the last segment in force."""
        if last == self.last:
            return self
        return self.followed_by(Segment.of(stream, checkpoint, self.last, last, self.stages))

    def factors(self, numbers: Integers, running: Floats, fitted: FittedModel) -> Floats:
        """Return (n, bins) the factors of the hazard in gaps, by the gaps before each and its silence so far.

        Args:
            numbers: (n,) the gaps; those before `first` + 400 see too few earlier ones.
            running: (n,) posts expected in the silence so far.
            fitted: the model.
        """
        index = numbers - self.first
        low, high = max(int(index.min()) - BIN_GAPS, 0), int(index.max())
        expected = self.expected[low:high]
        events, exposure = (
            np.concatenate([np.zeros((1, per_bin.shape[1])), np.cumsum(per_bin, axis=0)])
            for per_bin in (events_per_bin(expected, self.ended[low:high]), exposure_per_bin(expected))
        )
        until, since = index - low, np.maximum(index - BIN_GAPS, 0) - low
        exposure = exposure[until] - exposure[since] + exposure_per_bin(running)
        return bin_factors(events[until] - events[since], exposure, fitted.corrected_bins)

    def probabilities(self, origins: PseudoOrigins, before: Floats, until: Floats, fitted: FittedModel) -> Floats:
        """Return (n,) the probability of a post until the wait from each pseudo-origin was over.

        Args:
            origins: the pseudo-origins.
            before: (n,) posts expected from the beginning of the gap to the pseudo-origin.
            until: (n,) posts expected in the gap.
            fitted: the model.
        """
        probability, scale = np.empty(len(before)), fitted.pause_scale
        for start in range(0, len(before), _BLOCK):
            block = slice(start, start + _BLOCK)
            silence = origins.silence[block]
            factors = self.factors(origins.gap[block], before[block], fitted)
            hazard = hazard_with_pauses(
                cumulative_hazard(until[block], factors), pause_survival(silence + origins.wait[block], scale)
            ) - hazard_with_pauses(cumulative_hazard(before[block], factors), pause_survival(silence, scale))
            probability[block] = -np.expm1(-hazard)
        return probability

    def recalibration(self, number: int) -> Recalibration:
        """Return the recalibration at clock times in a gap."""
        first, last = np.searchsorted(self.origins.gap, (number - RECALIBRATION_GAPS, number))
        recent = slice(int(first), int(last))
        return Recalibration.from_pit(self.pit[recent], self.origins.weight[recent], self.origins.gap[recent])

    def recent(self, gaps: int) -> KnownGaps:
        """Return a copy of at most so many of the last gaps."""
        skipped = max(len(self.expected) - gaps, 0)
        kept = int(np.searchsorted(self.origins.gap, self.first + skipped))
        origins = PseudoOrigins(
            *(getattr(self.origins, field.name)[kept:].copy() for field in fields(PseudoOrigins)),
        )
        return KnownGaps(
            self.first + skipped,
            self.levels[skipped:].copy(),
            self.expected[skipped:].copy(),
            self.ended[skipped:].copy(),
            origins,
            self.pit[kept:].copy(),
            self.stages,
        )


def _joined(one: PseudoOrigins, other: PseudoOrigins) -> PseudoOrigins:
    names = [field.name for field in fields(PseudoOrigins)]
    return PseudoOrigins(*(np.concatenate([getattr(one, name), getattr(other, name)]) for name in names))


def _posts_per_stage(rows: GapRows, expected: Floats) -> Floats:
    """Return (gaps, 2, stages) observed and expected posts of each gap, from (rows,) expected ones."""
    count = len(rows.starts) - 1
    index = rows.gap_of_row * NUM_STAGES + STAGES[rows.cells]
    observed, summed = (
        np.bincount(index, weights=weights, minlength=count * NUM_STAGES).reshape(count, NUM_STAGES)
        for weights in (rows.ended.astype(float), expected)
    )
    return np.stack([observed, summed], axis=1).astype(float)
