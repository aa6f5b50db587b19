"""The state at a checkpoint that the forecasts after it rest on, cached in the process.

A state is a function of the model and of the posts up to the checkpoint, and of nothing else. Its key is a digest of
both, so a cached state is the one that would be computed, and forecasts are the same with and without the cache.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrainer_prophet.checkpoints import checkpoint_after
from retrainer_prophet.known_gaps import GAPS_BEFORE, KnownGaps, Segment
from retrainer_prophet.waits import RULE_GAPS, decide_rules

if TYPE_CHECKING:
    from retrainer.algorithms import PointRule
    from retrainer_prophet.hazard import Hazard
    from retrainer_prophet.stream import Stream

_MAX_STATES = 256  # in memory, of about 150 kB


@dataclass(frozen=True)
class CheckpointState:
    """What forecasts from the posts after a checkpoint rest on.

    Attributes:
        hazard: the hazard fitted at the checkpoint.
        known: the gaps before it.
        rules: the point rule right after posts and at clock times.
        earlier: the hazards at earlier checkpoints that the state at the next one rests on, by the checkpoint.
    """

    hazard: Hazard
    known: KnownGaps
    rules: tuple[PointRule, PointRule]
    earlier: dict[int, Hazard]


class StateCache:
    """The states used last, by their key.

    Threads may share it, and a process may fork at any time: every step is atomic, and there is no lock to inherit. At
    worst, two threads compute the same state.
    """

    def __init__(self, max_states: int = _MAX_STATES) -> None:
        self._states: OrderedDict[bytes, CheckpointState] = OrderedDict()
        self._max_states = max_states

    def __len__(self) -> int:
        return len(self._states)

    def get(self, key: bytes) -> CheckpointState | None:
        """Return the state, or None."""
        state = self._states.pop(key, None)
        if state is not None:
            self._states[key] = state  # as the one used last
        return state

    def put(self, key: bytes, state: CheckpointState) -> None:
        """Add a state, and drop the one that was not used for longest if there are too many."""
        self._states[key] = state
        if len(self._states) > self._max_states:
            self._states.popitem(last=False)

    def clear(self) -> None:
        """Drop all states."""
        self._states.clear()


CACHE = StateCache()


def state_at(stream: Stream, checkpoint: int) -> CheckpointState:
    """Return the state at a checkpoint, from the cache if it is there."""
    if stream.condensed is not None and stream.condensed.checkpoint == checkpoint:
        state = stream.condensed.state
    else:
        key = stream.key(checkpoint)
        cached = CACHE.get(key)
        state = cached or _compute(stream, checkpoint)
        if cached is None:
            CACHE.put(key, state)
    stream.hazards[checkpoint] = state.hazard
    return state


def known_gaps_of(stream: Stream, checkpoint: int, first: int, last: int) -> KnownGaps:
    """Return the known gaps that forecasts in the gaps from `first` to `last`, after a checkpoint, rest on."""
    known, first = state_at(stream, checkpoint).known, first - GAPS_BEFORE
    if first > known.last:  # long after the checkpoint: the gaps before it no longer matter
        return KnownGaps.of(Segment.of(stream, checkpoint, first, last))
    return known.extended(stream, checkpoint, last)


def compared_checkpoints(stream: Stream, checkpoint: int) -> list[int]:
    """Return the checkpoints in force at the gaps that the state at one, not 0, rests on, besides its hazard."""
    numbers = np.arange(checkpoint - RULE_GAPS - GAPS_BEFORE, checkpoint)
    return [int(number) for number in np.unique(stream.checkpoints(numbers))]


def _compute(stream: Stream, checkpoint: int) -> CheckpointState:
    if checkpoint == 0:
        segment = Segment.of(stream, 0, max(-GAPS_BEFORE, stream.first), max(0, stream.first))
        return CheckpointState(stream.hazard(0), KnownGaps.of(segment), stream.fitted.rules, {})
    earlier = compared_checkpoints(stream, checkpoint)
    if stream.condensed is not None:
        before = stream.condensed
        stream.hazards.update({**before.state.earlier, before.checkpoint: before.state.hazard})
    for number in earlier:
        cached = CACHE.get(stream.key(number))
        if cached is not None:
            stream.hazards[number] = cached.hazard
    segments = [stream.segment(number) for number in earlier]
    known = KnownGaps.of(segments[0])
    for segment in [*segments[1:], Segment.of(stream, checkpoint, checkpoint, checkpoint)]:
        known = known.followed_by(segment)
    rules = decide_rules(stream, known, checkpoint)
    next_one = compared_checkpoints(stream, checkpoint_after(checkpoint, stream.fitted.training_gaps))
    kept = {number: stream.hazards[number] for number in next_one if number < checkpoint}
    return CheckpointState(stream.hazard(checkpoint), known.recent(GAPS_BEFORE), rules, kept)
