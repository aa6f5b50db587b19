"""Fetch new posts from the configured sources, page by page: each page is stored together with the state after it."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from retrainer.errors import ConfigError, PostsError, RetrainerError, UnknownName, did_you_mean, wrap_unexpected
from retrainer.posts.conversion import ConversionOptions
from retrainer.posts.exports import KnownExport, known_exports
from retrainer.posts.importer import import_records
from retrainer.posts.sources.hookspecs import Since
from retrainer.posts.sources.http import HttpClient
from retrainer.posts.sources.manager import load_source
from retrainer.posts.sources.state import Progress, read_progress, write_progress
from retrainer.posts.validation import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sqlalchemy.orm import Session

    from retrainer.config import SourceSettings
    from retrainer.export_format import ExportFormat
    from retrainer.posts.importer import ImportResult
    from retrainer.posts.sources.hookspecs import Page
    from retrainer.posts.sources.manager import LoadedSource
    from retrainer.posts.store import PostStore
    from retrainer.registry.database import Database

log = logging.getLogger(__name__)

EXAMPLE = "posts: {sources: {ada: {type: mastodon, url: 'https://mastodon.example', account: ada}}}"


@dataclass(frozen=True)
class FetchResult:
    """What was fetched from a source.

    Attributes:
        source: its name in the settings.
        stream: the stream of its posts.
        pages: the number of pages that were stored.
        added, updated, unchanged, clashing, repeated, excluded, rejected: the numbers of posts, as of an import.
        complete: whether everything was read; otherwise the next fetch goes on.
        problem: what ended it early.
    """

    source: str
    stream: str
    pages: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    clashing: int = 0
    repeated: int = 0
    excluded: int = 0
    rejected: int = 0
    complete: bool = False
    problem: RetrainerError | None = None

    @property
    def sentence(self) -> str:
        """What was fetched, on one line."""
        parts = [f"{self.added} added", f"{self.updated} updated", f"{self.unchanged + self.repeated} unchanged"]
        others = {"left out": self.excluded, "clashing": self.clashing, "rejected": self.rejected}
        parts += [f"{count} {name}" for name, count in others.items() if count]
        end = "; failed" if self.problem else "" if self.complete else "; more to come, the next fetch continues"
        return f"{self.source}: {', '.join(parts)}{end}"

    def plus(self, page: ImportResult) -> FetchResult:
        """Add what became of a page."""
        return replace(
            self,
            added=self.added + page.added,
            updated=self.updated + page.updated,
            unchanged=self.unchanged + page.unchanged,
            clashing=self.clashing + page.clashing,
            repeated=self.repeated + page.repeated,
            excluded=self.excluded + page.excluded.total(),
            rejected=self.rejected + page.rejected,
        )


def select_sources(sources: Mapping[str, SourceSettings], names: Sequence[str]) -> dict[str, SourceSettings]:
    """Return the settings of the named sources, of all if none is named.

    Raises:
        ConfigError: there is no source.
        UnknownName: a source does not exist.
    """
    if not sources:
        raise ConfigError("no sources configured", hint=f"Add one to config.yaml, such as {EXAMPLE}")
    for name in names:
        if name not in sources:
            hint = did_you_mean(name, sources) or f"Configured: {', '.join(sources)}"
            raise UnknownName(f"unknown source '{name}'", hint=hint)
    return {name: sources[name] for name in sources if name in names or not names}


def exit_code(results: Sequence[FetchResult]) -> int:
    """Return the exit code of the first source that failed; 0 if none did."""
    return next((result.problem.exit_code for result in results if result.problem), 0)


def fetch_sources(
    store: PostStore,
    database: Database,
    folder: Path,
    sources: Mapping[str, SourceSettings],
    *,
    full: bool = False,
) -> list[FetchResult]:
    """Fetch from each source; one that fails keeps what was stored before, and does not keep others from it.

    Args:
        store: where the posts are added.
        database: where the states are kept: that of the posts.
        folder: the project folder.
        sources: their settings, by name.
        full: whether to read everything again.

    Raises:
        PostsError: the posts are in a foreign table.
    """
    store.require_writable()
    return [_Fetch(store, database, folder, name, settings).run(full=full) for name, settings in sources.items()]


class _Fetch:
    """The fetch of one source."""

    def __init__(self, store: PostStore, database: Database, folder: Path, name: str, settings: SourceSettings) -> None:
        self._store = store
        self._database = database
        self._folder = folder
        self._settings = settings
        self._result = FetchResult(name, settings.stream)

    def run(self, *, full: bool) -> FetchResult:
        """Fetch, and return what was fetched, with the problem if it failed."""
        try:
            complete = self._fetch(full=full)
        except Exception as error:
            problem = error if isinstance(error, RetrainerError) else wrap_unexpected(error)
            if isinstance(error, PostsError):  # its hint is for a file
                problem = PostsError(error.message, hint="Check the settings of the source, and its answers")
            log.error("'%s': %s", self._result.source, problem, exc_info=error)  # noqa: TRY400  not a traceback
            return replace(self._result, problem=problem)
        return replace(self._result, complete=complete)

    def _fetch(self, *, full: bool) -> bool:
        """Store page after page; return whether that was all."""
        settings, name = self._settings, self._result.source
        source = load_source(name, settings)
        with self._database.read() as session:
            progress = read_progress(session, source, settings.stream)
        since = Since(
            state={} if full else progress.state,
            edits=timedelta(days=settings.edits_days),
            now=datetime.now(UTC),
            timeout=timedelta(seconds=settings.timeout_seconds),
            folder=self._folder,
        )
        with (
            HttpClient(
                timeout_seconds=settings.timeout_seconds,
                max_megabytes=settings.max_megabytes,
                max_minutes=settings.max_minutes,
            ) as http,
            closing(source.fetch(since, http)) as pages,
        ):
            for page in pages:
                progress = self._store_page(source, page, progress.pages)
                if self._result.pages >= settings.max_pages or http.is_over:
                    limit = "max_pages" if self._result.pages >= settings.max_pages else "max_minutes"
                    log.info("'%s': stopped at %s after %d pages", name, limit, self._result.pages)
                    return False
        return True

    def _store_page(self, source: LoadedSource, page: Page, before: int) -> Progress:
        """Store the posts of a page and its state in one transaction."""
        settings = self._settings
        progress = Progress(page.state, before + 1)
        now = datetime.now(UTC)  # of each page, since a fetch may take minutes, and later posts are rejected

        def write_state(session: Session) -> None:
            write_progress(session, source, settings.stream, progress, before, now)

        if page.records:
            stored = import_records(
                self._store,
                page.records,
                self._export(page.export),
                name=source.name,
                stream=settings.stream,
                now=now,
                update=True,
                conversion=ConversionOptions(time_format=settings.time_format, timezone=settings.timezone),
                then=write_state,
            )
            self._warn_of_rejected(stored)
            self._result = self._result.plus(stored)
        else:
            with self._database.write() as session:
                write_state(session)
        self._result = replace(self._result, pages=self._result.pages + 1)
        return progress

    def _warn_of_rejected(self, stored: ImportResult) -> None:
        if stored.rejected:
            reason = next(row.reason for file in stored.files for row in file.rejected)
            log.warning("'%s': rejected %s: %s", self._result.source, number(stored.rejected, "post"), reason)

    def _export(self, export: ExportFormat | str | None) -> KnownExport | None:
        """Return the format of the records, as one that they need not be recognised by."""
        if export is None:
            return None
        name = export if isinstance(export, str) else self._result.source
        if isinstance(export, str):
            export = {known.name: known.format for known in known_exports(self._store.settings.formats)}[export]
        return KnownExport(name, export.model_copy(update={"requires": [export.columns["created_at"]], "records": []}))
