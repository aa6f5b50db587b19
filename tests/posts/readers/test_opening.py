"""The files that are read: compressed ones, several, folders, archives, pipes."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import zipfile
from datetime import datetime
from typing import TYPE_CHECKING

import openpyxl
import pandas as pd
import pytest

from retrainer.config import PostsLimits
from retrainer.errors import PostsError, UsageError
from retrainer.export_format import ExportFormat
from retrainer.posts.readers import STANDARD_INPUT, ReadOptions, excel, find_posts_files
from retrainer.posts.records import RejectedRow
from tests.posts.readers.reading import error_of, ids, posts, read, read_all

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


TABLE = b"id,text\n1,a\n2,b\n"
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd.compress,
}


def write_zip(path: Path, members: Mapping[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, members: Mapping[str, bytes | str]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_compressed_file_is_read_whatever_its_name(tmp_path: Path, suffix: str) -> None:
    compress = COMPRESSIONS[suffix]
    for name in (f"posts.csv{suffix}", "posts.csv", "posts", f"POSTS.CSV{suffix.upper()}"):
        assert ids(read(tmp_path / name, compress(TABLE))) == ["1", "2"]
    parts = compress(TABLE) + compress(b"3,c\n")
    assert ids(read(tmp_path / f"posts.csv{suffix}", parts)) == ["1", "2", "3"]
    lines = "\n".join(map(json.dumps, posts(1, 2))).encode()
    assert ids(read(tmp_path / f"posts.jsonl{suffix}", compress(lines))) == [1, 2]
    assert ids(read(tmp_path / f"posts.csv{suffix}", TABLE)) == ["1", "2"]  # decompressed on the way here


def test_a_window_of_the_largest_size_is_read(tmp_path: Path) -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 31}
    compressor = zstd.ZstdCompressor(options=options)
    assert ids(read(tmp_path / "posts.csv.zst", compressor.compress(TABLE) + compressor.flush())) == ["1", "2"]


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_compressed_file_that_is_damaged_is_an_error(tmp_path: Path, suffix: str) -> None:
    whole = COMPRESSIONS[suffix](b"id,text\n" + b"".join(b"%d,text %d\n" % (n, n * n) for n in range(20_000)))
    said = f"'posts.csv{suffix}' is not a complete compressed file. Download or compress it again"
    for content in (whole[: len(whole) // 2], whole[:-3], whole[:40] + b"\xff" * 5_000, whole[: len(whole) // 2] * 2):
        assert error_of(tmp_path / f"posts.csv{suffix}", content) == said


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_every_compression_is_limited(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "posts.csv").write_bytes(COMPRESSIONS[suffix](TABLE + b"3,%b\n" % (b"c" * 1_000) * 3_000))
    with pytest.raises(PostsError, match=r"expands to more than 2 MB\. Raise posts\.limits\.file_megabytes"):
        read_all(tmp_path / "posts.csv", file_megabytes=2)
    write_zip(tmp_path / "posts.zip", {"posts.csv": TABLE + b"3,%b\n" % (b"c" * 1_000) * 3_000})
    with pytest.raises(PostsError, match=r"posts\.zip: posts\.csv' expands to more than 2 MB"):
        read_all(tmp_path / "posts.zip", file_megabytes=2)


def test_what_is_not_compressed_may_be_of_any_size(tmp_path: Path) -> None:
    (tmp_path / "posts.csv").write_bytes(TABLE + b"3,%b\n" % (b"c" * 1_000) * 2_000)
    [content] = read_all(tmp_path / "posts.csv", file_megabytes=1)
    assert len(content.rows) == 2_002


def test_several_files_are_read_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes(TABLE)
    (tmp_path / "a.json").write_text(json.dumps(posts(3)))
    contents = read_all(tmp_path / "b.csv", tmp_path / "a.json")
    assert [(content.name, ids(content)) for content in contents] == [
        (str(tmp_path / "b.csv"), ["1", "2"]),
        (str(tmp_path / "a.json"), [3]),
    ]


def test_the_files_of_a_folder_are_read_by_name(tmp_path: Path) -> None:
    for name in ("b/2.csv", "b/1.json", "a.csv.gz", "notes.md", ".hidden.csv", "__MACOSX/x.csv", "b/.git/y.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(json.dumps(posts(1)).encode() if name.endswith("json") else TABLE)
    assert [content.name for content in read_all(tmp_path)] == [
        str(tmp_path / name) for name in ("a.csv.gz", "b/1.json", "b/2.csv")
    ]
    with pytest.raises(PostsError, match=r"__MACOSX' contains no file of posts") as _:
        (tmp_path / "__MACOSX" / "x.csv").rename(tmp_path / "__MACOSX" / "x.md")
        read_all(tmp_path / "__MACOSX")


@pytest.mark.parametrize("suffix", [".csv", ".xlsx", ".parquet", ".json"])
def test_the_values_of_an_absent_column_are_none(tmp_path: Path, suffix: str) -> None:
    """A name before a dot is the path of an object in JSON, and nothing in a table."""
    path = tmp_path / f"posts{suffix}"
    frame = pd.DataFrame({"id": ["1"], "text.": ["one"]})
    write = {
        ".csv": lambda: frame.to_csv(path, index=False),
        ".xlsx": lambda: frame.to_excel(path, index=False),
        ".parquet": lambda: frame.to_parquet(path),
        ".json": lambda: frame.to_json(path, orient="records"),
    }
    write[suffix]()
    (file,) = find_posts_files([path], PostsLimits())
    with file.open(ReadOptions()) as table:
        (row,) = table.rows(["id", "text", None])
    assert not isinstance(row, RejectedRow)
    assert tuple(row[1]) == ("1", None, None)


def test_a_file_without_a_name_in_an_archive_is_skipped(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "posts.zip", "w") as archive:
        with archive.open(zipfile.ZipInfo(""), "w") as nameless:
            nameless.write(b"x")
        archive.writestr("posts.csv", TABLE)
    assert [table.name for table in read_all(tmp_path / "posts.zip")] == [f"{tmp_path / 'posts.zip'}: posts.csv"]


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_the_files_of_an_archive_are_read_and_named(
    tmp_path: Path, write: Callable[[Path, Mapping[str, bytes | str]], Path]
) -> None:
    path = write(tmp_path / "archive", {"x/a.csv": TABLE, "x/b.txt": "", "x/c.json.gz": gzip.compress(b'[{"id": 3}]')})
    contents = read_all(path)
    assert [(content.name, ids(content)) for content in contents] == [
        (f"{path}: x/a.csv", ["1", "2"]),
        (f"{path}: x/c.json.gz", [3]),
    ]
    said = error_of(write(tmp_path / "archive", {"a.json": "[1,"}))
    assert said.startswith("'archive: a.json' is not JSON: ")
    assert "'archive' contains no file of posts" in error_of(write(tmp_path / "archive", {"a.md": ""}))


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_of_a_known_export_only_its_files_are_read(
    tmp_path: Path, write: Callable[[Path, Mapping[str, bytes | str]], Path]
) -> None:
    table = json.dumps(posts(1))
    path = write(
        tmp_path / "a",
        {"x/data/tweets.js": f"a = {table}", "x/data/likes.js": "a = [1]", "x/data/tweets-part1.js": table},
    )
    members = (["outbox.json"], ["data/tweets*.js"], ["data/likes.js"])
    exports = [ExportFormat(requires=["id"], columns={"created_at": "at"}, members=patterns) for patterns in members]
    assert [content.name.split("/")[-1] for content in read_all(path, exports=exports)] == [
        "tweets.js",
        "tweets-part1.js",
    ]


def test_a_damaged_or_encrypted_archive_is_an_error(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "posts.zip", {"a.csv": TABLE * 1_000})
    whole = path.read_bytes()
    for content in (whole[:-40], whole[:60] + b"\xff" * 20 + whole[80:]):
        assert "is not a complete compressed file" in error_of(path, content)
    encrypted = bytearray(write_zip(path, {"a.csv": TABLE}).read_bytes())
    encrypted[6] |= 1
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    assert error_of(path, bytes(encrypted)) == "'posts.zip: a.csv' is encrypted. Unpack it, and import the folder"


def test_a_missing_and_an_unreadable_file_are_errors(tmp_path: Path) -> None:
    assert error_of(tmp_path / "none.csv") == "there is no file 'none.csv'. Check the path"
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    assert error_of(tmp_path / "loop.csv").startswith("cannot read 'loop.csv': ")
    os.mkfifo(tmp_path / "pipe.csv")
    assert "it is a pipe, not a regular file" in error_of(tmp_path / "pipe.csv")


@pytest.mark.parametrize("content", [TABLE, gzip.compress(TABLE)], ids=["plain", "compressed"])
def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        [found] = read_all(STANDARD_INPUT)
    assert (found.name, ids(found)) == ("standard input", ["1", "2"])


def test_an_endless_pipe_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
        monkeypatch.setattr(sys, "stdin", endless.stdout)
        with pytest.raises(PostsError) as error:
            read_all(STANDARD_INPUT, file_megabytes=1)
        endless.kill()
    said = "'standard input' expands to more than 1 MB. Raise posts.limits.file_megabytes to import it"
    assert str(error.value) == said


# --- workbooks ------------------------------------------------------------------------------------


def write_book(path: Path, sheets: Mapping[str, list[list[object]]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


POSTS: list[list[object]] = [
    [],
    ["id", "date", "text", None],
    ["101", datetime(2024, 1, 2, 10, 30), "a\nb"],  # noqa: DTZ001  a sheet has no zones
    [102, 45293.5],
    [],
    [103, None, "c", None, "more"],
]


def test_a_workbook_is_read_with_the_numbers_of_its_rows(tmp_path: Path) -> None:
    content = read(write_book(tmp_path / "posts.xlsx", {"Posts": POSTS}))
    assert (content.columns, content.lines, content.detected) == (["id", "date", "text"], [3, 4], ())
    assert [list(row.values()) for row in content.rows] == [
        ["101", datetime(2024, 1, 2, 10, 30), "a\nb"],  # noqa: DTZ001
        [102, 45293.5, None],
    ]
    assert content.rejected == [RejectedRow(6, "5 fields where the header has 3")]
    (tmp_path / "posts").write_bytes((tmp_path / "posts.xlsx").read_bytes())
    assert ids(read(tmp_path / "posts")) == ["101", 102]
    assert ids(read(tmp_path / "posts.xlsx.gz", gzip.compress((tmp_path / "posts").read_bytes()))) == ["101", 102]


def test_the_first_sheet_of_several_columns_is_read_or_the_one_named(tmp_path: Path) -> None:
    path = write_book(
        tmp_path / "posts.xlsx", {"About": [["Made by hand"]], "Posts": POSTS, "More": [["id", "x"], [1, 2]]}
    )
    assert (ids(read(path)), read(path).detected) == (["101", 102], ("sheet 'Posts'",))
    [content] = read_all(path, options=ReadOptions(records="More"))
    assert content.rows == [{"id": 1, "x": 2}]
    with pytest.raises(
        UsageError, match=r"'.*' has no rows in a sheet 'None'\. Its sheets are 'About', 'Posts', 'More'"
    ):
        read_all(path, options=ReadOptions(records="None"))


def test_titles_before_the_header_of_a_sheet_are_no_header(tmp_path: Path) -> None:
    titles: list[list[object]] = [
        ["Posts of 2024"],
        ["Search: x", None, "Author"],
        ["id", "date", "text", "name", "place"],
    ]
    path = write_book(
        tmp_path / "posts.xlsx", {"Posts": [*titles, [7, "2024-01-02", "a", "b", "c"]], "Log": [["when", "what"]]}
    )
    content = read(path)
    assert (content.columns, content.lines) == (["id", "date", "text", "name", "place"], [4])
    assert content.detected == ("sheet 'Posts'",)


def test_an_empty_damaged_or_huge_workbook_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is empty" in error_of(write_book(tmp_path / "posts.xlsx", {"Posts": []}))
    members = {"[Content_Types].xml": "<Types/>", "xl/workbook.xml": "<x"}
    assert error_of(write_zip(tmp_path / "posts.xlsx", members)).startswith("cannot read 'posts.xlsx' as a workbook: ")
    write_zip(tmp_path / "posts.xlsx", {**members, "xl/sharedStrings.xml": b" " * 2**21})
    monkeypatch.setattr(excel, "MAX_MEGABYTES", 1)
    said = "'posts.xlsx' expands to more than 1 MB of a workbook. Save it as CSV"
    assert error_of(tmp_path / "posts.xlsx") == said


def test_a_file_may_be_opened_again(tmp_path: Path) -> None:
    (tmp_path / "posts.csv").write_bytes(TABLE)
    [file] = find_posts_files([tmp_path / "posts.csv"], PostsLimits())
    for _ in range(2):
        with file.open() as table:
            assert len(list(table.rows(["id"]))) == 2
