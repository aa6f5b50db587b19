"""What the posts of a stream up to one mean for forecasts after it, condensed: a state that is stored and read again.

The state at the checkpoint in force, with the gaps known since, and the times of the last posts, as many as later
forecasts look back at. Forecasts with it are those from all posts, to the last digit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from hashlib import blake2b
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from retrainer.algorithms import PointRule, PseudoOrigins
from retrainer_prophet.checkpoint_state import CheckpointState, known_gaps_of, state_at
from retrainer_prophet.checkpoints import checkpoint_after
from retrainer_prophet.features import LOOKBACK_GAPS, LOOKBACK_HOURS
from retrainer_prophet.hazard import MAX_GAPS, Hazard
from retrainer_prophet.known_gaps import GAPS_BEFORE, KnownGaps
from retrainer_prophet.level import LEVEL_GAPS
from retrainer_prophet.waits import RULE_GAPS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from retrainer_prophet.stream import FittedModel, Stream
    from retrainer_prophet.time_grid import Floats

    Arrays = dict[str, NDArray[Any]]

_MAX_LATER_POSTS = 100  # which are read again for each forecast

_OF_KNOWN = ("levels", "expected", "ended", "pit", "stages")
_OF_ORIGINS = tuple(field.name for field in fields(PseudoOrigins))
_OF_HAZARD = ("intercepts", "coefficients", "feature_min", "feature_max")  # the shapes are those of the model


@dataclass(frozen=True)
class Condensed:
    """What is known of the posts up to one.

    Attributes:
        first: the number of the first post of `hours`; see `stream`.
        hours: (n,) the times of the last posts, in hours since the Monday, ascending.
        checkpoint: the one in force at the last post.
        state: that of the checkpoint, with the gaps known at the last post.
        most_in_a_day: the most posts in 24 hours, also before `hours`.
        digest: of all this.
    """

    first: int
    hours: Floats
    checkpoint: int
    state: CheckpointState
    most_in_a_day: int
    digest: bytes = b""

    @classmethod
    def of(cls, stream: Stream) -> Condensed | None:
        """Condense the posts of a stream; None if they end before those of the training."""
        number = stream.first + len(stream.hours) - 1
        if number < 0:
            return None
        checkpoint = int(stream.checkpoints(np.array([number]))[0])
        known = known_gaps_of(stream, checkpoint, number, number).recent(GAPS_BEFORE)
        state = replace(state_at(stream, checkpoint), known=known)
        first = _first_needed(stream, number, checkpoint)
        return cls(first, stream.hours[first + stream.offset :], checkpoint, state, stream.most_in_a_day)

    def good_for(self, training_gaps: int) -> int:
        """Return after how many more posts they should be condensed again: at the next checkpoint at the latest."""
        last = self.first + len(self.hours) - 1
        return min(checkpoint_after(self.checkpoint, training_gaps) - last, _MAX_LATER_POSTS)

    def to_bytes(self) -> bytes:
        """Return the state as the bytes of an `.npz` file."""
        known = self.state.known
        plain = {
            "first": self.first,
            "checkpoint": self.checkpoint,
            "most_in_a_day": self.most_in_a_day,
            "first_known": known.first,
            "earlier": list(self.state.earlier),
            "rules": [asdict(rule) for rule in self.state.rules],
        }
        arrays: Arrays = {"plain": np.frombuffer(orjson.dumps(plain), dtype=np.uint8), "hours": self.hours}
        arrays |= {name: getattr(known, name) for name in _OF_KNOWN}
        arrays |= {f"origins_{name}": getattr(known.origins, name) for name in _OF_ORIGINS}
        hazards = [self.state.hazard, *self.state.earlier.values()]
        arrays |= {name: np.stack([getattr(hazard, name) for hazard in hazards]) for name in _OF_HAZARD}
        file = BytesIO()
        np.savez(file, allow_pickle=False, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, fitted: FittedModel) -> Condensed:
        """Read the state of a model back."""
        with np.load(BytesIO(data), allow_pickle=False) as file:
            arrays: Mapping[str, NDArray[Any]] = dict(file)
        plain = orjson.loads(arrays["plain"].tobytes())
        known = KnownGaps(
            plain["first_known"],
            origins=PseudoOrigins(*(arrays[f"origins_{name}"] for name in _OF_ORIGINS)),
            **{name: arrays[name] for name in _OF_KNOWN},
        )
        rows = range(len(plain["earlier"]) + 1)
        hazard, *earlier = (
            Hazard(**{name: arrays[name][row] for name in _OF_HAZARD}, shapes=fitted.hazard.shapes) for row in rows
        )
        one, other = (PointRule(**rule) for rule in plain["rules"])
        state = CheckpointState(hazard, known, (one, other), dict(zip(plain["earlier"], earlier, strict=True)))
        return cls(
            plain["first"], arrays["hours"], plain["checkpoint"], state, plain["most_in_a_day"], blake2b(data).digest()
        )

    def followed_by(self, hours: Floats) -> Floats:
        """Return the known times and those of (n,) ascending ones that are later."""
        return np.concatenate([self.hours, hours[hours > self.hours[-1]]])


def _first_needed(stream: Stream, number: int, checkpoint: int) -> int:
    """Return the number of the first post whose time matters to forecasts from a post on."""
    following = checkpoint_after(checkpoint, stream.fitted.training_gaps)
    of_next_state = following - max(MAX_GAPS, RULE_GAPS + GAPS_BEFORE + LEVEL_GAPS)
    # Long after the post, the level is computed from the gaps before it again: see `known_gaps_of`.
    index = max(min(number - LEVEL_GAPS, of_next_state) + stream.offset, 0)
    a_month_before = int(np.searchsorted(stream.hours, stream.hours[index] - LOOKBACK_HOURS - 1))
    return max(min(a_month_before, index - LOOKBACK_GAPS - 1), 0) - stream.offset
