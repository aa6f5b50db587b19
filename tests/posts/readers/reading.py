"""Read files as plain rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from retrainer.config import PostsLimits
from retrainer.errors import PostsError
from retrainer.posts.readers import ReadOptions, find_posts_files
from retrainer.posts.records import RejectedRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from retrainer.export_format import ExportFormat


class Content(NamedTuple):
    """What a file contains."""

    name: str
    columns: list[str]
    rows: list[dict[str, object]]
    lines: list[int]
    rejected: list[RejectedRow]
    detected: tuple[str, ...]
    records: str | None


def read_all(
    *paths: Path, options: ReadOptions | None = None, exports: Sequence[ExportFormat] = (), **limits: int
) -> list[Content]:
    """Read each file, twice, with the values of all columns."""
    contents = []
    for file in find_posts_files(paths, PostsLimits(**limits), exports=exports):
        with file.open(options or ReadOptions()) as table:
            found = list(table.rows(table.columns))
            assert list(table.rows(table.columns)) == found
            rows = [(row[0], row[1]) for row in found if not isinstance(row, RejectedRow)]
            contents.append(
                Content(
                    table.name,
                    table.columns,
                    [dict(zip(table.columns, values, strict=True)) for _, values in rows],
                    [line for line, _ in rows],
                    [row for row in found if isinstance(row, RejectedRow)],
                    table.detected,
                    table.records,
                )
            )
    return contents


def read(path: Path, content: str | bytes | None = None, **options: Any) -> Content:
    """Write a file, if its content is given, and read it."""
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    [found] = read_all(path, options=ReadOptions(**options))
    return found


def error_of(path: Path, content: str | bytes | None = None, **options: Any) -> str:
    """Return the error of reading a file, without the folder of the tests."""
    with pytest.raises(PostsError) as caught:
        read(path, content, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{path.parent}/", "")


def ids(content: Content) -> list[object]:
    return [row["id"] for row in content.rows]


def posts(*numbers: int) -> list[Mapping[str, object]]:
    return [{"id": number, "date": f"2024-01-{number:02}", "text": f"post {number}"} for number in numbers]
