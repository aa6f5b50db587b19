"""Reading posts files: accepted and rejected rows, and errors of the whole file."""

from __future__ import annotations

import csv
import gzip
import io
import json
import time
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrainer.errors import PostsError
from retrainer.posts.records import RejectedRow
from tests.posts.reading import PostsFile, error_of, read, read_bytes, read_posts_file
from tests.shared import REAL_STREAMS, real_stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LONG_ID = "107797156496908384"  # more digits than a float holds
TIME = "2024-10-31T05:03:01Z"
NO_TIME = "is not in a known format"


def read_records(folder: Path, *records: Mapping[str, object], name: str = "posts.json") -> PostsFile:
    return read_bytes(folder, name, json.dumps(records))


def posts_with(name: str, values: Sequence[object]) -> list[dict[str, object]]:
    """Return a record for each value of a column, otherwise valid."""
    return [{"id": number, "date": TIME, name: value} for number, value in enumerate(values)]


def reasons(file: PostsFile) -> list[str]:
    return [row.reason for row in file.rejected]


def only_time(file: PostsFile) -> datetime:
    assert file.rejected == []
    moment: datetime = file.posts["created_at"].iloc[0].to_pydatetime()
    return moment


def csv_text(rows: Sequence[Sequence[object]], delimiter: str = ",") -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue()


def write(path: Path, records: list[dict[str, Any]]) -> None:
    """Write records in the format of the suffix."""
    names = list(records[0])
    rows = [names, *([record[name] for name in names] for record in records)]
    texts = {
        ".csv": lambda: csv_text(rows),
        ".tsv": lambda: csv_text(rows, "\t"),
        ".json": lambda: json.dumps(records),
        ".jsonl": lambda: "\n".join(json.dumps(record) for record in records),
        ".ndjson": lambda: "\n".join(json.dumps(record, ensure_ascii=False) for record in records),
    }
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(texts[path.suffixes[0]]().encode()))
    else:
        path.write_bytes(texts[path.suffix]().encode())


TEXT_FORMATS = ["posts.csv", "posts.tsv", "posts.json", "posts.jsonl", "posts.ndjson"]
FORMATS = [*TEXT_FORMATS, *(f"{name}.gz" for name in TEXT_FORMATS), "posts.parquet"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_table(tmp_path: Path, name: str) -> None:
    records = [
        {"id": LONG_ID, "created_at": TIME, "text": "one\ntwo, “three”", "reblogs_count": 7, "other": "x"},
        {"id": "007", "created_at": "2024-01-02", "text": "", "reblogs_count": 0, "other": ""},
    ]
    write(tmp_path / name, records)
    file = read(tmp_path / name)
    assert (file.rows, file.repeated, file.rejected) == (2, 0, [])
    assert file.mapping == {
        "post_id": "id",
        "created_at": "created_at",
        "content": "text",
        "reblogs_count": "reblogs_count",
    }
    expected = pd.DataFrame(
        {
            "post_id": pd.Series([LONG_ID, "007"], dtype="str"),
            "created_at": pd.Series([TIME, "2024-01-02T00:00:00Z"]).astype("datetime64[us, UTC]"),
            "content": pd.Series(["one\ntwo, “three”", None], dtype=object),
            "replies_count": pd.Series([None, None], dtype="Int64"),
            "reblogs_count": pd.Series([7, 0], dtype="Int64"),
            "favourites_count": pd.Series([None, None], dtype="Int64"),
        }
    )
    pd.testing.assert_frame_equal(file.posts, expected)
    assert file.posts["content"].iloc[1] is None


IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda written: written == written.strip() and not any(character in written for character in "+.'\"")
)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(1, 1, 3), datetime(2025, 5, 30), timezones=ZONES)  # noqa: DTZ001  zones are drawn


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=10, deadline=None)
@given(posts=st.dictionaries(IDS, TIMES, min_size=1, max_size=5))
def test_ids_and_times_survive_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory, name: str, posts: dict[str, datetime]
) -> None:
    path = tmp_path_factory.mktemp("posts") / name
    write(path, [{"id": post_id, "date": moment.isoformat()} for post_id, moment in posts.items()])
    file = read(path)
    assert file.rejected == []
    assert list(file.posts["post_id"]) == list(posts)
    assert [moment.to_pydatetime() for moment in file.posts["created_at"]] == list(posts.values())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**63 - 1))
def test_an_id_that_is_a_whole_number_keeps_every_digit(tmp_path_factory: pytest.TempPathFactory, number: int) -> None:
    folder = tmp_path_factory.mktemp("posts")
    records = [{"id": number, "date": TIME}]
    for name in ("a.json", "a.jsonl", "a.parquet"):
        write(folder / name, records)
        assert list(read(folder / name).posts["post_id"]) == [str(number)]


def test_whole_ids_of_every_parquet_type_keep_every_digit(tmp_path: Path) -> None:
    for kind in (pa.int64(), pa.uint64(), pa.decimal128(20, 0), pa.string(), pa.large_string(), pa.binary()):
        number = Decimal(LONG_ID) if pa.types.is_decimal(kind) else int(LONG_ID)
        value = number if pa.types.is_decimal(kind) or pa.types.is_integer(kind) else LONG_ID
        ids = pa.array([value]) if not isinstance(value, str) else pa.array([value], pa.string()).cast(kind)
        for column in (ids, ids.dictionary_encode()):
            pq.write_table(pa.table({"id": column, "date": [TIME]}), tmp_path / "posts.parquet")
            assert list(read(tmp_path / "posts.parquet").posts["post_id"]) == [LONG_ID]


def test_an_id_that_is_not_text_or_cannot_be_stored_is_rejected(tmp_path: Path) -> None:
    ids = [True, ["a"], "a\0b", "a\ud800"]
    assert reasons(read_records(tmp_path, *({"id": value, "date": TIME} for value in ids))) == [
        "the id 'True' is neither text nor a whole number",
        "the id '['a']' is neither text nor a whole number",
        "the id 'a b' contains a character that cannot be stored",
        "the id 'a ' contains a character that cannot be stored",
    ]


def test_a_number_in_json_or_parquet_is_a_time_since_1970(tmp_path: Path) -> None:
    for number in (1730350981, 1730350981.0, 1730350981000, 1730350981000.0):
        for name in ("posts.json", "posts.parquet"):
            write(tmp_path / name, [{"id": "1", "date": number}])
            assert only_time(read(tmp_path / name)) == datetime.fromisoformat(TIME)
    wrong: list[object] = [True, float("inf"), {}]
    file = read_records(tmp_path, *posts_with("date", wrong))
    assert reasons(file) == [f"the time '{value}' {NO_TIME}" for value in wrong]


def test_parquet_timestamps_of_every_unit_and_zone_are_the_same_instant(tmp_path: Path) -> None:
    whole = np.datetime64("2024-10-31T05:03:01")
    for unit in ("s", "ms", "us", "ns"):
        for zone in (None, "UTC", "Asia/Kathmandu"):
            times = pa.array([whole.astype(f"datetime64[{unit}]"), None]).cast(pa.timestamp(unit, zone))
            pq.write_table(pa.table({"id": ["1", "2"], "date": times}), tmp_path / "posts.parquet")
            file = read(tmp_path / "posts.parquet")
            assert str(file.posts["created_at"].iloc[0]) == "2024-10-31 05:03:01+00:00"
            assert file.rejected == [RejectedRow(2, "the time is missing")]
    nanoseconds = pa.array([np.datetime64("2024-10-31T05:03:01.123456999")])
    pq.write_table(pa.table({"id": ["1"], "date": nanoseconds}), tmp_path / "posts.parquet")
    assert only_time(read(tmp_path / "posts.parquet")).microsecond == 123456
    days = pa.array([datetime(2024, 10, 31, tzinfo=UTC).date()])
    pq.write_table(pa.table({"id": ["1"], "date": days}), tmp_path / "posts.parquet")
    assert only_time(read(tmp_path / "posts.parquet")) == datetime(2024, 10, 31, tzinfo=UTC)


def test_a_time_after_now_is_rejected(tmp_path: Path) -> None:
    file = read_bytes(tmp_path, "posts.csv", "id,date\n1,2025-06-01T12:00:00.000001Z\n2,2025-06-01 14:00+02\n")
    assert file.rejected == [RejectedRow(2, "the time '2025-06-01T12:00:00.000001Z' is in the future")]
    assert list(file.posts["post_id"]) == ["2"]


def test_a_time_before_the_year_1_is_rejected(tmp_path: Path) -> None:
    file = read_bytes(tmp_path, "posts.csv", "id,date\n1,0001-01-01T00:00+14:00\n")
    assert reasons(file) == ["the time '0001-01-01T00:00+14:00' is before the year 1"]


def test_a_missing_id_or_time_is_rejected(tmp_path: Path) -> None:
    file = read_bytes(tmp_path, "posts.csv", f"id,date,text\n,{TIME},a\n  ,{TIME},b\n3,,c\n4,  ,d\n")
    expected = ["the id is missing"] * 2 + ["the time is missing"] * 2
    assert [(row.line, row.reason) for row in file.rejected] == list(zip(range(2, 6), expected, strict=True))
    file = read_records(tmp_path, {"date": TIME}, {"id": None, "date": TIME}, {"id": 3, "date": float("nan")}, {})
    assert reasons(file) == [*["the id is missing"] * 2, "the time is missing", "the id is missing"]


def test_the_same_id_with_another_time_or_text_clashes_and_names_the_first_line(tmp_path: Path) -> None:
    again = ["1,2024-10-31,a", "1,2024-11-01,a", "1,2024-10-31,b", "1,2024-11-01,", "1,2024-10-31T00:00Z,a"]
    file = read_bytes(tmp_path, "posts.csv", "\n".join(["id,date,text", "0,never,x", *again]))
    assert [(change.line, change.earlier, list(change.after)) for change in file.changes.first_clashing] == [
        (4, (0, 3), ["created_at"]),
        (5, (0, 3), ["content"]),
        (6, (0, 3), ["created_at"]),
    ]
    assert (file.rows, len(file.posts), file.repeated, file.changes.clashing) == (6, 1, 1, 3)


def test_a_json_reason_refers_to_records(tmp_path: Path) -> None:
    file = read_records(tmp_path, {"id": 1, "date": TIME}, {"id": "2", "date": "never"})
    assert [row.line for row in file.rejected] == [2]


def test_a_repeated_row_is_dropped_and_counted_even_with_other_counts(tmp_path: Path) -> None:
    rows = f"1,{TIME},a,5\n1,{TIME},a,5\n1,{TIME},a,9\n2,{TIME},,\n2,{TIME}, ,1\n"
    file = read_bytes(tmp_path, "posts.csv", f"id,date,text,replies_count\n{rows}")
    assert (file.rows, file.repeated, file.rejected) == (5, 3, [])
    assert list(file.posts["replies_count"])[:1] == [5]


def test_a_rejected_row_does_not_claim_its_id(tmp_path: Path) -> None:
    file = read_bytes(tmp_path, "posts.csv", f"id,date\n1,never\n1,{TIME}\n")
    assert (len(file.posts), len(file.rejected)) == (1, 1)


def test_counts_may_be_missing_or_floats(tmp_path: Path) -> None:
    rows = f"1,{TIME},\n2,{TIME},12.0\n3,{TIME}, 7 \n4,{TIME},9223372036854775807\n5,{TIME},007\n"
    file = read_bytes(tmp_path, "posts.csv", f"id,date,replies_count\n{rows}")
    assert file.rejected == []
    assert file.posts["replies_count"].isna().tolist() == [True, False, False, False, False]
    assert list(file.posts["replies_count"][1:]) == [12, 7, 2**63 - 1, 7]
    write(tmp_path / "posts.parquet", posts_with("replies_count", [3.0, None, float("nan")]))
    counts = read(tmp_path / "posts.parquet").posts["replies_count"]
    assert counts.equals(pd.Series([3, None, None], dtype="Int64"))


def test_text_is_unchanged_except_for_characters_that_cannot_be_stored(tmp_path: Path) -> None:
    written = ["  kept  ", "a\0b\ud83dc", "\ud83d\ude00", "NaN", "null", "two\r\nlines"]
    records = [{"id": number, "date": TIME, "text": text} for number, text in enumerate(written)]
    kept = ["  kept  ", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c", "😀", "NaN", "null", "two\r\nlines"]
    for name in ("posts.json", "posts.jsonl"):
        write(tmp_path / name, records)
        assert list(read(tmp_path / name).posts["content"]) == kept
    file = read_bytes(tmp_path, "posts.csv", f'id,date,text\n1,{TIME},"a\0b"\n2,{TIME},"two\r\nlines"\n3,{TIME},NaN\n')
    assert list(file.posts["content"]) == ["a\N{REPLACEMENT CHARACTER}b", "two\r\nlines", "NaN"]


def test_missing_text_is_none(tmp_path: Path) -> None:
    absent = {"id": "none", "date": TIME}
    file = read_records(tmp_path, *posts_with("text", [None, "", " \n\t", float("nan")]), absent)
    assert list(file.posts["content"]) == [None] * 5
    file = read_bytes(tmp_path, "posts.csv", f"id,date\n1,{TIME}\n")
    assert list(file.posts["content"]) == [None]
    assert "content" not in file.mapping


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    rows = ["id,date,text", f'1,{TIME},"one', "two", 'three"', "", '2,soon,"a', 'b"', f"3,{TIME}", f"4,{TIME},d"]
    for end in ("\n", "\r\n", "\r"):
        file = read_bytes(tmp_path, "posts.csv", end.join(rows))
        assert file.rejected == [
            RejectedRow(6, f"the time 'soon' {NO_TIME}"),
            RejectedRow(8, "2 fields where the header has 3"),
        ]
        assert file.rows == 4
        assert list(file.posts["content"]) == [f"one{end}two{end}three", "d"]


def test_a_value_in_a_reason_is_shortened_to_60_characters(tmp_path: Path) -> None:
    file = read_records(tmp_path, {"id": 1, "date": "a\n\x1b[31m" + "b" * 100})
    assert reasons(file) == [f"the time 'a  [31m{'b' * 52}…' {NO_TIME}"]
    file = read_records(tmp_path, {"id": 1, "date": "b" * 60})
    assert reasons(file) == [f"the time '{'b' * 60}' {NO_TIME}"]


def test_a_field_longer_than_the_default_limit_of_csv_is_read(tmp_path: Path) -> None:
    file = read_bytes(tmp_path, "posts.csv", f"id,date,text\n1,{TIME},{'x' * 300_000}\n")
    assert len(file.posts["content"].iloc[0]) == 300_000


@pytest.mark.parametrize("name", TEXT_FORMATS)
def test_a_byte_order_mark_is_skipped(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [{"id": "1", "date": TIME}])
    marked = b"\xef\xbb\xbf" + (tmp_path / name).read_bytes()
    file = read_bytes(tmp_path, name, marked)
    assert file.mapping["post_id"] == "id"
    assert len(file.posts) == 1


@pytest.mark.parametrize("content", ["", "\ufeff", "\n\n", "\ufeff\r\n"])
@pytest.mark.parametrize("name", ["posts.csv", "posts.json", "posts.jsonl"])
def test_an_empty_file_is_an_error(tmp_path: Path, name: str, content: str) -> None:
    assert error_of(tmp_path, name, content) == f"'{name}' is empty"


def test_a_file_without_rows_is_an_empty_table_of_the_same_types(tmp_path: Path) -> None:
    full = read_bytes(tmp_path, "posts.csv", f"id,date\n1,{TIME}\n")
    pq.write_table(
        pa.table({"id": pa.array([], pa.string()), "date": pa.array([], pa.string())}), tmp_path / "p.parquet"
    )
    files = [
        read_bytes(tmp_path, "posts.csv", "id,date"),
        read_bytes(tmp_path, "posts.json", "[]"),
        read_bytes(tmp_path, "posts.json", '{"posts": [], "next": null}'),
        read(tmp_path / "p.parquet"),
    ]
    for file in files:
        assert (file.rows, file.rejected, len(file.posts)) == (0, [], 0)
        assert list(file.posts.dtypes.items()) == list(full.posts.dtypes.items())


def test_an_invalid_json_line_is_rejected(tmp_path: Path) -> None:
    good = json.dumps({"id": 1, "date": TIME})
    lines = [good, "", '{"id": 2', "[1]", "[" * 100_000, "9" * 5000, json.dumps({"date": TIME, "id": 3, "text": "c"})]
    file = read_bytes(tmp_path, "posts.jsonl", "\n".join(lines))
    assert [(row.line, row.reason.split(":")[0]) for row in file.rejected] == [
        (3, "not JSON"),
        (4, "'[1]' is not an object"),
        (5, "not readable as JSON"),
        (6, f"'{'9' * 59}…' is not an object"),
    ]
    assert file.rejected[0].reason == "not JSON: Expecting ',' delimiter at character 9"
    assert (file.rows, list(file.posts["post_id"])) == (6, ["1", "3"])
    assert list(file.posts["content"]) == [None, "c"]  # a column that only a later line has is still found


def test_json_lines_may_all_be_rejected(tmp_path: Path) -> None:
    file = read_bytes(tmp_path, "posts.jsonl", "one\ntwo\n")
    assert [row.line for row in file.rejected] == [1, 2]
    assert (file.rows, file.mapping, len(file.posts)) == (2, {}, 0)


def test_a_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    assert len(read_bytes(tmp_path, "POSTS.CSV", f"ID,Date\n1,{TIME}\n").posts) == 1


def test_a_damaged_parquet_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "posts.parquet"
    write(path, [{"id": str(number), "date": TIME, "text": f"text {number}"} for number in range(2000)])
    whole = path.read_bytes()
    for content in (b"id,date\n1,2024-01-01\n", whole[:500], whole[:20] + b"\xff" * 3000 + whole[3020:]):
        assert "cannot read 'posts.parquet' as Parquet: " in error_of(tmp_path, "posts.parquet", content)


def test_parquet_text_that_is_not_utf_8_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "posts.parquet"
    bad = pa.array([b"caf\xe9"], pa.binary())
    for column in (bad, bad.view(pa.string())):
        pq.write_table(pa.table({"id": ["1"], "date": [TIME], "text": column}), path)
        with pytest.raises(PostsError, match=r"cannot read '.*' as Parquet: "):
            read(path)


def test_rows_keep_the_order_of_the_file(tmp_path: Path) -> None:
    days = ["2024-03-01", "2024-01-01", "2024-02-01"]
    rows = "\n".join(f"{9 - number},{day}" for number, day in enumerate(days))
    file = read_bytes(tmp_path, "posts.csv", f"id,date\n{rows}")
    assert list(file.posts["post_id"]) == ["9", "8", "7"]
    assert list(file.posts.index) == [0, 1, 2]


@pytest.mark.parametrize("name", REAL_STREAMS)
def test_a_real_stream_imports_without_options_and_quickly(name: str) -> None:
    path, rows = real_stream(name), REAL_STREAMS[name].rows
    started = time.process_time()
    file = read_posts_file(path, columns={}, now=datetime(2026, 11, 1, tzinfo=UTC))
    assert time.process_time() - started < 5  # takes 0.3 seconds; a slow or busy machine may take longer
    assert (file.rows, len(file.posts), file.rejected, file.repeated) == (rows, rows, [], 0)
    with path.open(encoding="utf-8", newline="") as text:
        written = list(csv.DictReader(text))
    assert list(file.posts["post_id"]) == [row["id"] for row in written]
    assert list(file.posts["created_at"]) == list(pd.to_datetime([row["created_at"] for row in written], utc=True))
    assert [text or "" for text in file.posts["content"]] == [
        "" if row["text"].isspace() else row["text"] for row in written
    ]
    assert file.posts["favourites_count"].sum() == sum(int(row["favourites_count"]) for row in written)


def test_files_without_posts_in_a_folder_are_skipped_unless_all_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "posts").mkdir()
    others = {"empty.csv": "", "other.json": '{"x": 1}', "users.csv": "id,name\n1,a\n", "feed.xml": "<rss></rss>"}
    for name, content in others.items():
        (tmp_path / "posts" / name).write_text(content)
    with pytest.raises(PostsError, match=r"none of 4 files holds posts; the first: .*empty\.csv' is empty"):
        read(tmp_path / "posts")
    (tmp_path / "posts" / "posts.csv").write_text(f"id,date\n1,{TIME}\n")
    assert read(tmp_path / "posts").rows == 1
    assert sum("Skipped a file without posts" in message for message in caplog.messages) == len(others)
