"""What an import did, as lines for a terminal."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from retrainer import console
from retrainer.posts.importer import rejected_reasons
from retrainer.posts.validation import number, quote
from retrainer.times import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.posts.conversion import FileResult
    from retrainer.posts.importer import ImportResult
    from retrainer.posts.staging import Change

MAX_REJECTED_SHOWN = 10
MAX_CHANGES_SHOWN = 5
MAX_REASONS_SHOWN = 5
MAX_STREAMS_SHOWN = 10


def show_import(result: ImportResult) -> None:
    _show_files(result.files)
    counts = [
        f"{number(result.added, 'post')} added",
        *_unless_zero(result.updated, "updated"),
        f"{result.unchanged} already there",
        *_unless_zero(result.clashing, "clashing"),
        f"{result.repeated} repeated",
        *_unless_zero(result.excluded.total(), "left out"),
        f"{result.rejected} rejected",
    ]
    console.text(f"Read {number(result.rows, 'row')}: {', '.join(counts)}")
    _show_streams(result)
    if result.excluded:
        kinds = [number(count, kind.replace("_", " ")[:-1]) for kind, count in result.excluded.items()]
        console.text(f"Left out: {', '.join(kinds)}")
    if result.dropped:
        columns = [f"{count} of {name}" for name, count in result.dropped.items()]
        console.text(f"Dropped counts that are not numbers, and kept the posts: {', '.join(columns)}")
    _show_changes(f"Updated {number(result.updated, 'post')}:", result.updated, result.first_updated, result.files)
    clashes = "1 post clashes" if result.clashing == 1 else f"{result.clashing} posts clash"
    title = f"{clashes} with an earlier one of the same id, which is kept (--update replaces it):"
    _show_changes(title, result.clashing, result.first_clashing, result.files)
    _show_rejected(result)


def _show_streams(result: ImportResult) -> None:
    """Print how many posts were added to each of a few streams, if the files name them."""
    added = result.added_by_stream
    if not added or not any("stream" in file.mapping for file in result.files):
        return
    if len(added) > MAX_STREAMS_SHOWN:
        console.text(f"Added to {len(added)} streams (--json lists them)")
    else:
        console.text(f"Added: {', '.join(f'{count} to {quote(name)}' for name, count in sorted(added.items()))}")


def _unless_zero(count: int, what: str) -> list[str]:
    return [f"{count} {what}"] if count else []


def _show_files(files: Sequence[FileResult]) -> None:
    """Print what was found out about the files, once for all that are alike."""
    shown = set()
    for file in files:
        lines = []
        if file.recognised:
            lines.append(f"Recognised: {file.recognised}")
        if file.detected:
            lines.append(f"Detected: {', '.join(file.detected)}")
        columns = [name if name == path else f"{name} from {quote(path)}" for name, path in file.mapping.items()]
        lines.append(f"Columns: {', '.join(columns)}")
        if file.ids_made:
            lines.append("No column of IDs: made them from time and text")
        if (text := "\n".join(lines)) not in shown:
            shown.add(text)
            console.text(*lines)


def _show_changes(title: str, count: int, first: Sequence[Change], files: Sequence[FileResult]) -> None:
    if not count:
        return
    console.text(title)
    for change in first[:MAX_CHANGES_SHOWN]:
        differences = [
            f"{name} {_value(change.after[name])} instead of {_value(change.before[name])}" for name in change.after
        ]
        earlier = f" of {_place(files, *change.earlier)}" if change.earlier else ""
        place = _place(files, change.file, change.line)
        console.text(f"  {place}, id {quote(change.post_id)}: {', '.join(differences)}{earlier}")
    if count > MAX_CHANGES_SHOWN:
        console.text(f"  and {count - MAX_CHANGES_SHOWN} more")


def _value(value: object) -> str:
    if value is None:
        return "none"
    return format_time(value) if isinstance(value, datetime) else quote(value)


def _place(files: Sequence[FileResult], file: int, line: int) -> str:
    place = f"{files[file].row_unit} {line}"
    return f"{files[file].name}, {place}" if len(files) > 1 else place


def _show_rejected(result: ImportResult) -> None:
    rejected = [(index, row) for index, file in enumerate(result.files) for row in file.rejected]
    for index, row in rejected[:MAX_REJECTED_SHOWN]:
        console.text(f"  {_place(result.files, index, row.line)}: {row.reason}")
    if len(rejected) > MAX_REJECTED_SHOWN:
        console.text(f"  and {len(rejected) - MAX_REJECTED_SHOWN} more (--json lists all); by reason:")
        for reason in rejected_reasons(result.files)[:MAX_REASONS_SHOWN]:
            console.text(f"  {reason.rows} like {reason.first}")
