"""The kept scores of a live comparison, and what they add up to."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.errors import DamagedValue
from retrainer.evaluation.sequential import EProcess, Stakes
from retrainer.model_types import get_model_type
from retrainer.streams import stream_argument

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from retrainer.registry.live import PostScore
    from retrainer.registry.live_tables import LiveComparison
    from retrainer.registry.registry import Registry


@dataclass(frozen=True)
class Scores:
    """The scores of n posts, in order.

    Attributes:
        post_ids: the ids of the posts.
        created_at: (n,) datetime64[us], UTC; the times of the posts.
        figures: (n, k) of the live fit; see `ModelType.figure_names`.
        other_figures: (n, k) of the other side.
        stakes: of both.
    """

    post_ids: list[str]
    created_at: NDArray[np.datetime64]
    figures: NDArray[np.float64]
    other_figures: NDArray[np.float64]
    stakes: Stakes


def read_scores(registry: Registry, comparison_id: int, until: datetime | None = None) -> Iterator[Scores]:
    """Yield the scores of the posts up to a time, in order, some thousands at a time; None for all."""
    for rows in registry.stream_live_scores(comparison_id, until=until):
        yield Scores(
            [row.post_id for row in rows],
            np.array([row.created_at.replace(tzinfo=None) for row in rows], dtype="datetime64[us]"),
            np.array([row.figures for row in rows], dtype=float),
            np.array([row.other_figures for row in rows], dtype=float),
            stakes_of(rows),
        )


def read_sums(comparison: LiveComparison) -> NDArray[np.float64]:
    """Return the sums of the figures of the live fit and of the other side, shape (2, figures); (2, 0) without posts.

    Raises:
        DamagedValue: they are unreadable, or contradict the number of posts.
    """
    try:
        sums = np.array([comparison.sums, comparison.other_sums], dtype=float)
    except (TypeError, ValueError, OverflowError) as error:
        raise _damaged(comparison, str(error)) from error
    size = len(get_model_type(comparison.model_type_name).figure_names) if comparison.num_scored > 0 else 0
    if sums.shape != (2, size) or not np.isfinite(sums).all():
        raise _damaged(comparison, "they contradict each other")
    return sums


def _damaged(comparison: LiveComparison, problem: str) -> DamagedValue:
    command = f"retrainer live {comparison.model_type}{stream_argument(comparison.stream)}"
    again = f"Run `{command}` to add the scores up again"
    return DamagedValue(
        f"the sums of the live scores of '{comparison.fit}' are damaged: {problem}",
        hint=again if comparison.is_current else "Correct the row, or restore a backup",
    )


def load_evidence(comparison: LiveComparison) -> EProcess:
    """Return the e-process of a comparison: `worse` is the evidence that the live fit is worse than the other side.

    Raises:
        DamagedValue: see `Totals.of`.
    """
    return Totals.of(comparison).evidence


def stakes_of(scores: Sequence[PostScore]) -> Stakes:
    """Return the stakes of some scores."""
    return Stakes(*(np.array([getattr(score, name) for score in scores], dtype=float) for name in Stakes._fields))


@dataclass
class Totals:
    """What the scores of a comparison add up to: the same to the last digit however they are cut into updates.

    Attributes:
        evidence: the e-process.
        num_scored: the number of posts.
        sums: of the figures of the live fit; empty without posts.
        other_sums: of those of the other side.
        last: time and id of the last post; None without posts.
    """

    evidence: EProcess = field(default_factory=EProcess)
    num_scored: int = 0
    sums: list[float] = field(default_factory=list)
    other_sums: list[float] = field(default_factory=list)
    last: tuple[datetime, str] | None = None

    @classmethod
    def of(cls, comparison: LiveComparison) -> Totals:
        """Return the totals that are kept with a comparison, without the last post.

        Raises:
            DamagedValue: they are unreadable or contradict each other; `update_live` adds the scores up again.
        """
        sums, other_sums = read_sums(comparison).tolist()
        try:
            evidence = EProcess.from_bytes(comparison.state)
        except (TypeError, ValueError) as error:
            raise _damaged(comparison, str(error)) from error
        if evidence.count != comparison.num_scored:
            raise _damaged(comparison, "they contradict each other")
        return cls(evidence, comparison.num_scored, sums, other_sums)

    @classmethod
    def read(
        cls,
        registry: Registry,
        comparison: LiveComparison,
        *,
        before: datetime | None = None,
        until: datetime | None = None,
    ) -> Totals:
        """Add up the scores of the posts before a time, or up to one."""
        end = before - timedelta(microseconds=1) if before is not None else until
        totals = cls()
        for scores in registry.stream_live_scores(comparison.comparison_id, until=end):
            totals.add(scores)
        return totals

    def add(self, scores: Sequence[PostScore]) -> None:
        """Add the scores of the next posts."""
        if not scores:
            return
        self.evidence.update(stakes_of(scores))
        self.num_scored += len(scores)
        self.sums = _add(self.sums, [score.figures for score in scores])
        self.other_sums = _add(self.other_sums, [score.other_figures for score in scores])
        self.last = scores[-1].created_at, scores[-1].post_id

    def columns(self) -> dict[str, Any]:
        """Return the totals as columns of a comparison."""
        return {
            "num_scored": self.num_scored,
            "sums": self.sums,
            "other_sums": self.other_sums,
            "state": self.evidence.to_bytes(),
        }


def _add(sums: list[float], figures: list[list[float]]) -> list[float]:
    """Add figures one by one, since sums in another order differ in their last digits."""
    rows = np.array(([sums] if sums else []) + figures, dtype=float)
    total: list[float] = np.add.accumulate(rows, axis=0)[-1].tolist()
    return total
