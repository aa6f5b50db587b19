"""Read a listing, newest posts first, across fetches that may end at any page.

The state holds the time of the newest known post and the gaps: the parts of the listing that no fetch has read to their
end. A fetch reads from the top down to what is known, and then what is left of earlier gaps. So an interrupted fetch
leaves a gap, which the next one closes, and new posts never wait for old ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from retrainer.posts.sources.hookspecs import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from retrainer.export_format import ExportFormat
    from retrainer.posts.sources.hookspecs import Since


@dataclass(frozen=True)
class Listing:
    """One page of a listing.

    Attributes:
        records: the posts.
        times: the time of each by which the listing is sorted (aware); None where it is unknown.
        next_cursor: where the next page starts; None at the end.
        state: more that the source wants to know in the next fetch.
        export: the format of the records; see `Page`.
        newest_first: whether the newest posts are known to come first. Otherwise their times must show it, or the
            listing is read to its end each time.
    """

    records: Sequence[Mapping[str, object]]
    times: Sequence[datetime | None]
    next_cursor: str | None
    state: Mapping[str, Any] = field(default_factory=dict)
    export: ExportFormat | str | None = None
    newest_first: bool = False


class _Gap(NamedTuple):
    """A part of the listing: from a cursor (None: the top) down to a time (None: the end)."""

    cursor: str | None
    until: datetime | None


def walk(since: Since, read: Callable[[str | None], Listing | None]) -> Iterator[Page]:
    """Yield the pages that have not been read, and those young enough to be looked through for edits.

    Args:
        since: where the last fetch ended.
        read: reads the page at a cursor, the top for None; returns None if the top has not changed since.
    """
    newest = _parse(since.state.get("newest"))
    waiting = [_Gap(cursor, _parse(until)) for cursor, until in since.state.get("gaps", ())]
    gap: _Gap | None = _Gap(None, newest - since.edits if newest else None)
    while gap is not None:
        listing = read(gap.cursor)
        if listing is not None:
            times = [time for time in listing.times if time is not None]
            # A post with a time in the future must not hide those between now and then.
            newest = max(filter(None, [newest, *(min(time, since.now) for time in times)]), default=None)
            if _is_end(listing, times, gap):
                gap = None
            else:
                gap = _Gap(listing.next_cursor, gap.until)
                waiting = [gap, *waiting]
            yield Page(listing.records, {**listing.state, **_state(newest, waiting)}, listing.export)
        gap = waiting.pop(0) if waiting else None


def parse_time(value: object) -> datetime | None:
    """Return the time that a value means without others beside it; None if there is none."""
    from retrainer.posts.times import to_microseconds  # noqa: PLC0415  numpy is slow to import
    from retrainer.posts.validation import EPOCH, MICROSECOND  # noqa: PLC0415

    try:
        return EPOCH + to_microseconds(value) * MICROSECOND
    except (ValueError, ArithmeticError):
        return None


def _is_end(listing: Listing, times: list[datetime], gap: _Gap) -> bool:
    if listing.next_cursor is None or listing.next_cursor == gap.cursor:
        return True
    if gap.until is None or not times or times[-1] >= gap.until:
        return False
    return listing.newest_first or (times[0] > times[-1] and times == sorted(times, reverse=True))


def _state(newest: datetime | None, gaps: list[_Gap]) -> dict[str, Any]:
    return {"newest": _format(newest), "gaps": [[gap.cursor, _format(gap.until)] for gap in gaps]}


def _parse(time: str | None) -> datetime | None:
    return datetime.fromisoformat(time) if time else None


def _format(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
