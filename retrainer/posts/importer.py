"""Import posts from files or fetched records.

The rows are read once, record by record, into a staging place on disk; the database takes them in one transaction at
the end. An invalid value rejects its row, with a line and a reason. A problem with a file as a whole is a PostsError.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from retrainer.errors import PostsError, UsageError
from retrainer.posts.columns import NoTimesError, check_columns
from retrainer.posts.conversion import Conversion, ConversionOptions, FileResult
from retrainer.posts.exports import KnownExport, best_fit, known_exports
from retrainer.posts.readers import ReadOptions, find_posts_files
from retrainer.posts.records import NoRecordsError, PostsTable, Row, find_value, value_paths
from retrainer.posts.staging import MAX_SHOWN_CHANGES, open_staging
from retrainer.posts.validation import EPOCH, INEXACT, MICROSECOND, quote
from retrainer.streams import DEFAULT_STREAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy.orm import Session

    from retrainer.config import PostsSettings
    from retrainer.posts.merging import Merged
    from retrainer.posts.staging import Change, Changes, StagedPost, Staging
    from retrainer.posts.store import PostStore

    Progress = Callable[[str], None]

log = logging.getLogger(__name__)

MAX_REJECTED_SHARE = 0.1  # of the rows of an import; with more, it is refused
MAX_REASONS = 3  # in a message
_VALUES = re.compile(r"'.*'|[0-9]+")  # what differs between two reasons of a kind


@dataclass(frozen=True)
class ImportOptions:
    """How to read files, and what to do with their posts.

    Attributes:
        reading: how to read the files.
        conversion: how to find posts in the records.
        stream: the stream that the posts belong to; None for `default`, or that of a column.
        update: whether a post whose id is there already replaces the stored one.
        strict: whether a single rejected row refuses the import.
        allow_rejects: whether the import is done however many rows are rejected.
    """

    reading: ReadOptions = field(default_factory=ReadOptions)
    conversion: ConversionOptions = field(default_factory=ConversionOptions)
    stream: str | None = None
    update: bool = False
    strict: bool = False
    allow_rejects: bool = False


@dataclass(frozen=True)
class ImportResult:
    """The result of an import. Every row is counted once.

    Attributes:
        files: what was read, by file.
        repeated: the number of rows that repeat an earlier one of the import.
        within: the posts that came again with other values in the import.
        merged: what the database already had.
    """

    files: list[FileResult]
    repeated: int
    within: Changes
    merged: Merged

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def added(self) -> int:
        """The number of new posts."""
        return self.merged.added.total()

    @property
    def added_by_stream(self) -> dict[str, int]:
        """The number of new posts of each stream that has any."""
        return {stream: count for stream, count in self.merged.added.items() if count}

    @property
    def unchanged(self) -> int:
        """The number of posts that the database had already."""
        return self.merged.unchanged

    @property
    def updated(self) -> int:
        """The number of posts that replaced or completed another with the same id."""
        return self.within.updated + self.merged.changes.updated

    @property
    def clashing(self) -> int:
        """The number of posts ignored because another post has the same id."""
        return self.within.clashing + self.merged.changes.clashing

    @property
    def first_updated(self) -> list[Change]:
        return (self.within.first_updated + self.merged.changes.first_updated)[:MAX_SHOWN_CHANGES]

    @property
    def first_clashing(self) -> list[Change]:
        return (self.within.first_clashing + self.merged.changes.first_clashing)[:MAX_SHOWN_CHANGES]

    @property
    def excluded(self) -> Counter[str]:
        """The number of records left out, by kind."""
        return sum((file.excluded for file in self.files), Counter())

    @property
    def dropped(self) -> Counter[str]:
        """The number of counts that could not be read, by column."""
        return sum((file.dropped for file in self.files), Counter())

    @property
    def rejected(self) -> int:
        """The number of rejected rows."""
        return sum(len(file.rejected) for file in self.files)


def _no_progress(_line: str) -> None:
    pass


def import_posts(
    store: PostStore, paths: Sequence[Path], options: ImportOptions, now: datetime, *, progress: Progress = _no_progress
) -> ImportResult:
    """Read files and add their posts in one transaction.

    A post whose id exists already is left unchanged, or replaces the stored one with `options.update`; a text that was
    missing is filled in.

    Args:
        store: where to add the posts.
        paths: the files.
        options: see there.
        now: the time of the import; later posts are rejected.
        progress: is called with a line about the progress from time to time.

    Raises:
        UsageError: a column of the options is unknown, or not in a file; there are both a stream and a column of
            streams.
        PostsError: a file cannot be read or is refused, or the posts are in a foreign table.
    """
    store.require_writable()
    with open_staging(update=options.update) as staging:
        files = stage_files(staging, paths, options, store.settings, now, progress)
        name = quote(paths[0]) if len(paths) == 1 else f"{len(paths)} files"
        _require_accepted(name, files, options)
        return _merge(store, staging, files, options, now, progress=progress)


def stage_files(
    staging: Staging,
    paths: Sequence[Path],
    options: ImportOptions,
    settings: PostsSettings,
    now: datetime,
    progress: Progress = _no_progress,
) -> list[FileResult]:
    """Read files into a staging place; see `import_posts`."""
    check_columns(options.conversion.columns)
    if options.stream is not None and options.conversion.columns.get("stream"):
        raise UsageError("--stream and --column stream=… exclude each other", hint="Omit one")
    exports = known_exports(settings.formats)
    found = find_posts_files(paths, settings.limits, exports=[export.format for export in exports])
    reading = replace(options.reading, fit=partial(best_fit, exports))
    tables = ((file.open(reading), file.is_member) for file in found)
    return _stage(staging, tables, exports, options, settings, now, progress)


def import_records(
    store: PostStore,
    records: Iterable[Mapping[str, object]],
    export: KnownExport | None,
    *,
    name: str,
    stream: str,
    now: datetime,
    update: bool = False,
    conversion: ConversionOptions | None = None,
    then: Callable[[Session], None] | None = None,
) -> ImportResult:
    """Add the posts of fetched records in one transaction, unless all of the records are rejected.

    Args:
        store: where to add the posts.
        records: the records, all in memory.
        export: their format; None to find the columns by their names.
        name: where they come from, for messages.
        stream: the stream that the posts belong to.
        now: the time of the import; later posts are rejected.
        update: whether a post whose id is there already replaces the stored one.
        conversion: how to read their times.
        then: is called at the end of the transaction, before it is committed.

    Raises:
        PostsError: the records have no times, all are rejected, or the posts are in a foreign table.
    """
    store.require_writable()
    table = table_of_records(list(records), name)
    exports = [] if export is None else [export]
    with open_staging(update=update) as staging:
        tables = [(nullcontext(table), False)]
        options = ImportOptions(
            conversion=conversion or ConversionOptions(), stream=stream, update=update, allow_rejects=True
        )
        files = _stage(staging, tables, exports, options, store.settings, now, _no_progress)
        _require_accepted(quote(name), files, options)
        return _merge(store, staging, files, options, now, then=then)


def table_of_records(records: Sequence[Mapping[str, object]], name: str) -> PostsTable:
    columns = list(dict.fromkeys(path for record in records for path in value_paths(record)))

    def rows(wanted: Sequence[str | None]) -> Iterator[Row]:
        for number, record in enumerate(records, 1):
            yield number, [None if name is None else find_value(record, name) for name in wanted]

    return PostsTable(name, columns, rows, "record")


def _merge(
    store: PostStore,
    staging: Staging,
    files: list[FileResult],
    options: ImportOptions,
    now: datetime,
    *,
    progress: Progress = _no_progress,
    then: Callable[[Session], None] | None = None,
) -> ImportResult:
    """Merge the staged posts into the database."""

    def batches() -> Iterator[list[StagedPost]]:
        total, done = len(staging), 0
        for batch in staging.batches():
            yield batch
            done += len(batch)
            progress(f"Stored {done:,} of {total:,} posts")

    merged = store.merge(batches(), now, update=options.update, then=then)
    return ImportResult(files, staging.repeated, staging.changes, merged)


def _stage(
    staging: Staging,
    tables: Iterable[tuple[AbstractContextManager[PostsTable], bool]],
    exports: Sequence[KnownExport],
    options: ImportOptions,
    settings: PostsSettings,
    now: datetime,
    progress: Progress,
) -> list[FileResult]:
    """Read tables, of each of which it is known whether it may hold no posts, into the staging place."""
    micros = (now - EPOCH) // MICROSECOND
    files: list[FileResult] = []
    skipped: list[PostsError] = []
    rows = 0
    for opened, may_hold_none in tables:
        try:
            with opened as table:
                conversion = Conversion(
                    table, options.conversion, settings, exports, options.stream or DEFAULT_STREAM, micros
                )
                for batch in conversion.batches(len(files)):
                    staging.add(batch)
                    progress(f"Read {rows + conversion.result.rows:,} rows")
        except (NoRecordsError, NoTimesError) as error:
            if not may_hold_none:
                raise
            skipped.append(error)
            continue
        files.append(conversion.result)
        rows += conversion.result.rows
    if skipped and not files:
        first = skipped[0]
        if len(skipped) == 1:
            raise first
        raise PostsError(f"none of {len(skipped)} files holds posts; the first: {first.message}", hint=first.hint)
    for problem in skipped:
        log.warning("Skipped a file without posts: %s", problem.message)
    return files


def _require_accepted(name: str, files: Sequence[FileResult], options: ImportOptions) -> None:
    """Check that few rows are rejected.

    Raises:
        PostsError: all are, or more than the options allow.
    """
    rejected = sum(len(file.rejected) for file in files)
    rows = sum(file.rows for file in files)
    is_all = rejected == rows
    if not rejected or not (
        is_all or options.strict or (rejected > rows * MAX_REJECTED_SHARE and not options.allow_rejects)
    ):
        return
    number = f"all {rows}" if is_all else f"{rejected} of {rows}"
    hint = "Check the columns used, or choose others with --column"
    if not is_all:
        hint = "Fix them, or omit --strict" if options.strict else "Fix them, or import the others with --allow-rejects"
    reasons = rejected_reasons(files)
    if INEXACT in reasons[0].first:
        hint = "Export the ids as text, or have ids made from time and text with --column post_id="
    shown = "; ".join(f"{reason.rows} × {reason.first}" for reason in reasons[:MAX_REASONS])
    raise PostsError(f"cannot import {name}: {number} rows are rejected: {shown}", hint=hint)


class Reason(NamedTuple):
    """Why rows are rejected.

    Attributes:
        rows: how many rows are rejected for reasons that differ in their values alone.
        first: the first of them, with its place.
    """

    rows: int
    first: str


def rejected_reasons(files: Sequence[FileResult]) -> list[Reason]:
    """Return the reasons for which rows are rejected, the most frequent first."""
    counts: Counter[str] = Counter()
    firsts: dict[str, str] = {}
    for file in files:
        place = f"'{file.name}', {file.row_unit}" if len(files) > 1 else file.row_unit
        for row in file.rejected:
            kind = _VALUES.sub("", row.reason)
            counts[kind] += 1
            firsts.setdefault(kind, f"{place} {row.line}: {row.reason}")
    return [Reason(count, firsts[kind]) for kind, count in counts.most_common()]
