"""The documents of posts, plugins, and what `doctor` finds."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field

from retrainer.render.documents.base import Document, Timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer import doctor
    from retrainer.algorithms.events import PluginStatus
    from retrainer.posts.importer import ImportResult
    from retrainer.posts.sources.fetching import FetchResult
    from retrainer.posts.sources.manager import TypeStatus


class PostsCountDocument(Document):
    """How many posts there are."""

    count: int
    with_content: int
    first: Timestamp | None
    last: Timestamp | None


class RejectedRowDocument(Document):
    """A row of a file that was left out."""

    file: str
    line: int
    reason: str


class ChangeDocument(Document):
    """A post that came with other values than the one before it with the same id; those that differ, by column."""

    file: str
    line: int
    post_id: str
    before: dict[str, Timestamp | str | int | None]
    after: dict[str, Timestamp | str | int | None]


class ImportedFileDocument(Document):
    """What was read from a file."""

    name: str
    recognised: str | None
    detected: tuple[str, ...]
    mapping: dict[str, str]
    rows: int
    ids_made: bool
    warnings: list[str]


class ImportDocument(Document):
    """The result of an import.

    `mapping` is that of the first file. `added_by_stream` has the streams with new posts. Of `updates` and `clashes`,
    the first 20 are listed.
    """

    mapping: dict[str, str]
    rows: int
    added: int
    added_by_stream: dict[str, int]
    updated: int
    already_there: int
    clashing: int
    repeated: int
    excluded: dict[str, int]
    rejected: list[RejectedRowDocument]
    dropped_counts: dict[str, int]
    updates: list[ChangeDocument]
    clashes: list[ChangeDocument]
    files: list[ImportedFileDocument]

    @classmethod
    def from_result(cls, result: "ImportResult") -> Self:
        files = result.files
        return cls.build(
            result,
            mapping=files[0].mapping if files else {},
            already_there=result.unchanged,
            rejected=[RejectedRowDocument.build(row, file=file.name) for file in files for row in file.rejected],
            dropped_counts=result.dropped,
            updates=[ChangeDocument.build(change, file=files[change.file].name) for change in result.first_updated],
            clashes=[ChangeDocument.build(change, file=files[change.file].name) for change in result.first_clashing],
        )


class FetchedSourceDocument(Document):
    """What was fetched from a source."""

    source: str
    stream: str
    pages: int
    added: int
    updated: int
    unchanged: int
    clashing: int
    repeated: int
    excluded: int
    rejected: int
    complete: bool
    error: dict[str, str] | None


class FetchDocument(Document):
    """What was fetched from all sources."""

    sources: list[FetchedSourceDocument]
    added: int
    updated: int

    @classmethod
    def from_results(cls, results: "Sequence[FetchResult]") -> Self:
        sources = [
            FetchedSourceDocument.build(result, error=result.problem.document()["error"] if result.problem else None)
            for result in results
        ]
        added, updated = (sum(getattr(result, name) for result in results) for name in ("added", "updated"))
        return cls(sources=sources, added=added, updated=updated)


class BackupDocument(Document):
    """A backup that was written or restored."""

    file: Path
    created_at: Timestamp
    release: str
    versions: int
    runs: int
    posts: int | None


class PluginDocument(Document):
    """One installed algorithm, observer or type of source."""

    name: str
    kind: str
    version: str
    distribution: str
    model_types: tuple[str, ...]
    summary: str | None
    hooks: tuple[str, ...]
    status: str
    problem: str | None

    @classmethod
    def from_status(cls, plugin: "PluginStatus") -> Self:
        description = plugin.description
        return cls.build(
            plugin,
            model_types=description.model_types if description else (),
            summary=description.summary if description else None,
            status="broken" if plugin.problem else "ok",
        )

    @classmethod
    def from_source_type(cls, source: "TypeStatus") -> Self:
        return cls.build(
            source,
            kind="source",
            model_types=(),
            hooks=("fetch", "source"),
            status="broken" if source.problem else "ok",
        )


class FindingDocument(Document):
    """Something that `doctor` found."""

    kind: str
    subject: str
    message: str
    hint: str
    mended: bool | None = Field(validation_alias="repaired")


class FindingsDocument(Document):
    """Everything that `doctor` found."""

    findings: list[FindingDocument]
    count: int

    @classmethod
    def from_findings(cls, findings: "Sequence[doctor.Finding]") -> Self:
        return cls.model_validate({"findings": findings, "count": len(findings)})


class SettingDocument(Document):
    """A setting, and where it was set: a line of the file, a variable of the environment, or `default`."""

    key: str
    value: Any
    source: str


class SettingsDocument(Document):
    """All settings, without passwords."""

    file: str
    settings: list[SettingDocument]
