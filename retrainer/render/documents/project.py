"""The documents of posts, plugins, and what `doctor` finds."""

from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field

from retrainer.render.documents.base import Document, Timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer import doctor
    from retrainer.algorithms.events import PluginStatus
    from retrainer.posts.importer import ImportResult
    from retrainer.posts.sources.fetching import FetchResult


class PostsCountDocument(Document):
    """How many posts there are."""

    count: int
    with_content: int
    first: Timestamp | None
    last: Timestamp | None


class RejectedRowDocument(Document):
    """A row of a file that was left out."""

    line: int
    reason: str


class ImportDocument(Document):
    """The result of an import."""

    mapping: dict[str, str]
    rows: int
    added: int
    already_there: int
    repeated: int
    rejected: list[RejectedRowDocument]

    @classmethod
    def from_result(cls, result: "ImportResult") -> Self:
        return cls.build(result.file, added=result.added, already_there=len(result.file.posts) - result.added)


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
            FetchedSourceDocument.build(
                result, error=result.problem.document()["error"] if result.problem else None
            )
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
    """One installed algorithm or observer."""

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


class FindingDocument(Document):
    """Something that `doctor` found."""

    kind: str
    subject: str
    message: str
    mended: bool | None = Field(validation_alias="repaired")


class FindingsDocument(Document):
    """Everything that `doctor` found."""

    findings: list[FindingDocument]
    count: int

    @classmethod
    def from_findings(cls, findings: "Sequence[doctor.Finding]") -> Self:
        return cls.model_validate({"findings": findings, "count": len(findings)})
