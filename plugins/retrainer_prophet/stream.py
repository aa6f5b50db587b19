"""The posts of a stream and a trained model: features, and the hazard in force at each post.

Posts are counted from the last training post, which has the number 0; a gap has the number of the post that began it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from retrainer.algorithms import PointRule
from retrainer_prophet.checkpoints import checkpoint_after
from retrainer_prophet.expected_events import NUM_BINS, NUM_CORRECTED
from retrainer_prophet.features import History
from retrainer_prophet.hazard import GapRows, Hazard, RegressionData, first_fitted_gap, fit_hazard
from retrainer_prophet.known_gaps import GAPS_BEFORE, Segment
from retrainer_prophet.paths import RATE_HOURS
from retrainer_prophet.seasonality import WeeklyProfile
from retrainer_prophet.waits import RULE_GAPS

if TYPE_CHECKING:
    from retrainer_prophet.condensed import Condensed
    from retrainer_prophet.time_grid import Floats, Integers

_ALL_BINS_CORRECTED = 4  # a format


@dataclass(frozen=True)
class FittedModel:
    """What training has learned.

    Attributes:
        hazard: the hazard at the end of training.
        profile: the weekly profile.
        typical_gap: the logarithm of the gap to assume before the first post.
        same_time: the share of posts that have the same time as the one before.
        trained_through: the time of the last training post, in hours since the Monday.
        training_gaps: the number of gaps between different times of training posts.
        pause_scale: see `pauses.pause_scale`.
        constants: the best constant point right after posts and at clock times, in hours.
        rules: the point rule right after posts and at clock times, by the training gaps.
        corrected_bins: of expected posts; see `expected_events.bin_factors`.
        digest: of the stored model.
    """

    hazard: Hazard
    profile: WeeklyProfile
    typical_gap: float
    same_time: float
    trained_through: float
    training_gaps: int
    pause_scale: float
    constants: tuple[float, float]
    rules: tuple[PointRule, PointRule] = (PointRule("score", 0.0), PointRule("score", 0.0))
    corrected_bins: int = NUM_CORRECTED
    digest: bytes = b""

    def to_dict(self) -> dict[str, Any]:
        """Return the model as plain data."""
        return {
            "rhythm": self.profile.to_dict(),
            "hazard": self.hazard.to_dict(),
            "typical_gap": self.typical_gap,
            "share_of_same_time": self.same_time,
            "trained_through": self.trained_through,
            "training_gaps": self.training_gaps,
            "pause_scale": self.pause_scale,
            "constant_points": list(self.constants),
            "point_rules": [rule.kind for rule in self.rules],
            "longest_silence_of_rules": self.rules[1].max_silence_hours,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> FittedModel:
        """Read the plain data back."""
        after_posts, by_clock = stored["constant_points"]
        rules = stored["point_rules"]
        return cls(
            Hazard.from_dict(stored["hazard"]),
            WeeklyProfile.from_dict(stored["rhythm"]),
            stored["typical_gap"],
            stored["share_of_same_time"],
            stored["trained_through"],
            stored["training_gaps"],
            stored["pause_scale"],
            (after_posts, by_clock),
            (PointRule(rules[0], after_posts), PointRule(rules[1], by_clock, stored.get("longest_silence_of_rules"))),
            corrected_bins=NUM_BINS if stored["format"] == _ALL_BINS_CORRECTED else NUM_CORRECTED,
            digest=digest_of(stored),
        )


def digest_of(stored: dict[str, Any]) -> bytes:
    """Return a digest of a stored model."""
    return blake2b(orjson.dumps(stored, option=orjson.OPT_SORT_KEYS)).digest()


@dataclass
class Stream:
    """The posts that a call of `predict` knows, at different times.

    Attributes:
        fitted: the model.
        hours: (n,) times in hours since the Monday, ascending.
        offset: the index in `hours` of the last training post.
        known_rows: the gaps whose features are known, until later ones are asked for; None for none.
        condensed: the state that stands for the posts before `hours`; None if these are all posts.
        hazards: the hazards fitted so far, by the number of the checkpoint.
        segments: the segments between two checkpoints that were compared so far, by the first checkpoint.
    """

    fitted: FittedModel
    hours: Floats
    known_rows: GapRows | None = None
    condensed: Condensed | None = None
    offset: int = field(init=False)
    hazards: dict[int, Hazard] = field(init=False)
    segments: dict[int, Segment] = field(init=False, default_factory=dict)
    _history: History | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.condensed is None:
            self.offset = int(np.searchsorted(self.hours, self.fitted.trained_through, side="right")) - 1
        else:
            self.offset = -self.condensed.first
        self.hazards = {0: self.fitted.hazard}

    @property
    def first(self) -> int:
        """The number of the first post."""
        return -self.offset

    @property
    def most_in_a_day(self) -> int:
        """The most posts in 24 hours so far."""
        in_a_day = np.arange(1, len(self.hours) + 1) - np.searchsorted(
            self.hours, self.hours - RATE_HOURS, side="right"
        )
        return max(int(in_a_day.max()), 0 if self.condensed is None else self.condensed.most_in_a_day)

    def checkpoints(self, numbers: Integers) -> Integers:
        """Return (n,) the checkpoint in force at each post."""
        grid = [0]
        while grid[-1] <= numbers.max():
            grid.append(checkpoint_after(grid[-1], self.fitted.training_gaps))
        return np.array(grid)[np.maximum(np.searchsorted(grid, numbers, side="right") - 1, 0)]

    def key(self, checkpoint: int) -> bytes:
        """Return a digest of the model, the checkpoint and the posts until it."""
        known = np.append(self.hours[: checkpoint + self.offset + 1], checkpoint).tobytes()
        if self.condensed is not None:
            known += self.condensed.digest
        return blake2b(known, key=self.fitted.digest).digest()

    def history(self, first: int, last: int) -> History:
        """Return the features of the posts with these numbers; `first` has the index `first` + `offset` in it."""
        known = self.hours[: last + self.offset + 1]
        return History.from_hours(known, self.fitted.profile, self.fitted.typical_gap, first + self.offset)

    def history_of(self, first: int, last: int) -> History:
        """Return the features of at least the posts with these numbers, which do not depend on later posts."""
        kept = self._history
        if kept is None or not kept.first <= first + self.offset <= last + self.offset < kept.first + len(kept.hours):
            self._history = kept = self.history(first, last)
        return kept

    def hazard(self, checkpoint: int) -> Hazard:
        """Return the hazard fitted to the gaps that closed until a checkpoint."""
        if checkpoint not in self.hazards:
            first = first_fitted_gap(np.diff(self.hours[: checkpoint + self.offset + 1])) - self.offset
            columns = len(self.fitted.hazard.coefficients)  # fewer in a version of format 4
            data = RegressionData.from_rows(self.rows(first, checkpoint), columns)
            self._forget_rows_before(first)
            self.hazards[checkpoint] = fit_hazard(data, self.fitted.hazard.shapes, start=self.fitted.hazard)
        return self.hazards[checkpoint]

    def segment(self, checkpoint: int) -> Segment:
        """Return the gaps between a checkpoint and the next on which the state at a later one may rest.

        For the first checkpoint, these are also gaps at the end of training.
        """
        if checkpoint not in self.segments:
            last = checkpoint_after(checkpoint, self.fitted.training_gaps)
            first = max(last - RULE_GAPS - GAPS_BEFORE, checkpoint if checkpoint > 0 else self.first)
            self.segments[checkpoint] = Segment.of(self, checkpoint, first, last)
        return self.segments[checkpoint]

    def rows(self, first: int, last: int) -> GapRows:
        """Return the gaps with the numbers from `first` to before `last`, and keep them until later gaps are asked for.

        Features are computed once for gaps that are asked for in ascending order.
        """
        first, last = first + self.offset, last + self.offset
        kept = self.known_rows
        if kept is None or not kept.first <= first <= kept.last:
            kept = self._compute_rows(first, last)
        elif last > kept.last:
            kept = kept.followed_by(self._compute_rows(kept.last, last))
        self.known_rows = kept
        return kept.between(first, last)

    def _forget_rows_before(self, number: int) -> None:
        """Free the memory of gaps that will not be asked for again."""
        if self.known_rows is not None and self.known_rows.first < number + self.offset <= self.known_rows.last:
            self.known_rows = self.known_rows.between(number + self.offset, self.known_rows.last)

    def _compute_rows(self, first: int, last: int) -> GapRows:
        history = self.history_of(first - self.offset, last - self.offset)
        return GapRows.from_history(history, first, last, self.fitted.hazard.shapes)
