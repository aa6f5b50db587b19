"""A cache of the answers that paid calls got, so that an interrupted run does not pay for them again."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from retrainer.algorithms.pending_batches import PendingBatches
from retrainer.files import open_regular, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

MAX_AGE_DAYS = 30
_FILES = f"*{'[0-9a-f]' * 64}-*"  # also records of batches, and what a kill during a write leaves


class AnswerCache:
    """Answers by request, one JSON file each, readable by the owner only.

    Attributes:
        batches: the batches of requests whose answers are still to come.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Use a folder, created with the first answer; with None nothing is cached."""
        self.batches = PendingBatches(folder)
        self._folder = folder
        self._asked: set[str] = set()
        self._used: set[Path] = set()
        self._counts: Counter[str] = Counter()

    def start_batch(self) -> None:
        """Start a new batch of forecasts, whose requests may get the same answers as those of the last one."""
        self._counts.clear()

    def key(self, request: Any) -> str:
        """Return the key of a request: its hash, and how often this batch has made the same request before.

        Call it once for each forecast, in order.
        """
        digest = sha256(json.dumps(request, sort_keys=True, ensure_ascii=True).encode("ascii")).hexdigest()
        self._counts[digest] += 1
        key = f"{digest}-{self._counts[digest]}"
        self._asked.add(key)
        return key

    def get(self, key: str) -> dict[str, Any] | None:
        """Return a cached answer; None if there is none."""
        if self._folder is None:
            return None
        path = self._folder / f"{key}.json"
        try:
            with open_regular(path) as file:
                answer: dict[str, Any] = json.load(file)
        except (OSError, ValueError):
            return None
        self._mark(key, path)
        return answer

    def put(self, key: str, answer: dict[str, Any]) -> None:
        """Cache an answer until the run has completed. It survives a kill."""
        if self._folder is None:
            return
        path = self._folder / f"{key}.json"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(path, json.dumps(answer, ensure_ascii=True).encode("ascii"), mode=0o600)
        except OSError as error:
            log.warning("Cannot cache an answer in '%s': %s", self._folder, error.strerror)
            return
        self._mark(key, path)

    def _mark(self, key: str, path: Path) -> None:
        """Remember an answer as used, unless it is to a request of another run, which came in the same batch."""
        if key in self._asked:
            self._used.add(path)

    def keep_used(self) -> None:
        """Do not delete the answers that were used so far: the work that they are for will be continued."""
        self._used.clear()

    def clear_used(self) -> None:
        """Delete the answers that this run used, and answers and records of batches older than 30 days."""
        if self._folder is None:
            return
        oldest = time.time() - MAX_AGE_DAYS * 86_400
        with suppress(OSError):
            for path in self._folder.glob(_FILES):
                if path in self._used or path.lstat().st_mtime < oldest:
                    path.unlink(missing_ok=True)
