"""Caches: of results from the files of a version, which never change, and of responses until the database changes."""

from __future__ import annotations

import math
import time
from operator import attrgetter
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

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
MAX_BYTES = 8_000_000  # of all responses
MAX_AGE_SECONDS = 1.0  # of a response that depends on the time


class _Body(NamedTuple):
    """A kept body, and until when it may be served, by the monotonic clock in seconds."""

    body: bytes
    until: float


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
        return load_reliability(self._project.for_stream(version.stream), version, row)

    @cachedmethod(attrgetter("_results"), lambda _self, version: version.version_id, attrgetter("_lock"))
    def importance(self, version: ModelVersion) -> list[Importance] | None:
        """Return the feature importance of a version; None if it cannot be computed for now."""
        return feature_importance(self._project.for_stream(version.stream), self._runtime, version)


class ResponseCache:
    """The bodies of responses, kept until anything in the database changes.

    One that depends on the time too, such as whether the process of a run is alive, is kept for a second at most. If
    the database does not say whether it has changed, only responses that may be a second old are kept.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = Lock()
        self._last_commit: object = None
        self._bodies: LRUCache[Hashable, _Body] = LRUCache(MAX_BYTES, lambda kept: len(kept.body))

    def get(
        self,
        key: Hashable,
        compute: Callable[[], bytes],
        keep: Callable[[], bool] | None = None,
        *,
        may_be_old: bool = False,
    ) -> bytes:
        """Return the body under a key, which is computed again if the database has changed since.

        Args:
            key: distinguishes the responses.
            compute: returns the body.
            keep: whether the body that was computed depends on the database only; None if it always does.
            may_be_old: whether the body may be a second old, whatever has changed in the database.
        """
        # Read before the body is computed, which may then be newer than this commit, but never older.
        commit = self._registry.database.last_commit()
        if commit is None and not may_be_old:
            return compute()
        with self._lock:
            if commit != self._last_commit:
                self._bodies.clear()
                self._last_commit = commit
            kept = self._bodies.get(key)
        if kept is not None and time.monotonic() < kept.until:
            return kept.body
        started = time.monotonic()
        body = compute()
        lasts = not may_be_old and (keep is None or keep())
        until = math.inf if lasts else started + MAX_AGE_SECONDS
        with self._lock:
            if commit == self._last_commit and len(body) <= MAX_BYTES:
                self._bodies[key] = _Body(body, until)
        return body

    def no_runs(self) -> bool:
        """Whether no run is in progress. The database does not show whether the process of a run is still alive."""
        return not self._registry.list_running_runs()
