"""What is worked out from a version's files and never changes is kept, for the next request that asks for it."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

from retrainer.pipeline.loading import feature_importance, load_reliability

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrainer.algorithms import Importance
    from retrainer.model_types.base import Reliability
    from retrainer.project import Project
    from retrainer.registry.tables import ModelEvaluation, ModelVersion
    from retrainer.runtime import Runtime

T = TypeVar("T")
MOST = 1000  # answers of each kind; the oldest are given up


class Kept:
    """The kept answers of one server. Empty ones are not kept: they may come of files that are missing for now."""

    def __init__(self, project: Project, runtime: Runtime) -> None:
        self._project = project
        self._runtime = runtime
        self._reliability: _Answers[list[Reliability]] = _Answers()
        self._importance: _Answers[list[Importance]] = _Answers()

    def reliability(self, version: ModelVersion, evaluation: ModelEvaluation) -> list[Reliability]:
        """Return how what an evaluation's forecasts stated held against what came."""
        return self._reliability.of(
            evaluation.evaluation_id, lambda: list(load_reliability(self._project, version, evaluation))
        )

    def importance(self, version: ModelVersion) -> list[Importance]:
        """Return what a version's forecasts lean on."""
        return self._importance.of(
            version.version_id, lambda: feature_importance(self._project, self._runtime, version)
        )


class _Answers(Generic[T]):
    """Answers by the id of what they are about, from the threads of the server."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, T] = OrderedDict()
        self._lock = Lock()

    def of(self, name: str, work_out: Callable[[], T]) -> T:
        """Return the kept answer, or work it out."""
        with self._lock:
            if name in self._known:
                return self._known[name]
        answer = work_out()
        with self._lock:
            if answer:
                self._known[name] = answer
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        return answer
