"""Where the fetches of each source stand, in the table `retrainer_sources`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from retrainer.errors import RunInProgress
from retrainer.registry.tables import SourceState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

    from retrainer.posts.sources.manager import LoadedSource


class Progress(NamedTuple):
    """The state after the last stored page, and the number of pages stored so far."""

    state: Mapping[str, Any]
    pages: int


def read_progress(session: Session, source: LoadedSource, stream: str) -> Progress:
    """Return where the fetches of a source stand; the state is empty if its own settings have changed."""
    row = session.get(SourceState, (stream, source.name))
    if row is None:
        return Progress({}, 0)
    return Progress(row.state if row.options_sha256 == source.options_sha256 else {}, row.pages)


def write_progress(
    session: Session, source: LoadedSource, stream: str, progress: Progress, before: int, now: datetime
) -> None:
    """Record a stored page.

    Args:
        before: the number of pages before it.

    Raises:
        RunInProgress: another fetch has stored a page meanwhile.
    """
    row = session.get(SourceState, (stream, source.name))
    if (row.pages if row else 0) != before:
        raise RunInProgress(f"another fetch of '{source.name}' is in progress", hint="Wait for it to end")
    if row is None:
        row = SourceState(stream=stream, source=source.name)
        session.add(row)
    row.options_sha256, row.state, row.pages, row.fetched_at = (
        source.options_sha256,
        dict(progress.state),
        progress.pages,
        now,
    )
