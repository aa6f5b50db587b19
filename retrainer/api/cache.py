"""Caches: of what is computed from a version's files, which never change, and of answers until the database changes."""

from __future__ import annotations

from operator import attrgetter
from threading import Lock
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache, cachedmethod

from retrainer.pipeline.loading import feature_importance, load_reliability

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from retrainer.algorithms import Importance
    from retrainer.model_types.base import Reliability
    from retrainer.project import Project
    from retrainer.registry.registry import Registry
    from retrainer.registry.tables import ModelEvaluation, ModelVersion
    from retrainer.runtime import Runtime

MAX_RESULTS = 2000
MAX_BYTES = 8_000_000  # of all answers


class VersionCache:
    """The cached results of one server. None is not cached, since the files may only be missing for now."""

    def __init__(self, project: Project, runtime: Runtime) -> None:
        self._project = project
        self._runtime = runtime
        self._lock = Lock()
        # None does not fit.
        self._results: LRUCache[str, Any] = LRUCache(
            MAX_RESULTS, lambda result: 1 if result is not None else MAX_RESULTS + 1
        )

    @cachedmethod(attrgetter("_results"), lambda _self, _version, row: row.evaluation_id, attrgetter("_lock"))
    def reliability(self, version: ModelVersion, row: ModelEvaluation) -> list[Reliability] | None:
        """Return the reliability of a recorded evaluation; None if it cannot be computed for now."""
        return load_reliability(self._project, version, row)

    @cachedmethod(attrgetter("_results"), lambda _self, version: version.version_id, attrgetter("_lock"))
    def importance(self, version: ModelVersion) -> list[Importance] | None:
        """Return the feature importance of a version; None if it cannot be computed for now."""
        return feature_importance(self._project, self._runtime, version)


class AnswerCache:
    """The bodies of answers that depend on nothing but the database, kept until anything in it changes."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = Lock()
        self._last_commit: object = None
        self._bodies: LRUCache[Hashable, bytes] = LRUCache(MAX_BYTES, len)

    def get(self, key: Hashable, compute: Callable[[], bytes], keep: Callable[[], bool] | None = None) -> bytes:
        """Return the body under a key, which is computed again if the database has changed since.

        Args:
            key: distinguishes the answers.
            compute: returns the body.
            keep: whether the body that was computed depends on the database only; None if it always does.
        """
        # Read before the body is computed, which may then be newer than this commit, but never older.
        commit = self._registry.database.last_commit()
        if commit is None:
            return compute()
        with self._lock:
            if commit != self._last_commit:
                self._bodies.clear()
                self._last_commit = commit
            body = self._bodies.get(key)
        if body is None:
            body = compute()
            if keep is not None and not keep():
                return body
            with self._lock:
                if commit == self._last_commit and len(body) <= MAX_BYTES:
                    self._bodies[key] = body
        return body

    def no_runs(self) -> bool:
        """Whether no run is in progress. The database does not show whether the process of a run is still alive."""
        return not self._registry.list_running_runs()
