"""Export a version to one file, and import it into another project.

The file is a ZIP archive of `export.json`, which describes the version as `retrainer show --json` does and names the
SHA-256 of every file, and of the version's files under `files/`. Nothing in it is compressed, so that reading it takes
no more memory than the file has bytes, and nothing in it is run.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import zipfile
from dataclasses import replace
from datetime import timedelta
from types import NoneType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import from_json

from retrainer import __version__
from retrainer.errors import ArtifactError, RetrainerError, UnknownName, UsageError
from retrainer.files import new_file, open_regular
from retrainer.model_types import get_model_type
from retrainer.pipeline.evaluations import select_columns
from retrainer.registry.manifest import MANIFEST
from retrainer.registry.model_files import files_of_fit
from retrainer.registry.place import require_plain_paths, sha256, version_path
from retrainer.registry.queries import require_not_pruned
from retrainer.registry.refits import REFITS, Refit
from retrainer.registry.tables import ModelEvaluation, ModelExplanation, ModelVersion
from retrainer.render.documents.exports import ExportDocument, ExportedVersionDocument, ImportedExportDocument
from retrainer.times import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.render.documents.exports import (
        ImportedEvaluationDocument,
        ImportedExplanationDocument,
        ImportedVersionDocument,
    )
    from retrainer.runtime import Runtime

FORMAT = 1
DESCRIPTION = "export.json"
FILES = "files/"
_CLOCK_DIFFERENCE = timedelta(days=1)  # between this machine and the one that trained, at most
_TOO_LARGE = 2**63
_HEADER_BYTES = 30  # of a file in a ZIP archive, before its name
_BROKEN = (zipfile.BadZipFile, RuntimeError, EOFError, ValueError, LookupError, OverflowError, struct.error)


def export_version(project: Project, version: ModelVersion, file: Path, now: datetime, *, force: bool = False) -> None:
    """Write a version, with its evaluations and the decisions about it, to one file.

    Args:
        force: whether to replace the file if it exists.

    Raises:
        UsageError: the file exists.
        ArtifactError: a file of the version was changed, pruned, or is missing.
        RetrainerError: the file cannot be written.
    """
    if os.path.lexists(file) and not force:
        raise UsageError(f"'{file}' exists", hint="Choose another name, or add --force")
    require_not_pruned(version, "Choose another version")
    live = f"{version.refit.folder}/" if version.refit else None
    files = project.artifacts.read_files(
        version, lambda path: not path.startswith(f"{REFITS}/") or (live is not None and path.startswith(live))
    )
    described = ExportedVersionDocument.from_rows(
        version,
        [(row, []) for row in project.registry.list_evaluations(version.version_id)],
        project.registry.version_history(version.version_id),
        [],
        explanation=project.registry.get_explanation(version.version_id),
    )
    document = ExportDocument.model_validate(
        {
            "format": FORMAT,
            "release": __version__,
            "exported_at": now,
            "version": described,
            "files": {path: {"sha256": sha256(data), "size": len(data)} for path, data in files.items()},
        }
    )
    with new_file(file, replace=force) as made:
        made.touch(mode=0o600)  # it holds posts
        with zipfile.ZipFile(made, "w") as archive:
            archive.writestr(DESCRIPTION, document.model_dump_json(indent=2))
            for path, data in files.items():
                archive.writestr(FILES + path, data)


def import_version(
    project: Project, runtime: Runtime, file: Path, now: datetime, *, stream: str | None = None
) -> tuple[ModelVersion, bool]:
    """Register an exported version as a trained one, which is not in production.

    Args:
        stream: the stream that it is to be of, which need not exist; None for the one that it was exported from.

    Returns:
        The version, and whether it was new: importing it again changes nothing.

    Raises:
        UsageError: the file is not an exported version.
        UnknownName: the algorithm of the version is not installed.
        RetrainerError: the file is damaged or from a newer release, its model cannot be loaded, or the project has
            another version of this name.
    """
    document, files = _read(file)
    if document.version.trained_at > now + _CLOCK_DIFFERENCE:
        raise _damaged(file, f"its trained_at '{format_time(document.version.trained_at)}' is in the future")
    project = project.for_stream(document.version.stream if stream is None else stream)
    version = _version(project, document.version, files)
    occupied = project.artifacts.place.find_sizes(version)
    if project.registry.is_known(version):
        return version, False
    if occupied:
        folder = project.artifacts.place.locate(version_path(version))
        raise ArtifactError(f"'{folder}' exists, but the database does not know it", hint="Move it away")
    _require_loadable(runtime, version, files, file)
    reason = f"Imported from '{file.name}'"
    evidence = {
        "release": document.release,
        "exported_at": document.exported_at,
        "decisions": document.version.ledger,
    }
    with project.artifacts.staging(version.model_type_name) as staging:
        rows = project.artifacts.stage_files(staging, version, files)
        evaluations = [_evaluation(row, version) for row in document.version.evaluations]
        explanation = _explanation(document.version.explanation, version)
        with staging.keep_if_recorded():
            is_new = project.registry.import_version(version, rows, evaluations, explanation, reason, now, evidence)
        if not is_new:
            return version, False  # another process was faster
        project.artifacts.publish(staging)
    return version, True


def _read(file: Path) -> tuple[ImportedExportDocument, dict[str, bytes]]:
    """Return what an export says about itself, and the version's files, whose hashes were checked."""
    try:
        with open_regular(file) as opened, zipfile.ZipFile(opened) as archive:
            if DESCRIPTION not in archive.namelist():
                raise _not_an_export(file)
            _require_plain_entries(archive, opened.seek(0, os.SEEK_END), file)
            document = _parse(archive.read(DESCRIPTION), file)
            expected = [DESCRIPTION, *(FILES + path for path in document.files)]
            if MANIFEST not in document.files or sorted(archive.namelist()) != sorted(expected):
                raise _damaged(file, f"its files are not those that {DESCRIPTION} lists")
            files = {path: archive.read(FILES + path) for path in document.files}
    except OSError as error:
        raise RetrainerError(f"cannot read '{file}': {error.strerror}", hint="Check the path") from error
    except _BROKEN as error:
        raise (_damaged(file, str(error)) if _begins_as_export(file) else _not_an_export(file)) from error
    for path, listed in document.files.items():
        if sha256(files[path]) != listed.sha256:
            raise _damaged(file, f"the SHA-256 of '{path}' is wrong")
    return document, files


def _begins_as_export(file: Path) -> bool:
    """Whether the name in the first header is that of an export, whatever is missing or damaged after it."""
    with open_regular(file) as opened:
        return opened.read(100)[_HEADER_BYTES:].startswith(DESCRIPTION.encode())


def _require_plain_entries(archive: zipfile.ZipFile, size: int, file: Path) -> None:
    """Check that the entries of an archive are uncompressed regular files, and no larger than the archive."""
    for entry in archive.infolist():
        if entry.compress_type != zipfile.ZIP_STORED:
            raise _damaged(file, f"'{entry.filename}' is compressed")
        if stat.S_IFMT(entry.external_attr >> 16) not in {0, stat.S_IFREG}:
            raise _damaged(file, f"'{entry.filename}' is not a regular file")
    if sum(entry.file_size for entry in archive.infolist()) > size:
        raise _damaged(file, "its files overlap")


def _parse(text: bytes, file: Path) -> ImportedExportDocument:
    content = from_json(text)
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise _not_an_export(file)
    if not _has_storable_numbers(content):
        raise _damaged(file, "it has a number that is not finite or too large")
    if content["format"] > FORMAT:
        raise RetrainerError(
            f"'{file}' has the format {content['format']}, this release reads up to {FORMAT}", hint="Upgrade retrainer"
        )
    try:
        document = ImportedExportDocument.model_validate(content)
        require_plain_paths(document.files, document.version.version_id)
    except ValidationError as error:
        first = error.errors()[0]
        raise _damaged(file, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except ArtifactError as error:
        raise _damaged(file, error.message) from error
    ids = [evaluation.evaluation_id for evaluation in document.version.evaluations]
    if len(set(ids)) < len(ids):
        raise _damaged(file, "two of its evaluations have the same id")
    explanation = document.version.explanation
    if explanation is not None and not _can_be_shown(explanation):
        raise _damaged(file, f"the explanation '{explanation.explanation_id}' is not complete")
    for evaluation in document.version.evaluations:
        if evaluation.forecasts_file not in document.files or not _is_sound(evaluation, document.version.model_type):
            raise _damaged(file, f"the evaluation '{evaluation.evaluation_id}' is not complete")
    return document


def _can_be_shown(explanation: ImportedExplanationDocument) -> bool:
    """Whether an explanation names its posts, and each part that was measured has all metrics."""
    metrics = explanation.metrics.keys()
    return all(isinstance(explanation.window.get(key), str) for key in ("start", "end")) and all(
        part.worth is None or part.worth.keys() == metrics for part in explanation.parts
    )


def _has_storable_numbers(content: Any) -> bool:
    """Whether all numbers in a JSON document are finite, and no larger than either database stores."""
    if isinstance(content, dict):
        return all(map(_has_storable_numbers, content.values()))
    if isinstance(content, list):
        return all(map(_has_storable_numbers, content))
    return not isinstance(content, int | float) or abs(content) < _TOO_LARGE


def _is_sound(evaluation: ImportedEvaluationDocument, model_type: ModelTypeName) -> bool:
    """Whether an evaluation can be recorded and shown."""
    naive: object = evaluation.baseline.metrics or {}
    return (
        all(isinstance(evaluation.window.get(key), str) for key in ("start", "end"))
        and evaluation.metrics.get("overall_score") is not None
        and isinstance(naive, dict)
        and all(
            type(values.get(metric.key)) in {int, float, NoneType}  # a bool is an int
            for metric in get_model_type(model_type).metrics
            for values in (evaluation.metrics, naive)
        )
    )


def _version(project: Project, document: ImportedVersionDocument, files: Mapping[str, bytes]) -> ModelVersion:
    """Return the row of an exported version in this project, where it has no past."""
    model_type = document.model_type
    version = ModelVersion(
        version_id=document.version_id,
        stream=project.stream,
        model_type=model_type,
        algorithm=document.algorithm,
        trained_at=document.trained_at,
        status="failed" if document.status == "failed" else "trained",
        is_production=False,
        num_training_samples=document.num_training_samples,
        training_duration_seconds=document.training_duration_seconds,
        hyperparameters=document.hyperparameters,
        file_path=project.version_path(model_type, document.version_id),
        manifest_sha256=sha256(files[MANIFEST]),
        trained_through=document.trained_through,
        trained_through_post_id=document.trained_through_post_id,
        pinned=False,
    )
    if document.started_from in project.registry.list_version_ids(model_type):  # else a new live fit starts afresh
        version.started_from = document.started_from
    if document.refit_id is not None:
        refit = Refit(
            document.refit_id,
            document.num_refit_samples or 0,
            document.refit_through or document.trained_through,
            document.refit_through_post_id or "",
            manifest_sha256="",
        )
        version.refit = replace(refit, manifest_sha256=sha256(files.get(f"{refit.folder}/{MANIFEST}", b"")))
    return version


def _evaluation(document: ImportedEvaluationDocument, version: ModelVersion) -> ModelEvaluation:
    """Return the row of an exported evaluation; it belongs to no run of this project."""
    return ModelEvaluation(
        evaluation_id=document.evaluation_id,
        model_version_id=version.version_id,
        evaluated_at=document.evaluated_at,
        num_predictions=document.num_predictions,
        metrics=document.metrics,
        baseline_metrics=document.baseline.metrics or {},
        window=document.window,
        forecasts_file=document.forecasts_file,
        predictions_json=document.predictions_json,
        **select_columns(get_model_type(version.model_type_name), document.metrics),
    )


def _explanation(document: ImportedExplanationDocument | None, version: ModelVersion) -> ModelExplanation | None:
    """Return the row of an exported explanation; None if there is none."""
    if document is None:
        return None
    return ModelExplanation(model_version_id=version.version_id, **document.model_dump())


def _require_loadable(runtime: Runtime, version: ModelVersion, files: Mapping[str, bytes], file: Path) -> None:
    """Check that the model of an exported version can be loaded here."""
    try:
        algorithm = runtime.algorithms(version.algorithm, version.model_type_name)
    except UnknownName as error:
        raise UnknownName(
            f"cannot import '{file}': its algorithm '{version.algorithm}' is not installed",
            hint="Install the plugin that provides it",
        ) from error
    algorithm.recorded_options(version.hyperparameters, version.model_type_name)
    for refit in (None, version.refit) if version.refit else (None,):
        path = f"{refit.folder}/{MANIFEST}" if refit else MANIFEST
        try:
            fit = files_of_fit(files, version, refit)
            listed = json.loads(files[path])["files"]
            is_whole = all(sha256(data) == listed[name]["sha256"] for name, data in fit.items())
        except (LookupError, TypeError, ValueError, RecursionError):
            is_whole = False
        if not is_whole:
            raise _damaged(file, f"its '{path}' does not fit its files")
        algorithm.load(fit)


def _damaged(file: Path, problem: str) -> RetrainerError:
    return RetrainerError(f"'{file}' is damaged: {problem}", hint="Export the version again")


def _not_an_export(file: Path) -> UsageError:
    return UsageError(
        f"'{file}' is not an exported version", hint=f"To import posts, run: retrainer posts import {file}"
    )
