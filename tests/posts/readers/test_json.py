"""Reading JSON: where the records stand, JSON Lines, JavaScript, and values that keep every digit."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from retrainer.errors import PostsError, UsageError
from retrainer.posts.readers import ReadOptions
from retrainer.posts.records import RejectedRow
from tests.posts.readers.reading import error_of, ids, posts, read, read_all

if TYPE_CHECKING:
    from pathlib import Path

USERS = [{"id": 7, "name": "a"}, {"id": 8, "name": "b"}]


@pytest.mark.parametrize(
    ("document", "records"),
    [
        (posts(1, 2), None),
        ([posts(1), posts(2)], None),
        ({"posts": posts(1, 2)}, "posts"),
        (
            {"account": {"id": 9, "created_at": "2010-01-01"}, "tags": ["a"], "errors": [], "posts": posts(1, 2)},
            "posts",
        ),
        ({"response": {"status": "ok", "data": {"items": posts(1, 2)}}}, "response.data.items"),
        ({"users": USERS, "posts": posts(1, 2), "media": [{"id": 3, "url": "u"}]}, "posts"),
        ([{"data": posts(1), "meta": {"count": 1}}, {"data": posts(2), "meta": {"count": 1}}], "data"),
        ({"1": posts(1)[0], "2": posts(2)[0]}, "*"),
        ({"by_id": {"a": posts(1)[0], "b": posts(2)[0]}, "name": "x"}, "by_id.*"),
        (
            {"channels": {"a": {"name": "a", "messages": posts(1)}, "b": {"name": "b", "messages": posts(2)}}},
            "channels.*.messages",
        ),
        (
            {"chats": {"list": [{"id": 5, "messages": posts(1)}, {"id": 6, "messages": posts(2)}]}},
            "chats.list.messages",
        ),
        ([{**post, "replies": posts(3), "media": [{"id": 4, "date": "2024-01-01"}]} for post in posts(1, 2)], None),
        ([{"post": post} for post in posts(1, 2)], None),
    ],
)
def test_the_records_with_ids_and_times_are_found_at_any_depth(
    tmp_path: Path, document: object, records: str | None
) -> None:
    for indent in (None, 1):
        content = read(tmp_path / "posts.json", json.dumps(document, indent=indent))
        assert content.records == records
        assert content.detected == ((f"records in '{records}'",) if records else ())
        assert [row.get("id", row.get("post.id")) for row in content.rows] == [1, 2]
        assert content.lines == [1, 2]


def test_one_object_is_a_record_if_it_looks_like_one(tmp_path: Path) -> None:
    content = read(tmp_path / "posts.json", json.dumps(posts(1)[0], indent=1))
    assert (ids(content), content.records) == ([1], None)


def test_the_columns_are_the_paths_of_values(tmp_path: Path) -> None:
    record = {
        "id": 1,
        "object": {"content": "c", "tags": []},
        "media": [{"a": 1}, {"title": "t"}],
        "text": ["a", {"b": 1}],
    }
    content = read(tmp_path / "posts.json", json.dumps([record, {"id": 2, "object": "o", "a.b": 3, "media": None}]))
    assert content.columns == [
        *("id", "object", "object.content", "object.tags", "media", "media.0.a", "media.0.title"),
        *("text", "text.0.b", "a.b"),
    ]
    assert content.rows[0]["object.content"] == "c"
    assert content.rows[1]["object.content"] is None
    assert (content.rows[1]["object"], content.rows[1]["a.b"]) == ("o", 3)
    with (tmp_path / "posts.json").open() as _:
        [found] = read_all(tmp_path / "posts.json")
    assert found.rows[0]["media.0.a"] == 1


def test_a_path_may_count_the_elements_of_an_array(tmp_path: Path) -> None:
    from retrainer.config import PostsLimits
    from retrainer.posts.readers import find_posts_files

    (tmp_path / "posts.json").write_text(json.dumps([{"id": 1, "media": [{"t": "a"}, {"t": "b"}]}, {"id": 2}]))
    [file] = find_posts_files([tmp_path / "posts.json"], PostsLimits())
    with file.open() as table:
        rows = list(table.rows(["media.1.t", None, "media.2.t", "media.x", "id.0", "none.at.all"]))
    assert rows == [(1, ["b", None, None, None, None, None]), (2, [None] * 6)]


def test_several_fitting_arrays_are_an_error_and_the_path_of_one_an_option(tmp_path: Path) -> None:
    document = json.dumps({"posts": posts(1), "comments": posts(2, 3)})
    said = "'posts.json' contains 2 arrays of objects: 'posts', 'comments'. Choose one with --records PATH"
    assert error_of(tmp_path / "posts.json", document) == said
    assert ids(read(tmp_path / "posts.json", records="comments")) == [2, 3]
    assert read(tmp_path / "posts.json", records=".").columns == [
        "posts",
        *(f"{name}.0.{key}" if key else name for name, keys in (("posts", ("id", "date", "text")),) for key in keys),
        "comments",
        "comments.0.id",
        "comments.0.date",
        "comments.0.text",
    ]
    with pytest.raises(UsageError, match=r"has no records at 'post'\. There are records at 'posts', 'comments', '\.'$"):
        read(tmp_path / "posts.json", records="post")
    nameless = json.dumps({"posts": [{"id": 1}], "users": [{"id": 2}]})
    assert "contains 2 arrays of objects: 'posts', 'users'" in error_of(tmp_path / "posts.json", nameless)


def test_a_known_export_decides_where_the_records_are(tmp_path: Path) -> None:
    document = json.dumps({"posts": posts(1), "log": [{"entry": 2}]})
    options = ReadOptions(fit=lambda columns, records: 2 if columns == ["entry"] and records == "log" else 0)
    (tmp_path / "posts.json").write_text(document)
    [content] = read_all(tmp_path / "posts.json", options=options)
    assert content.rows == [{"entry": 2}]


@pytest.mark.parametrize("content", ['{"id": 1}', '"posts"', "7", '{"a": ["b"]}'])
def test_a_document_without_records_is_an_error(tmp_path: Path, content: str) -> None:
    said = "'posts.json' contains no array of objects. Write an array of objects, or an object with one such array"
    assert error_of(tmp_path / "posts.json", content) == said


def test_an_empty_array_has_no_rows(tmp_path: Path) -> None:
    for content in ("[]", '{"posts": [], "tags": ["a"]}'):
        assert read(tmp_path / "posts.json", content).rows == []


def test_what_is_no_object_is_rejected(tmp_path: Path) -> None:
    content = read(tmp_path / "posts.json", json.dumps({"tags": ["a"], "posts": [*posts(1), 7, None]}))
    assert content.rejected == [RejectedRow(2, "'7' is not an object"), RejectedRow(3, "'None' is not an object")]


@pytest.mark.parametrize(
    "before",
    [
        *("window.YTD.tweets.part0 = ", "window.YTD.tweet.part12=\n", "var tweets = ", "const a$b =\n "),
        *("Grailbird.data.tweets_2012_01 = \n ", "/* mine */ let x = ", 'window["a"]["b"] = ', "show("),
    ],
)
def test_a_javascript_assignment_is_skipped(tmp_path: Path, before: str) -> None:
    after = ");" if before.endswith("(") else ";\n"
    for name in ("tweets.js", "tweets.json"):
        assert ids(read(tmp_path / name, f"{before}{json.dumps(posts(1, 2), indent=1)}{after}")) == [1, 2]


@pytest.mark.parametrize("name", ["posts.json", "posts.jsonl", "posts.ndjson", "posts.js", "posts.txt", "posts"])
def test_the_suffix_does_not_decide_how_records_follow_each_other(tmp_path: Path, name: str) -> None:
    records = posts(1, 2, 3)
    for text in (
        "\n".join(map(json.dumps, records)),
        "\r\n\r\n".join(map(json.dumps, records)) + "\r\n",
        "".join(map(json.dumps, records)),
        "\n".join(json.dumps(record, indent=2) for record in records),
        "".join(f"\x1e{json.dumps(record)}\n" for record in records) if "." not in name else json.dumps(records),
        json.dumps(records),
        json.dumps(records, indent=2),
        ",\n".join(map(json.dumps, records)),
        "\n".join(json.dumps({"data": [record], "meta": {"n": 1}}) for record in records),
    ):
        if not text.startswith("\x1e"):
            assert ids(read(tmp_path / name, text)) == [1, 2, 3], text


def test_only_json_lines_have_line_numbers_and_survive_a_bad_line(tmp_path: Path) -> None:
    lines = [json.dumps(post) for post in posts(1, 2)]
    content = read(tmp_path / "posts.json", "\n".join([lines[0], "", '{"id": 2', "[1]", f"{lines[1]} 3", lines[1]]))
    assert (content.lines, ids(content)) == ([1, 6], [1, 2])
    assert [(row.line, row.reason.split(" at ")[0]) for row in content.rejected] == [
        (3, "not JSON: Expecting ',' delimiter"),
        (4, "'[1]' is not an object"),
        (5, "not JSON: Extra data"),
    ]


def test_an_error_of_a_document_names_the_line(tmp_path: Path) -> None:
    said = "'posts.json' is not JSON: {} at line {}. Fix the file"
    for text, message, line in (
        ('[\n{"id": 1},\n{"id": }\n]', "Expecting value", 3),
        ('[\n{"id": 1}\n{"id": 2}]', "Expecting ','", 3),
        ('[\n{"id": 1},\n', "Expecting value", 3),
        ('[{"id":\n"a\n', "Invalid control character at", 2),
        ('{"posts": [1,\n2', "Expecting ',' delimiter", 2),
        (" " * 100_000 + "\n" * 100_000 + '[{"id": x}]', "Expecting value", 100_001),
    ):
        assert error_of(tmp_path / "posts.json", text) == said.format(message, line)


def test_numbers_keep_every_digit(tmp_path: Path) -> None:
    long = "1" * 5_000
    text = f'[{{"id": 107797156496908384, "x": 0.1000000000000000055511151231257827, "y": {long}, "z": 1e400}}]'
    for name in ("posts.json", "posts.jsonl"):
        [row] = read(tmp_path / name, text if name.endswith("n") else text[1:-1]).rows
        assert row == {
            "id": 107797156496908384,
            "x": Decimal("0.1000000000000000055511151231257827"),
            "y": long,  # more digits than Python converts
            "z": Decimal("1e400"),
        }


def test_a_key_that_is_there_twice_is_not_decided_in_silence(tmp_path: Path) -> None:
    text = '{"id": 1, "text": "a", "text": "b", "x": {"y": 1, "y": 1}}'
    for name, whole in (("posts.json", f'[{text}, {{"id": 2, "text": "say \\"x\\": y"}}]'), ("a.jsonl", text)):
        content = read(tmp_path / name, whole)
        assert content.rejected == [RejectedRow(1, "it has two different values of 'text'")]
    twice = f'{{"posts": {json.dumps(posts(1))}, "posts": {json.dumps(posts(2))}}}'
    assert ids(read(tmp_path / "posts.json", twice)) == [1, 2]
    by_id = f'{{"1": {json.dumps(posts(1)[0])}, "2": {json.dumps(posts(2)[0])}, "2": {json.dumps(posts(3)[0])}}}'
    assert sorted(map(str, ids(read(tmp_path / "posts.json", by_id)))) == ["1", "2", "3"]


@pytest.mark.parametrize(
    "template",
    ['{{"a": 1, "deep": {{"posts": [{0}], "b": 2}}, "c": [1]}}', '{{"x": {{{1}}}}}', '[{{"posts": [{0}]}}]'],
    ids=["an array", "an object keyed by ids", "in an array"],
)
def test_what_exceeds_a_row_is_read_in_parts(tmp_path: Path, template: str) -> None:
    records = [json.dumps({"id": number, "date": "2024-01-01", "text": "é" * 3_000}) for number in range(800)]
    by_id = ", ".join(f'"k{number}": {record}' for number, record in enumerate(records))
    (tmp_path / "posts.json").write_text(template.format(", ".join(records), by_id))
    [content] = read_all(tmp_path / "posts.json", row_megabytes=1)
    assert ids(content) == list(range(800))


@pytest.mark.parametrize("row_megabytes", [1, 16])
def test_the_key_of_a_record_is_its_id_unless_it_has_one_or_the_keys_are_its_number(
    tmp_path: Path, row_megabytes: int
) -> None:
    padding = "x" * 450_000
    for first, extra, expected in (
        (7, {}, ["7", "8", "9"]),
        (0, {}, [None] * 3),
        (7, {"tweet_id": 1}, [None] * 3),
    ):
        records = {str(first + n): {"date": "2024-01-01", "text": padding, **extra} for n in range(3)}
        (tmp_path / "posts.json").write_text(json.dumps(records))
        [content] = read_all(tmp_path / "posts.json", row_megabytes=row_megabytes)
        assert [row.get("id") for row in content.rows] == expected


def test_records_over_several_lines_after_one_on_a_line_are_read(tmp_path: Path) -> None:
    lines = [json.dumps({"id": 1, "date": "2024-01-01"}), json.dumps({"id": 2, "date": "2024-01-02"}, indent=1)]
    assert ids(read(tmp_path / "posts.json", "\n".join(lines))) == [1, 2]


def test_an_exponent_of_any_length_is_a_number(tmp_path: Path) -> None:
    text = f'{{"id": 1, "date": 1e{"9" * 50}, "text": 1e-{"9" * 50}}}'
    for name in ("posts.json", "posts.jsonl"):
        content = read(tmp_path / name, f'{text}\n{{"id": 2, "id": 2}}' if name.endswith("l") else f"[{text}]")
        assert content.rows[0] == {"id": 1, "date": float("inf"), "text": 0.0}


def test_a_key_that_exceeds_a_row_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "posts.json").write_text(f'{{"posts": {{"{"x" * 5_000_000}": 1}}}}')
    with pytest.raises(PostsError, match="has a row of more than 1 MB"):
        read_all(tmp_path / "posts.json", row_megabytes=1)


def test_nesting_of_any_depth_is_an_error_or_rejected(tmp_path: Path) -> None:
    assert "nested too deeply" in error_of(tmp_path / "posts.json", "[" * 100_000)
    assert "nested too deeply" in error_of(tmp_path / "posts.json", '{"a":' * 100_000)
    content = read(tmp_path / "posts.jsonl", "\n".join(["[" * 10_000, json.dumps(posts(1)[0])]))
    assert content.rejected == [RejectedRow(1, "not readable as JSON: it is nested too deeply")]


@pytest.mark.slow
def test_an_array_of_any_size_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "posts.json"
    record = json.dumps({"id": 1, "date": "2024-01-01", "text": "😀 " * 200, "user": {"id": 2, "tags": ["a"] * 20}})
    with path.open("w") as file:
        file.write('{"data": {"posts": [')
        file.writelines(f"{record},\n" for _ in range(100_000))
        file.write(f"{record}]}}}}")
    assert path.stat().st_size > 2**28
    code = (
        "import sys; from pathlib import Path; from retrainer.config import PostsLimits\n"
        "from retrainer.posts.readers import find_posts_files\n"
        "[file] = find_posts_files([Path(sys.argv[1])], PostsLimits())\n"
        "with file.open() as table: print(sum(1 for _ in table.rows(['id', 'date', 'user.id'])))\n"
        "print(Path('/proc/self/status').read_text())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    rows, *status = done.stdout.splitlines()
    [peak] = [int(line.split()[1]) for line in status if line.startswith("VmHWM:")]  # KB
    assert (rows, peak < 300_000) == ("100001", True)


def test_long_lines_of_many_records_each_are_pages(tmp_path: Path) -> None:
    pages = [{"data": [{**post, "pad": "x" * 500} for post in posts(*range(start, start + 100))]} for start in (1, 101)]
    content = read(tmp_path / "posts.jsonl", "".join(json.dumps(page) + "\n" for page in pages))
    assert content.records == "data"
    assert ids(content) == list(range(1, 201))
