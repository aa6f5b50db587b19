"""Batches of paid requests that a service answers within hours, recorded until their answers are cached.

A batch is recorded before it is sent, and its id right after. A run that is killed in between, or while it waits,
leaves the record, and the next one that makes one of the same requests continues with that batch instead of paying
again.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping  # noqa: TC003  pydantic reads it
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from retrainer.files import exclusive_lock, open_regular, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

_RECORD = "-batch.json"
_LOCK = "-batch.lock"


@dataclass(frozen=True)
class PendingBatch:
    """A batch of requests.

    Attributes:
        estimates: the cost that was reserved for each request in US dollars, by its key in the answer cache, in the
            order in which they are sent.
        reserved_in: the ids of the shared budgets in which it was reserved.
        newest_before: the service's id of its newest batch before this one was sent; None if it had none.
        batch_id: the service's id of the batch; None until it is known.
        token: the name of the batch here: 64 random hexadecimal digits, of which ids of its requests can be made.
    """

    estimates: Mapping[str, float]
    reserved_in: tuple[str, ...] = ()
    newest_before: str | None = None
    batch_id: str | None = None
    token: str = field(default_factory=lambda: secrets.token_hex(32))


class PendingBatches:
    """The records of batches, one JSON file each, readable by the owner only."""

    def __init__(self, folder: Path | None = None) -> None:
        """Use the folder of the answer cache, created with the first record; with None nothing is recorded."""
        self._folder = folder
        self._warned: set[tuple[str, Path]] = set()

    def list(self) -> list[PendingBatch]:
        """Return all recorded batches, in no particular order."""
        paths = [] if self._folder is None else sorted(self._folder.glob(f"*{_RECORD}"))
        return [batch for path in paths if (batch := self._read(path))]

    def get(self, token: str) -> PendingBatch | None:
        """Return a recorded batch; None if it is no longer recorded."""
        return None if self._folder is None else self._read(self._folder / f"{token}{_RECORD}")

    def save(self, batch: PendingBatch) -> None:
        """Record a batch. The record survives a kill."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = json.dumps(asdict(batch), ensure_ascii=True).encode("ascii")
            write_atomically(self._folder / f"{batch.token}{_RECORD}", content, mode=0o600)
        except OSError as error:
            problem = "Cannot record a batch in '%s', so an interrupted run will pay for it again: %s"
            self._warn_once(problem, self._folder, error.strerror)

    def delete(self, token: str) -> None:
        """Delete the record of a batch. Its lock must be held, which processes that wait for it keep open."""
        if self._folder is None:
            return
        for name in (f"{token}{_RECORD}", f"{token}{_LOCK}"):
            try:
                (self._folder / name).unlink(missing_ok=True)
            except OSError as error:
                log.warning("Cannot delete '%s': %s", self._folder / name, error.strerror)

    def lock(self, token: str) -> AbstractContextManager[Any]:
        """Return a context manager that makes this process the only one that waits for a batch.

        Raises:
            TimeoutError: on entering, another process waits for it.
            OSError: the folder cannot be written.
        """
        if self._folder is None:
            return nullcontext()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return exclusive_lock(self._folder / f"{token}{_LOCK}", timeout=0)

    def _read(self, path: Path) -> PendingBatch | None:
        """Return the batch of a record; None if there is none, or, with a warning, if it cannot be read."""
        from pydantic import TypeAdapter  # noqa: PLC0415  slow to import, and rarely needed

        try:
            with open_regular(path) as file:
                return TypeAdapter(PendingBatch).validate_json(file.read())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is damaged, or of another release"
            self._warn_once(
                "Cannot read the record of a batch '%s', whose requests may be paid for again: %s", path, reason
            )
            return None

    def _warn_once(self, problem: str, path: Path, reason: str | None) -> None:
        """Warn of a file, which is read or written several times a run, the first time only."""
        if (problem, path) not in self._warned:
            self._warned.add((problem, path))
            log.warning(problem, path, reason)
