"""A small file that expands to gigabytes is refused in one line, and takes little memory until then."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
import pytest

from retrainer.config import PostsLimits
from retrainer.errors import PostsError
from tests.posts.reading import PostsFile, read_posts_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.command_line import Runner

NOW = datetime(2026, 11, 1, tzinfo=UTC)
HEADER = b"id,created_at,text\n"
MEGABYTE = 2**20


def read(path: Path, **limits: int) -> PostsFile:
    return read_posts_file(path, columns={}, now=NOW, limits=PostsLimits(**limits))


def expanding(path: Path, head: bytes, repeated: bytes, megabytes: int) -> Path:
    """Write a gzip file of a thousandth of the size that it expands to."""
    block = gzip.compress(repeated * (MEGABYTE // len(repeated)))
    path.write_bytes(gzip.compress(head) + block * megabytes)
    return path


def parquet(path: Path, content: pa.Array, *, count: int, **options: object) -> Path:
    columns = {"id": pa.array(range(count)), "created_at": pa.array([1_700_000_000] * count), "text": content}
    pq.write_table(pa.table(columns), path, compression="zstd", **options)
    return path


def repeated_text(path: Path, *, count: int = 65_536, characters: int = 40_000) -> Path:
    """Write a file that stores one long text once, and refers to it in every row."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array(["a" * characters]))
    return parquet(path, text, count=count, use_dictionary=["text", "created_at"])


def common_beginning(path: Path, *, count: int = 4_096, characters: int = 400_000) -> Path:
    """Write a file whose texts are stored as what differs from the one before."""
    columns = [("id", pa.int64()), ("created_at", pa.int64()), ("text", pa.string())]
    encoding = {"id": "DELTA_BINARY_PACKED", "created_at": "DELTA_BINARY_PACKED", "text": "DELTA_BYTE_ARRAY"}
    schema = pa.schema(columns)
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False, column_encoding=encoding) as writer:
        for start in range(0, count, 256):
            ids = range(start, start + 256)
            texts = ["a" * characters + str(number) for number in ids]
            writer.write_table(
                pa.table([pa.array(ids), pa.array([1_700_000_000] * 256), pa.array(texts)], schema=schema)
            )
    return path


def understate(path: Path) -> Path:
    """Let the footer of a Parquet file say that its text takes a few bytes, decompressed."""

    def varint(number: int) -> bytes:
        parts = [number >> shift & 127 for shift in range(0, number.bit_length(), 7)]
        return bytes([*(part | 128 for part in parts[:-1]), parts[-1]])

    group = pq.ParquetFile(path).metadata.row_group(0)
    content = path.read_bytes()
    for size in {group.total_byte_size, group.column(2).total_uncompressed_size}:
        real = varint(2 * size)
        assert content.count(real) == 1
        content = content.replace(real, bytes([0x90, *[0x80] * (len(real) - 2), 0]))
    path.write_bytes(content)
    return path


# --- each limit, and the setting that raises it ---------------------------------------------------


@pytest.mark.parametrize("name", ["posts.csv", "posts.tsv.gz", "posts.jsonl", "posts.parquet"])
def test_a_file_has_at_most_so_many_rows(tmp_path: Path, name: str) -> None:
    posts = pd.DataFrame({"id": ["a", "b", "c"], "created_at": "2024-01-01", "text": "x"})
    path = tmp_path / name
    if name.endswith("parquet"):
        posts.to_parquet(path)
    elif name.endswith("jsonl"):
        posts.to_json(path, orient="records", lines=True)
    else:
        posts.to_csv(path, sep="\t" if ".tsv" in name else ",", index=False)
    assert len(read(path, rows=3).posts) == 3
    with pytest.raises(PostsError) as error:
        read(path, rows=2)
    problem = f"'{path}' has more than 2 rows, blank ones included. Raise posts.limits.rows to import it"
    assert str(error.value) == problem


def test_a_json_array_has_at_most_so_many_records(tmp_path: Path) -> None:
    path = tmp_path / "posts.json"
    path.write_text(json.dumps([{"id": str(number), "created_at": "2024-01-01"} for number in range(3)]))
    assert len(read(path, rows=3).posts) == 3
    with pytest.raises(PostsError, match="has more than 2 rows"):
        read(path, rows=2)


def test_blank_lines_count(tmp_path: Path) -> None:
    for name, head in (("posts.csv", ""), ("later.csv", "id,created_at\na,2024-01-01\n"), ("posts.jsonl", "")):
        (tmp_path / name).write_text(head + "\n" * 100)
        with pytest.raises(PostsError, match="has more than 90 rows, blank ones included"):
            read(tmp_path / name, rows=90)


@pytest.mark.parametrize(
    ("name", "head", "endless"),
    [
        ("posts.csv.gz", HEADER + b"a,2024-01-01,first\n", b"x"),
        ("posts.csv.gz", HEADER + b"a,2024-01-01,first\n", b","),
        ("posts.tsv.gz", b"id\tcreated_at\na\t2024-01-01\n", b"x"),
        ("posts.jsonl.gz", b'{"id": "a", "created_at": "2024-01-01"}\n', b"["),
        ("posts.ndjson.gz", b'{"id": "a", "created_at": "2024-01-01"}\n', b"{},"),
    ],
    ids=["one field", "many fields", "tsv", "brackets", "objects"],
)
def test_a_row_has_at_most_so_many_megabytes(tmp_path: Path, name: str, head: bytes, endless: bytes) -> None:
    path = expanding(tmp_path / name, head, endless, 3)
    with pytest.raises(PostsError) as error:
        read(path, row_megabytes=1)
    assert str(error.value).startswith(f"'{path}' has a row of more than 1 MB, after ")
    assert str(error.value).endswith("others. Raise posts.limits.row_megabytes to import it")


def test_a_long_row_within_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "posts.csv"
    path.write_bytes(HEADER + b"a,2024-01-01," + b"x" * (MEGABYTE - 200) + b"\nb,2024-01-01,y\n")
    assert read(path, row_megabytes=2).posts["content"].str.len().tolist() == [MEGABYTE - 200, 1]


@pytest.mark.parametrize("name", ["posts.csv.gz", "posts.jsonl.gz"])
def test_a_file_expands_to_at_most_so_many_megabytes(tmp_path: Path, name: str) -> None:
    row = b"a,2024-01-01," if ".csv" in name else b'{"id": "a", "created_at": "2024-01-01", "x": "'
    path = expanding(tmp_path / name, HEADER, row + b"x" * 1_000 + b'"}\n', 3)
    with pytest.raises(PostsError) as error:
        read(path, file_megabytes=2)
    problem = f"'{path}' expands to more than 2 MB. Raise posts.limits.file_megabytes to import it"
    assert str(error.value) == problem


def test_a_file_has_at_most_so_many_rejected_rows(tmp_path: Path) -> None:
    path = tmp_path / "posts.csv"
    path.write_bytes(HEADER + b"{0},never,x\n" * 5)
    assert len(read(path, rejected_rows=5).rejected) == 5
    with pytest.raises(PostsError) as error:
        read(path, rejected_rows=4)
    reason = "the time 'never' is not in a known format"
    problem = f"'{path}' has more than 4 rejected rows, the first at 2: {reason}"
    assert str(error.value) == f"{problem}. Raise posts.limits.rejected_rows to import it"


@pytest.mark.parametrize("write", [repeated_text, common_beginning])
def test_texts_that_a_parquet_file_stores_once_count_in_every_row(tmp_path: Path, write: Callable[..., Path]) -> None:
    path = write(tmp_path / "posts.parquet", count=512, characters=10_000)
    assert len(read(path).posts) == 512
    with pytest.raises(PostsError, match="expands to more than 4 MB. Raise posts.limits.file_megabytes"):
        read(path, file_megabytes=4)


def test_a_row_group_of_parquet_has_at_most_so_many_megabytes(tmp_path: Path) -> None:
    texts = pa.array([f"{number:03d}" * 10_000 for number in range(100)])
    path = parquet(tmp_path / "posts.parquet", texts, count=100, row_group_size=50)
    assert len(read(path, row_group_megabytes=2).posts) == 100
    with pytest.raises(PostsError) as error:
        read(path, row_group_megabytes=1)
    problem = f"'{path}' has a row group of more than 1 MB. Raise posts.limits.row_group_megabytes to import it"
    assert str(error.value) == problem


def test_a_row_group_is_as_large_as_its_pages_whatever_the_footer_says(tmp_path: Path) -> None:
    texts = pa.array([f"{number:03d}" * 10_000 for number in range(100)])
    path = understate(parquet(tmp_path / "posts.parquet", texts, count=100, use_dictionary=False))
    assert pq.ParquetFile(path).metadata.row_group(0).column(2).total_uncompressed_size < 100
    assert len(read(path, row_group_megabytes=4).posts) == 100
    with pytest.raises(PostsError, match=r"has a row group of more than 2 MB"):
        read(path, row_group_megabytes=2)


@pytest.mark.parametrize("name", ["posts.csv.gz", "posts.jsonl.gz", "posts.json.gz"])
def test_a_character_counts_as_it_does_in_memory(tmp_path: Path, name: str) -> None:
    text = b"x" * 1_000_000 + "😀".encode()  # with it, each character takes four bytes
    rows = {
        "posts.csv.gz": (HEADER + b"a,2024-01-01,x\n", b"b,2024-01-01,%b\n"),
        "posts.jsonl.gz": (b'{"id": "a", "created_at": "2024-01-01"}\n', b'{"id": "b", "text": "%b"}\n'),
        "posts.json.gz": (b'[{"id": "a", "created_at": "2024-01-01"},', b'{"id": "b", "text": "%b"}]'),
    }
    head, row = rows[name]
    (tmp_path / name).write_bytes(gzip.compress(head + row % text))
    with pytest.raises(PostsError, match=r"has a row of more than 2 MB, after [01] others"):
        read(tmp_path / name, row_megabytes=2)
    (tmp_path / name).write_bytes(gzip.compress(head + row % text[:-4]))
    assert read(tmp_path / name, row_megabytes=2).rows == 2


def test_a_parquet_text_is_a_row_of_its_size(tmp_path: Path) -> None:
    path = repeated_text(tmp_path / "posts.parquet", count=2, characters=2 * MEGABYTE)
    with pytest.raises(PostsError, match=r"has a row of more than 1 MB"):
        read(path, row_megabytes=1)


@pytest.mark.parametrize("arrow_type", [pa.list_(pa.string()), pa.struct([("a", pa.string())]), pa.binary(4)])
def test_a_parquet_column_that_posts_cannot_have_is_refused(tmp_path: Path, arrow_type: pa.DataType) -> None:
    path = parquet(tmp_path / "posts.parquet", pa.array([None], arrow_type), count=1)
    with pytest.raises(PostsError, match=r"the type of its column 'text' is '.*'. Choose a column of text"):
        read(path)


def test_names_of_columns_are_limited(tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_text("".join(json.dumps({f"{line}.{name}": 0 for name in range(1000)}) + "\n" for line in range(101)))
    with pytest.raises(PostsError, match="has more than 100,000 columns"):
        read(path)


@pytest.mark.slow
def test_the_settings_raise_a_limit(folder: Path, retrainer: Runner) -> None:
    (folder / "posts.csv").write_bytes(HEADER + b"a,2024-01-01,x\nb,2024-01-01,y\n")
    limit = "RETRAINER_POSTS__LIMITS__ROWS"
    refused = retrainer("posts", "import", "posts.csv", env={limit: "1"})
    problem = "Error: 'posts.csv' has more than 1 rows, blank ones included. Raise posts.limits.rows to import it\n"
    assert (refused.code, refused.err) == (1, problem)
    assert "0 posts in" in retrainer("posts", "count").out
    assert retrainer("posts", "import", "posts.csv", env={limit: "2"}).code == 0
    assert retrainer("posts", "count", env={limit: "0"}).code == 2


# --- what Python itself refuses -------------------------------------------------------------------


def test_brackets_of_any_depth_reject_their_row(tmp_path: Path) -> None:
    depths = [*range(900, 1000), 5_000]
    texts = [f"{'[' * depth}{']' * depth}" for depth in depths]
    lines = [*texts, *(f'{{"id": {text}, "created_at": "2024-01-01"}}' for text in texts)]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, '{"id": "b", "created_at": "2024-01-01"}']))
    file = read(tmp_path / "a.jsonl")
    assert (len(file.rejected), file.posts["post_id"].tolist()) == (len(lines), ["b"])


# --- memory, measured on the process --------------------------------------------------------------

BOMBS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "blank lines": (lambda folder: expanding(folder / "a.csv.gz", HEADER, b"\n", 900), "rows"),
    "blank lines of JSON": (lambda folder: expanding(folder / "a.jsonl.gz", b"", b" \n", 900), "rows"),
    "one endless line": (lambda folder: expanding(folder / "a.csv.gz", HEADER, b"a", 900), "row_megabytes"),
    "an endless header": (lambda folder: expanding(folder / "a.csv.gz", b"", b"a,", 900), "row_megabytes"),
    "an endless quote": (lambda folder: expanding(folder / "a.csv.gz", HEADER + b'"', b"a\n", 900), "rows"),
    "an endless line of JSON": (lambda folder: expanding(folder / "a.jsonl.gz", b"", b"{},", 900), "row_megabytes"),
    "an endless line that is not UTF-8": (
        lambda folder: expanding(folder / "a.jsonl.gz", b"\xff", b"a", 900),
        "row_megabytes",
    ),
    "a JSON array of objects": (lambda folder: expanding(folder / "a.json.gz", b"[", b"{},", 900), "rows"),
    "a JSON array of arrays": (lambda folder: expanding(folder / "a.json.gz", b"[", b"[],", 900), "rows"),
    "a JSON array in a record": (
        lambda folder: expanding(folder / "a.json.gz", b'[{"id": [', b"{},", 900),
        "rows",
    ),
    "rejected rows": (lambda folder: expanding(folder / "a.csv.gz", HEADER, b"a,b,c\n", 100), "rejected_rows"),
    "rejected lines of JSON": (lambda folder: expanding(folder / "a.jsonl.gz", b"", b"1\n", 9), "rejected_rows"),
    "a text that Parquet stores once": (lambda folder: repeated_text(folder / "a.parquet"), "file_megabytes"),
    "one long text of Parquet": (
        lambda folder: parquet(folder / "a.parquet", pa.array(["a" * 150 * MEGABYTE]), count=1),
        "row_megabytes",
    ),
    "texts of Parquet": (
        lambda folder: parquet(folder / "a.parquet", pa.array(["a" * MEGABYTE] * 600), count=600, use_dictionary=False),
        "row_group_megabytes",
    ),
    "texts of Parquet whose footer lies": (
        lambda folder: understate(
            parquet(folder / "a.parquet", pa.array(["a" * MEGABYTE] * 600), count=600, use_dictionary=False)
        ),
        "row_group_megabytes",
    ),
    "rows of one emoji among letters": (
        lambda folder: expanding(
            folder / "a.csv.gz", HEADER, b"1,2024-01-01," + "😀".encode() + b"a" * 1_000_000 + b"\n", 1_100
        ),
        "file_megabytes",
    ),
    "one emoji among 15 million letters": (
        lambda folder: expanding(folder / "a.csv.gz", HEADER + b"1,2024-01-01," + "😀".encode(), b"a" * MEGABYTE, 15),
        "row_megabytes",
    ),
    "a beginning that Parquet stores once": (lambda folder: common_beginning(folder / "a.parquet"), "file_megabytes"),
}
QUICK = "a text that Parquet stores once"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == QUICK else pytest.mark.slow) for name in BOMBS]
)
def test_a_file_that_expands_to_gigabytes_takes_little_memory(tmp_path: Path, name: str) -> None:
    write, setting = BOMBS[name]
    path = write(tmp_path)
    assert path.stat().st_size < 4 * MEGABYTE
    limit = 2_400 if "beginning" in name else 900  # its texts differ, and are in memory up to file_megabytes
    limits: dict[str, int] = {}
    if setting == "rows":
        limits, limit = {"rows": 4_000_000}, 300  # a fifth of the default, and less memory for it
    code = (
        "import sys; from pathlib import Path; from datetime import datetime, UTC\n"
        "from retrainer.config import PostsLimits; from retrainer.errors import PostsError\n"
        "from tests.posts.reading import read_posts_file\n"
        "try: read_posts_file(Path(sys.argv[1]), columns={'post_id': 'id', 'created_at': 'created_at'}"
        f" if 'parquet' in sys.argv[1] else {{}}, now=datetime.now(UTC), limits=PostsLimits(**{limits}))\n"
        "except PostsError as error: print(error)\n"
        "print(Path('/proc/self/status').read_text())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    message, *status = done.stdout.splitlines()
    assert f"Raise posts.limits.{setting} to import it" in message
    [peak] = [int(line.split()[1]) for line in status if line.startswith("VmHWM:")]  # KB
    assert peak < limit * 1024
