"""A cache of what is computed from a version's files, which never change."""

from __future__ import annotations

from operator import attrgetter
from threading import Lock
from typing import TYPE_CHECKING

from cachetools import LRUCache, cachedmethod

from retrainer.pipeline.loading import feature_importance, load_reliability

if TYPE_CHECKING:
    from retrainer.algorithms import Importance
    from retrainer.model_types.base import Reliability
    from retrainer.project import Project
    from retrainer.registry.tables import ModelEvaluation, ModelVersion
    from retrainer.runtime import Runtime

MAX_RESULTS = 1000  # of each kind


class VersionCache:
    """The cached results of one server. Empty ones are not cached, since the files may only be missing for now."""

    def __init__(self, project: Project, runtime: Runtime) -> None:
        self._project = project
        self._runtime = runtime
        self._lock = Lock()
        self._reliability: LRUCache[str, list[Reliability]] = LRUCache(MAX_RESULTS, _size)
        self._importance: LRUCache[str, list[Importance]] = LRUCache(MAX_RESULTS, _size)

    @cachedmethod(attrgetter("_reliability"), lambda _self, _version, row: row.evaluation_id, attrgetter("_lock"))
    def reliability(self, version: ModelVersion, row: ModelEvaluation) -> list[Reliability]:
        """Return the reliability of a recorded evaluation."""
        return load_reliability(self._project, version, row)

    @cachedmethod(attrgetter("_importance"), lambda _self, version: version.version_id, attrgetter("_lock"))
    def importance(self, version: ModelVersion) -> list[Importance]:
        """Return the feature importance of a version."""
        return feature_importance(self._project, self._runtime, version)


def _size(result: list[Reliability] | list[Importance]) -> int:
    """Return the share of the cache that a result takes: an empty one does not fit."""
    return 1 if result else MAX_RESULTS + 1
