"""The hooks of a source of posts.

A plugin of the entry point group `retrainer.sources` implements `source` and `fetch`; the entry point's name is the
`type` in the settings. A hook implementation may omit arguments that it does not use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pluggy
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime, timedelta
    from pathlib import Path

    from retrainer.export_format import ExportFormat
    from retrainer.posts.sources.http import HttpClient

hookspec = pluggy.HookspecMarker("retrainer")
hookimpl = pluggy.HookimplMarker("retrainer")


class NoOptions(BaseModel, extra="forbid", frozen=True):
    """The options of a type of source that has none."""


@dataclass(frozen=True)
class SourceType:
    """What a type of source says about itself, without importing anything slow.

    Attributes:
        name: the entry point's name.
        summary: one sentence.
        options: its own settings, a pydantic class with `extra="forbid"`.
    """

    name: str
    summary: str
    options: type[BaseModel] = NoOptions


@dataclass(frozen=True)
class Since:
    """Where the last fetch ended, and what this one should read.

    Attributes:
        state: the state of the last page that was stored; empty at first, with `--full`, and after the source's own
            settings changed.
        edits: how far back before the newest known post edits are looked for.
        now: the time of the fetch (UTC).
        timeout: how long one answer may take; `http` sees to it itself.
        folder: the project folder, where relative paths start.
    """

    state: Mapping[str, Any]
    edits: timedelta
    now: datetime
    timeout: timedelta
    folder: Path


@dataclass(frozen=True)
class Page:
    """Some records, and how to go on after them. They are stored in one transaction with the state.

    Attributes:
        records: one mapping a post, with the keys `post_id`, `created_at`, `content`, `replies_count`,
            `reblogs_count`, `favourites_count`; or as `export` describes them.
        state: what `Since.state` will be if the fetch ends after this page; plain data as JSON.
        export: the format of the records, if they are those of an export: a known one by its name, or a declaration.
    """

    records: Sequence[Mapping[str, object]]
    state: Mapping[str, Any] = field(default_factory=dict)
    export: ExportFormat | str | None = None


class SourceHooks:
    """The hooks of a source."""

    @hookspec(firstresult=True)
    def source(self) -> SourceType:  # type: ignore[empty-body]
        """Describe the type of source. Import nothing slow here."""

    @hookspec(firstresult=True)
    def fetch(self, config: BaseModel, since: Since, http: HttpClient) -> Iterator[Page]:  # type: ignore[empty-body]
        """Yield pages of posts, each after the one before was stored.

        The caller stops after `max_pages` or `max_minutes`, so every page must carry a state from which the next fetch
        reads what is still missing. A post may be yielded again: one that is known is compared, and updated if it
        differs.

        Args:
            config: the source's own settings, as `SourceType.options` parsed them.
            since: where the last fetch ended.
            http: a client with time limits, size limits and retries.

        Raises:
            SourceError: the source cannot be read.
        """
