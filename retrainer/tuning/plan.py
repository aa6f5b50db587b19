"""What a study is made for: everything that the values of its trials depend on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from retrainer.model_types import ModelTypeName, OriginRule

MetricName = Literal["overall_score", "crps"]
METRICS: tuple[MetricName, ...] = get_args(MetricName)
METRIC_KEYS: dict[MetricName, str] = {"overall_score": "overall_score", "crps": "crps_hours"}  # in evaluations
MINIMISED: frozenset[MetricName] = frozenset({"crps"})


@dataclass(frozen=True)
class TunedAlgorithm:
    """An algorithm that takes part in a study.

    Attributes:
        name: its name.
        version: of the distribution that provides it.
        fingerprint: of its code; see `algorithms.fingerprint`.
        options: the configured options without the operational ones, as JSON.
    """

    name: str
    version: str
    fingerprint: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FoldBounds:
    """A fold as it is recorded: it trains on the posts before `start` and forecasts those up to `end`.

    Attributes:
        start: the number of posts that come before it, which is the row of its first post.
        end: the row after its last post.
    """

    start: int
    end: int


@dataclass(frozen=True)
class StudyPlan:
    """What a study is made for. Two calls with equal plans work on the same study.

    Attributes:
        stream: the stream.
        model_type: the model type.
        metric: what a trial is judged by.
        seed: of the sampler.
        algorithms: that compete; the first one, with its configured options, is trial 0.
        training_count: the number of training posts.
        training_digest: the SHA-256 of the training posts.
        folds: the folds whose mean is the value of a trial, oldest first.
        held_back: the held-back fold, the last one, which decides whether the winner is kept.
        origin: the rule by which origins are chosen.
        max_predictions: the maximum number of forecasts on a fold.
        cost_objective: whether the cost of a trial is a second objective.
    """

    stream: str
    model_type: ModelTypeName
    metric: MetricName
    seed: int
    algorithms: tuple[TunedAlgorithm, ...]
    training_count: int
    training_digest: str
    folds: tuple[FoldBounds, ...]
    held_back: FoldBounds
    origin: OriginRule
    max_predictions: int
    cost_objective: bool = False

    @property
    def key(self) -> str:
        """The SHA-256 of the plan: a study of another plugin version, or of other posts, has another one."""
        return hashlib.sha256(json.dumps(self.document(), sort_keys=True).encode()).hexdigest()

    @property
    def is_minimised(self) -> bool:
        """Whether a smaller value is better."""
        return self.metric in MINIMISED

    def improvement(self, old: float, new: float) -> float:
        """Return by how much a new value is better than an old one."""
        return old - new if self.is_minimised else new - old

    def document(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> StudyPlan:
        """Reverse `document`."""
        algorithms = tuple(TunedAlgorithm(**one) for one in document["algorithms"])
        folds = tuple(FoldBounds(**one) for one in document["folds"])
        held_back = FoldBounds(**document["held_back"])
        return cls(**{**document, "algorithms": algorithms, "folds": folds, "held_back": held_back})
