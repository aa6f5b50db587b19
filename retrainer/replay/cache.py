"""What a replay keeps: trained models and forecasts under the hash of what made them, and the steps that are done.

One SQLite file that several processes use at once. It holds plain data: files as a zip, arrays as .npz, JSON.
"""

from __future__ import annotations

import io
import json
import sqlite3
import zipfile
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from retrainer.errors import RetrainerError
from retrainer.model_types.content import ContentForecast
from retrainer.model_types.timing import TimingForecasts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from retrainer.model_types import ModelTypeName

_BUSY_SECONDS = 60
_TABLES = """
CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, seconds REAL NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS steps (policy TEXT, number INTEGER, document TEXT NOT NULL, PRIMARY KEY (policy, number));
CREATE TABLE IF NOT EXISTS decided (policy TEXT PRIMARY KEY, number INTEGER NOT NULL, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS spent (one INTEGER PRIMARY KEY CHECK (one = 1), usd REAL NOT NULL);
"""


class Kept(NamedTuple):
    """Something that was made, and how many seconds of processor time it took then."""

    seconds: float
    data: bytes


class Work:
    """The file of kept work."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")  # what a power cut takes is made again
            self._connection.executescript(_TABLES)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise RetrainerError(f"'{path}' cannot be read: {error}", hint="Begin anew, without --resume") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def recall(self, key: str) -> Kept | None:
        """Return what was kept under a key; None where nothing was."""
        row = self._connection.execute("SELECT seconds, data FROM kept WHERE key = ?", (key,)).fetchone()
        return None if row is None else Kept(*row)

    def keep(self, key: str, made: Kept) -> None:
        """Keep something under a key; the same key always stands for the same."""
        self._connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", (key, made.seconds, made.data))

    def spent(self) -> float:
        """Return what paid forecasts cost since the replay was begun, in US dollars."""
        row = self._connection.execute("SELECT usd FROM spent").fetchone()
        return 0.0 if row is None else float(row[0])

    def note_spent(self, usd: float) -> None:
        """Record what paid forecasts cost since the replay was begun."""
        self._connection.execute("INSERT OR REPLACE INTO spent VALUES (1, ?)", (usd,))

    def steps(self, policy: str) -> list[dict[str, Any]]:
        """Return the steps of a policy that are done, in order."""
        query = "SELECT document FROM steps WHERE policy = ? ORDER BY number"
        return [json.loads(document) for (document,) in self._connection.execute(query, (policy,))]

    def add_step(self, policy: str, number: int, document: Mapping[str, Any]) -> None:
        """Record that a step of a policy is done."""
        self._connection.execute("INSERT INTO steps VALUES (?, ?, ?)", (policy, number, json.dumps(document)))

    def decided(self, policy: str, number: int) -> dict[str, Any] | None:
        """Return what was decided at a step of a policy, if it was the last to be decided."""
        query = "SELECT document FROM decided WHERE policy = ? AND number = ?"
        row = self._connection.execute(query, (policy, number)).fetchone()
        return None if row is None else json.loads(row[0])

    def note_decided(self, policy: str, number: int, document: Mapping[str, Any]) -> None:
        """Record what was decided at a step of a policy that is not done yet."""
        row = (policy, number, json.dumps(document))
        self._connection.execute("INSERT OR REPLACE INTO decided VALUES (?, ?, ?)", row)

    def forget_steps(self, policy: str) -> None:
        """Forget that any step of a policy is done, or decided."""
        self._connection.execute("DELETE FROM decided WHERE policy = ?", (policy,))
        self._connection.execute("DELETE FROM steps WHERE policy = ?", (policy,))


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Return files by name as one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, data in sorted(files.items()):
            packed.writestr(name, data)
    return buffer.getvalue()


def unpack_files(data: bytes) -> dict[str, bytes]:
    """Return what `pack_files` packed."""
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def pack_forecasts(forecasts: TimingForecasts | list[ContentForecast]) -> bytes:
    """Return forecasts of either type as plain data."""
    if isinstance(forecasts, TimingForecasts):
        buffer = io.BytesIO()
        np.savez(buffer, quantiles=forecasts.quantiles, point=forecasts.point)
        return buffer.getvalue()
    return json.dumps([asdict(forecast) for forecast in forecasts]).encode("ascii")


def unpack_forecasts(data: bytes, model_type: ModelTypeName) -> TimingForecasts | list[ContentForecast]:
    """Return what `pack_forecasts` packed, to the last bit."""
    if model_type == "timing":
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return TimingForecasts(stored["quantiles"], stored["point"])
    return [ContentForecast(**forecast) for forecast in json.loads(data)]
