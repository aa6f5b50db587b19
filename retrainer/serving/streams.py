"""The streams that requests are about."""

from __future__ import annotations

import math
import time
from threading import Lock
from typing import TYPE_CHECKING

from cachetools import LRUCache

from retrainer.errors import UnknownName, UsageError
from retrainer.project import require_stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.project import Project
    from retrainer.registry.registry import Registry
    from retrainer.registry.tables import ModelVersion, TrainingRun

MAX_AGE_SECONDS = 1.0  # of what is known about streams, if no commit shows that there is another one
MAX_STREAMS = 1000  # that are known to exist
HINT = "Choose one with ?stream=; /streams lists them"


class Streams:
    """Looks up the streams of a project, and knows for a while which there are.

    With SQLite, and posts in the same database, it looks again after each commit, otherwise after a second.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._lock = Lock()
        self._last_commit: object = None
        self._until = -math.inf
        self._known: LRUCache[str | None, Project] = LRUCache(MAX_STREAMS)

    def are_in_database(self) -> bool:
        """Whether the project's own tables show which streams there are."""
        return not self._project.posts.is_foreign

    def choose(self, name: str | None) -> Project:
        """Return the project seen from a stream; None for the only one.

        Raises:
            UnknownName: there is no such stream.
            UsageError: there are several, and none is named.
        """
        commit = self._project.registry.database.last_commit()
        started = time.monotonic()
        with self._lock:
            if commit != self._last_commit or started > self._until:
                self._known.clear()
                self._last_commit = commit
                exact = commit is not None and self.are_in_database()
                self._until = math.inf if exact else started + MAX_AGE_SECONDS
            known = self._known.get(name)
        if known is not None:
            return known
        chosen = self._look_up(name)
        with self._lock:
            if commit == self._last_commit:
                self._known[name] = chosen
        return chosen

    def _look_up(self, name: str | None) -> Project:
        try:
            return self._project.choose_stream(name)
        except UnknownName:
            raise
        except UsageError as error:
            raise UsageError(error.message, hint=HINT) from None

    def select(self, patterns: Sequence[str] | None) -> Registry:
        """Return the registry of the streams that match one of the patterns; without patterns, of all streams.

        Raises:
            UnknownName: a pattern matches none, or there is no stream of a name.
        """
        return self._project.registry.across(self._project.select_streams(patterns))

    def find_version(self, name: str, stream: str | None) -> tuple[Project, ModelVersion]:
        """Return the version of a name, and the project seen from its stream; see `Project.find_version`."""
        seen = self.choose(stream) if stream is not None or "@" in name else self._project
        return seen.find_version(name, stream)

    def find_run(self, name: str, stream: str | None) -> TrainingRun:
        """Return the run of a name: its id, or a unique part of it.

        Raises:
            UnknownName: there is no such run in the stream, or no such stream.
        """
        registry = self._project.registry
        if stream is not None:
            self.choose(stream)
        run = registry.get_run(registry.find_run_id(name))
        require_stream(run.run_id, run.stream, stream)
        return run
