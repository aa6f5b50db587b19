"""Imports of files with the posts of many streams, on both databases."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
import pytest

from retrainer.errors import PostsError, UsageError
from retrainer.posts import staging
from retrainer.posts.conversion import ConversionOptions
from retrainer.posts.importer import ImportOptions, import_posts
from tests.conftest import open_project

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from retrainer.posts.importer import ImportResult
    from retrainer.project import Project
    from tests.command_line import Runner

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
MONDAY, TUESDAY = "2025-01-06T10:00:00Z", "2025-01-07T10:00:00Z"

Post = tuple[object, object, str, str]
"""Its stream, id, time and text."""


def import_rows(project: Project, *posts: Post, **options: Any) -> ImportResult:
    """Import posts from a file whose streams are in the column `account`."""
    file = project.folder / "posts.jsonl"
    names = ("account", "id", "date", "text")
    file.write_text("".join(json.dumps(dict(zip(names, post, strict=True))) + "\n" for post in posts))
    conversion = ConversionOptions({"stream": "account"})
    return import_posts(project.posts, [file], ImportOptions(conversion=conversion, **options), NOW)


def texts(project: Project, stream: str) -> Mapping[str, str]:
    posts = project.posts.for_stream(stream).load(NOW)
    return dict(zip(posts["post_id"], posts["content"], strict=True))


@pytest.fixture
def project(folder_on_each_database: Path) -> Project:
    return open_project(folder_on_each_database)


def test_each_post_is_added_to_its_stream(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "BATCH_ROWS", 4)  # of which the streams are in several
    names = ["news", "News", "../x y/ü*", " news", "42"]
    posts: Sequence[Post] = [(name, number, MONDAY, f"{name} {number}") for number in range(7) for name in names]
    result = import_rows(project, *posts)
    assert result.added_by_stream == dict.fromkeys(names, 7)
    assert (result.rows, result.added, result.repeated, result.clashing) == (35, 35, 0, 0)
    assert project.list_streams() == sorted(names)
    for name in names:
        assert texts(project, name) == {str(number): f"{name} {number}" for number in range(7)}


def test_a_clash_is_one_within_a_stream(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "BATCH_ROWS", 2)
    posts: Sequence[Post] = [
        ("a", 1, MONDAY, "a1"),
        ("b", 1, TUESDAY, "b1"),
        ("a", 1, MONDAY, "other"),
        ("a", 2, MONDAY, "a2"),
    ]
    result = import_rows(project, *posts)
    assert (result.added_by_stream, result.clashing, result.first_clashing[0].line) == ({"a": 2, "b": 1}, 1, 3)
    again = import_rows(project, *posts[:2], ("b", 2, MONDAY, "b2"), ("c", 1, MONDAY, "c1"), ("b", 1, TUESDAY, "new"))
    assert (again.added_by_stream, again.unchanged, again.clashing) == ({"b": 1, "c": 1}, 2, 1)
    updated = import_rows(project, ("b", 1, TUESDAY, "new"), ("c", 2, MONDAY, "c2"), update=True)
    assert (updated.added_by_stream, updated.updated) == ({"c": 1}, 1)
    assert [texts(project, name) for name in "abc"] == [
        {"1": "a1", "2": "a2"},
        {"1": "new", "2": "b2"},
        {"1": "c1", "2": "c2"},
    ]


def test_a_row_without_a_valid_stream_is_rejected(project: Project) -> None:
    invalid = [None, "", "  ", "a\nb", "x" * 201, True, 1.5, ["a"], "a\0"]
    good: Sequence[Post] = [("a", number, MONDAY, "text") for number in range(100)]
    result = import_rows(project, *good, *((name, number, MONDAY, "text") for number, name in enumerate(invalid)))
    assert (result.added, result.rejected) == (100, len(invalid))
    assert [(row.line, row.reason) for row in result.files[0].rejected] == [
        (101, "the stream is missing"),
        (102, "the stream is missing"),
        (103, "the stream is missing"),
        (104, "the stream 'a b' must not have control characters"),
        (105, f"the stream '{'x' * 59}…' must have at most 200 characters"),
        (106, "the stream 'True' is neither text nor a whole number"),
        (107, "the stream '1.5' is neither text nor a whole number"),
        (108, "the stream '['a']' is neither text nor a whole number"),
        (109, "the stream 'a ' must not have control characters"),
    ]
    assert project.list_streams() == ["a"]
    with pytest.raises(PostsError, match="2 rows are rejected: 2 × line 1: the stream is missing"):
        import_rows(project, (None, 1, MONDAY, "a"), (None, 2, MONDAY, "b"))


@pytest.mark.parametrize("streams", [[7, 8], [7.0, None], ["7", "8"]])
def test_whole_numbers_are_names_of_streams(project: Project, streams: list[object]) -> None:
    table = {"account": pa.array(streams), "id": ["1", "2"], "date": [NOW - timedelta(days=1)] * 2, "text": ["a", "b"]}
    pq.write_table(pa.table(table), project.folder / "posts.parquet")
    options = ImportOptions(conversion=ConversionOptions({"stream": "account"}), allow_rejects=True)
    import_posts(project.posts, [project.folder / "posts.parquet"], options, NOW)
    assert project.list_streams() == [str(int(str(name).partition(".")[0])) for name in streams if name is not None]


def test_a_stream_and_a_column_of_streams_exclude_each_other(project: Project) -> None:
    with pytest.raises(UsageError, match="--stream and --column stream=… exclude each other"):
        import_rows(project, ("a", 1, MONDAY, "text"), stream="b")
    assert project.posts.table.list_streams() == []


def test_a_column_named_stream_means_nothing_unless_it_is_asked_for(project: Project) -> None:
    file = project.folder / "posts.csv"
    file.write_text(f"stream,id,date,text\na,1,{MONDAY},x\n")
    assert import_posts(project.posts, [file], ImportOptions(), NOW).added_by_stream == {"default": 1}


def test_an_import_counts_the_posts_of_few_streams(folder: Path, retrainer: Runner) -> None:
    def write(*names: str) -> None:
        rows = [f"{name},{number},{MONDAY},x" for name in names for number in range(2)]
        (folder / "posts.csv").write_text("\n".join(["account,id,date,text", *rows, f",9,{MONDAY},x"]))

    write("zoo", "[red]a[/red]")
    done = retrainer("posts", "import", "posts.csv", "--column", "stream=account", "--allow-rejects")
    assert done.out.splitlines()[1:] == [
        "Read 5 rows: 4 posts added, 0 already there, 0 repeated, 1 rejected",
        "Added: 2 to '[red]a[/red]', 2 to 'zoo'",
        "  line 6: the stream is missing",
    ]
    assert "stream from 'account'" in done.out
    write(*(f"stream {number}" for number in range(11)))
    done = retrainer("posts", "import", "posts.csv", "--column", "stream=account")
    assert "Added to 11 streams (--json lists them)\n" in done.out
    write("zoo", "new")
    shown = retrainer("posts", "import", "posts.csv", "--column", "stream=account", "--json", "--allow-rejects").json
    assert (shown["added"], shown["added_by_stream"]) == (2, {"new": 2})
    done = retrainer("posts", "import", "posts.csv", "--column", "stream=account", "--stream", "a")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--stream and --column stream=… exclude each other" in done.err
    done = retrainer("posts", "import", "posts.csv", "--column", "stream=acount")
    assert (done.code, "has no column 'acount'. Did you mean 'account'?" in done.err) == (2, True)


IMPORT = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from retrainer.posts.conversion import ConversionOptions
from retrainer.posts.importer import ImportOptions, import_posts
from retrainer.project import Project

options = ImportOptions(conversion=ConversionOptions({"stream": "account"}))
with Project.open(Path(sys.argv[1])) as project:
    print(import_posts(project.posts, [Path(sys.argv[2])], options, datetime.now(UTC)).added)
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory of a process from /proc")
def test_memory_does_not_grow_with_the_posts_of_many_streams(folder_on_each_database: Path) -> None:
    rows, streams, text = 200_000, 10_000, "x" * 2_000
    file = folder_on_each_database / "posts.csv"
    with file.open("w") as csv_file:
        csv_file.write("id,account,date,text\n")
        csv_file.writelines(f"{row},{row * 7919 % streams},{MONDAY},{text}\n" for row in range(rows))
    command = [sys.executable, "-c", IMPORT, str(folder_on_each_database), str(file)]
    added, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(added) == rows
    assert int(peak) < 400 * 1024  # the texts alone have 390 MB
    assert len(open_project(folder_on_each_database).list_streams()) == streams
