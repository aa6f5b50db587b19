"""Exported versions that somebody has tampered with, and what an import says about each."""

from __future__ import annotations

import json
import math
import stat
import zipfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.exported import write_export

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _compressed(file: Path, description: dict[str, Any], files: dict[str, bytes]) -> None:
    write_export(file, description, {**files, "model.json": bytes(50_000_000)}, compression=zipfile.ZIP_DEFLATED)


def _overlapping(file: Path, description: dict[str, Any], files: dict[str, bytes]) -> None:
    """A directory of entries that all are the same bytes of the file."""
    write_export(file, description, files)
    with zipfile.ZipFile(file, "a") as archive:
        model, *_ = (entry for entry in archive.infolist() if entry.filename.endswith("model.json"))
        model.file_size = model.compress_size = 2**31
        archive._didModify = True  # type: ignore[attr-defined]


def _link(file: Path, description: dict[str, Any], files: dict[str, bytes]) -> None:
    write_export(file, description, files)
    with zipfile.ZipFile(file, "a") as archive:
        entry = zipfile.ZipInfo("files/link")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")


def _more(name: str) -> Callable[..., None]:
    """Add a file with this name, which the description lists too."""
    return lambda file, description, files: write_export(file, description, {**files, name: b"{}"})


def _unlisted(file: Path, description: dict[str, Any], files: dict[str, bytes]) -> None:
    write_export(file, description, files)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("files/more.json", b"{}")


def _wrong_hash(file: Path, description: dict[str, Any], files: dict[str, bytes]) -> None:
    listed = description["files"]
    listed["model.json"]["sha256"] = "0" * 64
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("export.json", json.dumps(description))
        for path, data in files.items():
            archive.writestr(f"files/{path}", data)


def _described(**changes: Any) -> Callable[..., None]:
    """Change what the file says about the version."""

    def write(file: Path, description: dict[str, Any], files: dict[str, bytes]) -> None:
        write_export(file, {**description, "version": {**description["version"], **changes}}, files)

    return write


def _with_evaluations(description: dict[str, Any], evaluations: list[dict[str, Any]]) -> dict[str, Any]:
    return {**description, "version": {**description["version"], "evaluations": evaluations}}


def _evaluated(**changes: Any) -> Callable[..., None]:
    """Change what the file says about the version's evaluation."""

    def write(file: Path, description: dict[str, Any], files: dict[str, bytes]) -> None:
        (evaluation,) = description["version"]["evaluations"]
        write_export(file, _with_evaluations(description, [{**evaluation, **changes}]), files)

    return write


def _explained(**changes: Any) -> Callable[..., None]:
    """Add an explanation with changes."""
    explanation: dict[str, Any] = {
        "explanation_id": "explanation_1",
        "explained_at": "2024-06-01T00:00:00Z",
        "method": "permuted",
        "window": {"start": "2024-05-01T00:00:00Z", "end": "2024-05-31T00:00:00Z"},
        "num_predictions": 1,
        "metrics": {"overall_score": 0.5, "crps_hours": 2.0},
        "parts": [],
        "seed": 0,
        "cost_usd": 0.0,
        "problem": "",
    }
    return _described(explanation={**explanation, **changes})


_PART = {"name": "hour", "label": "the hour", "num_predictions": 1, "problem": ""}

HOSTILE: dict[str, tuple[Callable[..., None], str]] = {
    "a zip bomb": (_compressed, "'export.json' is compressed"),
    "overlapping entries": (_overlapping, "its files overlap"),
    "a link": (_link, "'files/link' is not a regular file"),
    "a path out of the folder": (_more("../../../../evil"), "is not a plain relative path"),
    "an absolute path": (_more("/tmp/evil"), "is not a plain relative path"),  # noqa: S108
    "a Windows path": (_more("..\\evil"), "is not a plain relative path"),
    "names that differ in case": (_more("Model.json"), "differs from another one only in case"),
    "a file that is not listed": (_unlisted, "its files are not those that export.json lists"),
    "a missing manifest": (
        lambda file, description, files: write_export(
            file, description, {path: data for path, data in files.items() if path != "manifest.json"}
        ),
        "its files are not those that export.json lists",
    ),
    "a changed model": (
        lambda file, description, files: write_export(file, description, {**files, "model.json": b"{}"}),
        "its 'manifest.json' does not fit its files",
    ),
    "a changed live fit": (
        lambda file, description, files: write_export(
            file, description, {path: b"{}" if path.startswith("refits/") else data for path, data in files.items()}
        ),
        "/manifest.json' does not fit its files",
    ),
    "no live fit": (
        lambda file, description, files: write_export(
            file, description, {path: data for path, data in files.items() if not path.startswith("refits/")}
        ),
        "/manifest.json' does not fit its files",
    ),
    "a manifest of nonsense": (
        lambda file, description, files: write_export(file, description, {**files, "manifest.json": b'[{"a": 1}]'}),
        "its 'manifest.json' does not fit its files",
    ),
    "a wrong hash": (_wrong_hash, "the SHA-256 of 'model.json' is wrong"),
    "a newer format": (
        lambda file, description, files: write_export(file, {**description, "format": 2}, files),
        "has the format 2, this release reads up to 1. Upgrade retrainer",
    ),
    "no format": (lambda file, _, files: write_export(file, {}, files), "is not an exported version"),
    "another ZIP archive": (
        lambda file, _, __: zipfile.ZipFile(file, "w").writestr("posts.csv", "id,text"),
        "is not an exported version. To import posts, run: retrainer posts import",
    ),
    "no ZIP archive": (lambda file, _, __: file.write_text("id,created_at,text\n"), "is not an exported version"),
    "endless nesting": (
        lambda file, _, __: zipfile.ZipFile(file, "w").writestr("export.json", "[" * 1_000_000),
        "is damaged",
    ),
    "an id that is a path": (_described(version_id="../../evil"), "is damaged: version.version_id"),
    "a time without a zone": (_described(trained_through="2024-06-01T00:00:00"), "is damaged: version.trained_through"),
    "a time out of range": (
        _described(trained_through="0001-01-01T00:00:00+14:00"),
        "is damaged: version.trained_through: Value error, is out of range in UTC",
    ),
    "a time too early": (_described(trained_at="0001-01-02T00:00:00Z"), "is damaged: version.trained_at"),
    "an explanation of an unknown kind": (_explained(method="guessed"), "is damaged: version.explanation.method"),
    "an explanation without its posts": (_explained(window={}), "the explanation 'explanation_1' is not complete"),
    "an explanation without a metric": (
        _explained(parts=[{**_PART, "worth": {"overall_score": {"value": 0.1, "interval": None}}}]),
        "the explanation 'explanation_1' is not complete",
    ),
    "an explanation with a broken interval": (
        _explained(parts=[{**_PART, "worth": {"overall_score": {"value": 0.1, "interval": [1]}}}]),
        "is damaged: version.explanation.parts",
    ),
    "a time in the future": (
        _described(trained_at=(datetime.now(UTC) + timedelta(days=2)).isoformat()),
        "is in the future",
    ),
    "a score too large": (
        _evaluated(metrics={"overall_score": 10**400}),
        "is damaged: it has a number that is not finite or too large",
    ),
    "a score that is infinite": (_evaluated(metrics={"overall_score": math.inf}), "is damaged"),
    "a score that is NaN": (_evaluated(metrics={"overall_score": math.nan}), "is damaged"),
    "a score that is no number": (_evaluated(metrics={"overall_score": True}), "is not complete"),
    "no scores of the naive forecast": (_evaluated(baseline={"metrics": 1}), "is not complete"),
    "an evaluation twice": (
        lambda file, description, files: write_export(
            file, _with_evaluations(description, 2 * description["version"]["evaluations"]), files
        ),
        "is damaged: two of its evaluations have the same id",
    ),
    "a file that is also a folder": (_more("Model.json/x"), "has a file 'model.json', which is also a folder"),
    "a NUL": (_described(trained_through_post_id="a\0b"), "is damaged: version.trained_through_post_id"),
    "a manifest of a newer release": (
        lambda file, description, files: write_export(file, description, {**files, "manifest.json": b'{"format": 2}'}),
        "its format is 2, this release reads up to 1. Upgrade retrainer",
    ),
    "a missing algorithm": (
        _described(algorithm="prophte"),
        "its algorithm 'prophte' is not installed. Install the plugin that provides it",
    ),
    "an algorithm of the other type": (
        _described(algorithm="claude_api"),
        "the algorithm 'claude_api' forecasts content, not timing",
    ),
    "wrong options": (_described(hyperparameters={"no_such": 1}), "no_such"),
    "half an evaluation": (
        lambda file, description, files: write_export(
            file, description, {path: data for path, data in files.items() if "evaluations/" not in path}
        ),
        "is not complete",
    ),
}
