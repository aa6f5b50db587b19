"""Reading rows of fields: dialects, and rows whose quotes do not match."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrainer.errors import PostsError, UsageError
from retrainer.posts.readers import ReadOptions
from retrainer.posts.records import RejectedRow
from tests.posts.readers.reading import error_of, ids, read, read_all

if TYPE_CHECKING:
    from pathlib import Path

MISMATCH = "its quotes do not match"
UNCLOSED = "a quote in it is never closed"


@pytest.mark.parametrize(
    ("name", "delimiter", "detected"),
    [
        ("posts.csv", ",", ()),
        ("posts.csv", ";", ("separator ';'",)),
        ("posts.csv", "\t", ("separator tab",)),
        ("posts.csv", "|", ("separator '|'",)),
        ("posts.tsv", "\t", ()),
        ("posts.tsv", ",", ("separator ','",)),
        ("posts.txt", ";", ("separator ';'",)),
        ("posts", "\t", ("separator tab",)),
    ],
)
def test_the_separator_is_detected(tmp_path: Path, name: str, delimiter: str, detected: tuple[str, ...]) -> None:
    rows = [["id", "date", "text"], ["1", "2024-01-01", "a, b; c | d\te"], ["2", "2024-01-02", 'line\n"two"']]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    content = read(tmp_path / name, text.getvalue())
    assert (content.columns, [list(row.values()) for row in content.rows]) == (rows[0], rows[1:])
    assert (content.detected, content.lines, content.rejected) == (detected, [2, 3], [])


def test_unquoted_texts_may_be_full_of_other_separators(tmp_path: Path) -> None:
    rows = "".join(f"{number};2024-01-0{number};one, two, three, four\n" for number in range(1, 6))
    content = read(tmp_path / "posts.csv", f"id;date;text\n{rows}")
    assert [row["text"] for row in content.rows] == ["one, two, three, four"] * 5


@pytest.mark.parametrize("line", ["sep=;\n", '"sep=;"\r\n', "SEP=;\r"])
def test_a_first_line_may_name_the_separator(tmp_path: Path, line: str) -> None:
    content = read(tmp_path / "posts.csv", f"{line}id;a,b\n1;2,3\n")
    assert (content.columns, content.rows, content.lines) == (["id", "a,b"], [{"id": "1", "a,b": "2,3"}], [3])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(tmp_path: Path, end: str) -> None:
    content = read(tmp_path / "posts.csv", end.join(["id,text", '1,"a', 'b"', "2,c", ""]))
    assert (content.lines, content.rows) == ([2, 4], [{"id": "1", "text": f"a{end}b"}, {"id": "2", "text": "c"}])


def test_quotes_may_be_escaped_single_or_behind_a_space(tmp_path: Path) -> None:
    content = read(tmp_path / "a.csv", 'id,text\n1,"say \\"hi\\", twice"\n2,"b"\n')
    assert ([row["text"] for row in content.rows], content.detected) == (
        ['say "hi", twice', "b"],
        ("escapes with \\",),
    )
    content = read(tmp_path / "b.csv", "'id','text'\n'1','a, b'\n'2','it''s'\n")
    assert ([row["text"] for row in content.rows], content.detected) == (["a, b", "it's"], ("quotes '",))
    content = read(tmp_path / "c.csv", 'id, text\n1, "a, b"\n2, c\n')
    assert content.rows == [{"id": "1", "text": "a, b"}, {"id": "2", "text": "c"}]
    content = read(tmp_path / "d.tsv", 'id\ttext\n1\t"so" he said\n2\tc\n')
    assert ([row["text"] for row in content.rows], content.detected) == (['"so" he said', "c"], ("no quotes",))


def test_an_apostrophe_before_an_id_is_no_quote(tmp_path: Path) -> None:
    assert ids(read(tmp_path / "posts.csv", "id,text\n'101,it's\n'102,b\n")) == ["'101", "'102"]


def test_options_overrule_what_is_detected(tmp_path: Path) -> None:
    content = read(tmp_path / "posts.csv", "id,b;text,d\n1,2;3,4\n", delimiter=";")
    assert (content.columns, content.detected) == (["id,b", "text,d"], ())
    assert read(tmp_path / "posts.csv", "id~text\n1~a\n", delimiter="~").rows == [{"id": "1", "text": "a"}]
    for delimiter in ("tab", "\\t", "\t"):
        assert read(tmp_path / "posts.csv", "id\ttext,x\n1\ta,y\n", delimiter=delimiter).columns == ["id", "text,x"]
    with pytest.raises(UsageError, match=r"^invalid delimiter ';;'\. Choose one character, such as ';', or tab$"):
        read(tmp_path / "posts.csv", delimiter=";;")


def test_an_unmatched_quote_rejects_its_row_alone(tmp_path: Path) -> None:
    rows = '1,"a"b,x\n2,b "so" c,x\n3,"open,x\n4,d,x\n5,"e, f",x\n6,"open\n7,g,x\n8,h,x\n'
    content = read(tmp_path / "posts.csv", f"id,text,x\n{rows}")
    assert content.rejected == [RejectedRow(2, MISMATCH), RejectedRow(4, MISMATCH), RejectedRow(7, UNCLOSED)]
    assert (ids(content), content.lines) == (["2", "4", "5", "7", "8"], [3, 5, 6, 8, 9])


def test_lines_of_a_text_with_unmatched_quotes_are_part_of_its_row(tmp_path: Path) -> None:
    content = read(tmp_path / "posts.csv", 'id,text,x\n1,"he said "so"\nand, twice\nbye",x\n2,b,x\n')
    assert content.rejected == [RejectedRow(2, f"{MISMATCH} (up to line 4)")]
    assert ids(content) == ["2"]
    content = read(tmp_path / "posts.csv", 'id,text,x\n1,a,x\n2,"he said "so"\nbye')
    assert content.rejected == [RejectedRow(3, f"{MISMATCH} (up to line 4)")]


def test_a_quote_that_is_never_closed_costs_one_row_of_a_large_file(tmp_path: Path) -> None:
    rows = [f"{number},{'x' * 1_000},b\n" for number in range(4_000)]
    rows[7] = '7,"open,b\n'
    (tmp_path / "posts.csv").write_text("".join(["id,text,x\n", *rows]))
    [content] = read_all(tmp_path / "posts.csv", row_megabytes=1)
    assert content.rejected == [RejectedRow(9, UNCLOSED)]
    assert content.lines == [line for line in range(2, 4_002) if line != 9]


def test_a_row_of_another_number_of_fields_is_rejected(tmp_path: Path) -> None:
    content = read(tmp_path / "posts.csv", "id,text\n\n1,a\n2\n3,b,c\n")
    assert content.rejected == [
        RejectedRow(4, "1 fields where the header has 2"),
        RejectedRow(5, "3 fields where the header has 2"),
    ]
    assert content.lines == [3]


def test_a_header_with_unmatched_quotes_is_an_error(tmp_path: Path) -> None:
    said = "cannot read the header of 'posts.csv': its quotes do not match. Fix its first line"
    assert error_of(tmp_path / "posts.csv", '"id,date\n1,2\n') == said
    assert error_of(tmp_path / "posts.csv", '"id"s,date\n1,2\n') == said


FIELD = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(FIELD, min_size=3, max_size=3), max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_writer_wrote_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], delimiter: str, end: str
) -> None:
    path = tmp_path_factory.mktemp("rows") / "posts.csv"
    with path.open("w", encoding="utf-8", newline="") as text:
        csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(
            [["id", "date", "text"], *rows]
        )
    content = read(path)
    assert ([list(row.values()) for row in content.rows], content.rejected) == (rows, [])


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.sampled_from('ab,"\n\r;\\'), max_size=200))
def test_no_line_is_lost_however_quotes_stand(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("rows") / "posts.csv"
    content = read(path, f"id,text\n1,first\n{text}\n2,last\n".encode(), delimiter=",")
    assert content.lines[:1] == [2]
    assert content.rows[0] == {"id": "1", "text": "first"}
    lines = [*content.lines, *(row.line for row in content.rejected)]
    assert len(set(lines)) == len(lines)
    last = 2 + len(io.StringIO(f"{text}\n2,last\n", newline="").readlines())
    is_read = content.lines[-1] == last and content.rows[-1] == {"id": "2", "text": "last"}
    assert is_read or content.rejected or "last" in str(list(content.rows[-1].values()))  # as part of a field


@pytest.mark.parametrize("encoding", ["base64", "rot13", "idna", "punycode", "undefined", "nonsense", ""])
def test_an_encoding_that_is_none_of_texts_is_unknown(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "posts.csv").write_text("id,date\n1,2024-01-01\n")
    with pytest.raises(UsageError, match="unknown encoding"):
        read_all(tmp_path / "posts.csv", options=ReadOptions(encoding=encoding))


def test_text_without_the_mark_that_its_encoding_demands_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "posts.csv").write_text("id,date\n1,2024-01-01\n")
    with pytest.raises(PostsError, match="is not UTF-16 text"):
        read_all(tmp_path / "posts.csv", options=ReadOptions(encoding="utf-16"))
