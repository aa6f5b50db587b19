"""The file of a replay: cached models and forecasts, and the results of its steps.

One SQLite file that several processes use at once. It holds plain data: files as a zip, arrays as .npz, JSON.
"""

from __future__ import annotations

import io
import json
import sqlite3
import zipfile
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import numpy as np

from retrainer.errors import RetrainerError
from retrainer.files import open_regular
from retrainer.model_types.base import read_arrays
from retrainer.model_types.content import ContentForecast
from retrainer.model_types.timing import TimingForecasts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from retrainer.model_types import ModelTypeName

_BUSY_SECONDS = 60
_APPLICATION_ID = 0x72657472  # "retr": in the header of every store
_HEADER = b"SQLite format 3\0"
_ID_OFFSET = 68
_TABLES = """
CREATE TABLE IF NOT EXISTS cache (key TEXT PRIMARY KEY, seconds REAL NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS steps (policy TEXT, number INTEGER, document TEXT NOT NULL, PRIMARY KEY (policy, number));
CREATE TABLE IF NOT EXISTS spending (id INTEGER PRIMARY KEY CHECK (id = 1), usd REAL NOT NULL);
"""


def is_store(path: Path) -> bool:
    """Whether a file is the file of a replay, even a damaged one. Nothing is written."""
    try:
        with open_regular(path) as file:
            header = file.read(_ID_OFFSET + 4)
    except OSError:
        return False
    if not header:  # of a replay that was killed at once; there is nothing to lose
        return True
    is_marked = int.from_bytes(header[_ID_OFFSET:]) == _APPLICATION_ID
    return header[: len(_HEADER)] == _HEADER and (is_marked or _has_only_our_tables(path))


def _has_only_our_tables(path: Path) -> bool:
    """Whether a database is a store of an earlier release, which did not mark it, or empty."""
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
        try:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        except sqlite3.DatabaseError:
            return False
    return {name for (name,) in rows} in (set(), {"cache", "steps"}, {"cache", "steps", "spending"})


class CachedResult(NamedTuple):
    """A cached result and the processor time in seconds that it took to compute."""

    seconds: float
    data: bytes


class ReplayStore:
    """The file of a replay."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            if self._connection.execute("PRAGMA application_id").fetchone() != (_APPLICATION_ID,):
                self._connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")  # what a power failure loses is recomputed
            self._connection.executescript(_TABLES)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise RetrainerError(f"cannot read '{path}': {error}", hint="Start over, without --resume") from error

    def close(self) -> None:
        self._connection.close()

    def get(self, key: str) -> CachedResult | None:
        """Return the cached result of a key; None if there is none."""
        row = self._connection.execute("SELECT seconds, data FROM cache WHERE key = ?", (key,)).fetchone()
        return None if row is None else CachedResult(*row)

    def results(self) -> list[tuple[str, CachedResult]]:
        """Return all cached results with their keys."""
        rows = self._connection.execute("SELECT key, seconds, data FROM cache")
        return [(key, CachedResult(seconds, data)) for key, seconds, data in rows]

    def put(self, key: str, result: CachedResult) -> None:
        """Cache a result. A key always stands for the same result."""
        self._connection.execute("INSERT OR REPLACE INTO cache VALUES (?, ?, ?)", (key, result.seconds, result.data))

    def spent_usd(self) -> float:
        """Return what paid forecasts have cost since the replay was first started, in US dollars."""
        row = self._connection.execute("SELECT usd FROM spending").fetchone()
        return 0.0 if row is None else float(row[0])

    def record_spending(self, usd: float) -> None:
        """Record what paid forecasts have cost since the replay was first started."""
        self._connection.execute("INSERT OR REPLACE INTO spending VALUES (1, ?)", (usd,))

    def steps(self, policy: str) -> list[dict[str, Any]]:
        """Return the recorded steps of a policy, in order."""
        query = "SELECT document FROM steps WHERE policy = ? ORDER BY number"
        return [json.loads(document) for (document,) in self._connection.execute(query, (policy,))]

    def record_step(self, policy: str, number: int, document: Mapping[str, Any]) -> None:
        """Record a step of a policy: first its decision, then all of it."""
        row = (policy, number, json.dumps(document))
        self._connection.execute("INSERT OR REPLACE INTO steps VALUES (?, ?, ?)", row)

    def delete_steps(self, policy: str) -> None:
        self._connection.execute("DELETE FROM steps WHERE policy = ?", (policy,))


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Pack files by name into a zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in sorted(files.items()):
            archive.writestr(name, data)
    return buffer.getvalue()


def unpack_files(data: bytes) -> dict[str, bytes]:
    """Reverse `pack_files`."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack_forecasts(forecasts: TimingForecasts | list[ContentForecast]) -> bytes:
    """Return forecasts of either model type as plain data."""
    if isinstance(forecasts, TimingForecasts):
        buffer = io.BytesIO()
        np.savez(buffer, quantiles=forecasts.quantiles, point=forecasts.point)
        return buffer.getvalue()
    return json.dumps([asdict(forecast) for forecast in forecasts]).encode("ascii")


def unpack_forecasts(data: bytes, model_type: ModelTypeName) -> TimingForecasts | list[ContentForecast]:
    """Reverse `pack_forecasts`, bit by bit."""
    if model_type == "timing":
        return TimingForecasts(**read_arrays(data))
    return [ContentForecast(**forecast) for forecast in json.loads(data)]
