"""Which columns of a file are read, by their names or as given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest

from retrainer.errors import PostsError, UsageError
from tests.posts.reading import error_of, read, read_bytes

if TYPE_CHECKING:
    from pathlib import Path

TIME = "2024-10-31T05:03:01Z"


@pytest.mark.parametrize(
    ("header", "mapping"),
    [
        ("ID,Created_At,TEXT", ["ID", "Created_At", "TEXT"]),
        ("post_id,id,created_at,date,content,body", ["post_id", "created_at", "content"]),
        ("body,timestamp,id", ["id", "timestamp", "body"]),
        ("id,date,timestamp,body,text", ["id", "timestamp", "text"]),
        ("id, date , text", ["id", " date ", " text"]),
        ("Id,id,date,body", ["id", "date", "body"]),
    ],
)
def test_columns_are_recognised_by_name_in_any_case(tmp_path: Path, header: str, mapping: list[str]) -> None:
    found = read_bytes(tmp_path, "posts.csv", header).mapping
    assert found == dict(zip(["post_id", "created_at", "content"], mapping, strict=True))


def test_given_columns_override_recognised_ones(tmp_path: Path) -> None:
    path = tmp_path / "posts.csv"
    path.write_text(f"id,key,date,when,text,likes\n1,k,2020-01-01,{TIME},a,6\n", encoding="utf-8")
    columns = {"favourites_count": "likes", "created_at": "when", "post_id": "key"}
    file = read(path, columns)
    assert list(file.mapping.items()) == [
        ("post_id", "key"),
        ("created_at", "when"),
        ("content", "text"),
        ("favourites_count", "likes"),
    ]
    assert file.posts.iloc[0].tolist()[:3] == ["k", pd.Timestamp(TIME), "a"]
    assert file.posts["favourites_count"].tolist() == [6]


def test_a_title_is_the_text_of_a_post_without_another(tmp_path: Path) -> None:
    path = tmp_path / "posts.csv"
    path.write_text(f"id,title,text,date\n1,first,one,{TIME}\n2,second,,{TIME}\n", encoding="utf-8")
    assert read(path, {}).posts["content"].tolist() == ["one", "second"]
    path.write_text(f"id,title,date\n1,first,{TIME}\n", encoding="utf-8")
    assert read(path, {}).posts["content"].tolist() == ["first"]


def test_the_count_of_a_post_goes_before_that_of_its_author(tmp_path: Path) -> None:
    found = read_bytes(tmp_path, "posts.csv", "id,date,text,favourites_count,favorite_count").mapping
    assert found["favourites_count"] == "favorite_count"


def test_an_unknown_given_column_is_a_usage_error_with_a_suggestion(tmp_path: Path) -> None:
    path = tmp_path / "posts.csv"
    path.write_text("id,date,Message\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read(path, {"contents": "Message"})
    assert caught.value.message == "'contents' is not a column of posts"
    assert caught.value.hint.startswith("Did you mean 'content'? Posts have 'post_id', 'created_at', 'content', ")
    with pytest.raises(UsageError) as caught:
        read(path, {"content": "Massage"})
    assert caught.value.message == f"'{path}' has no column 'Massage'"
    assert caught.value.hint == "Did you mean 'Message'? Its columns are 'id', 'date', 'Message'"


def test_a_file_without_a_time_column_is_an_error_that_lists_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "posts.csv"
    path.write_text("id,day of week,text\n", encoding="utf-8")
    with pytest.raises(PostsError) as caught:
        read(path)
    assert caught.value.message == f"'{path}' has no column for created_at: its columns are 'id', 'day of week', 'text'"
    assert caught.value.hint == "Choose one with --column created_at=NAME"
    path.write_text(f"101,{TIME},one\n102,{TIME},two\n", encoding="utf-8")
    with pytest.raises(PostsError) as caught:
        read(path)
    assert (
        caught.value.hint == "If these are the values of a post, add a line with the names of the columns before them"
    )
    with pytest.raises(PostsError, match="no column for created_at") as caught:
        read_bytes(tmp_path, "posts.json", '[{"id": 1, "parts": [{"a": [{"a": [{"a": [{"a": [{"a": [{}]}]}]}]}]}]}]')
    assert caught.value.hint == "Choose one with --column created_at=NAME"
    many = ",".join(f"column{number}" for number in range(50))
    assert error_of(tmp_path, "posts.csv", many).endswith("'column19' and 30 more")


def test_ids_are_made_from_time_and_text_if_there_is_no_column_of_ids(tmp_path: Path) -> None:
    rows = f"{TIME},a\n{TIME},b\n{TIME},a\n"
    first = read_bytes(tmp_path, "posts.csv", f"date,text\n{rows}")
    assert (first.result.ids_made, first.posts["post_id"].nunique(), first.repeated) == (True, 2, 1)
    assert list(read_bytes(tmp_path, "again.csv", f"text,date\nb,{TIME}\n").posts["post_id"]) == [
        first.posts["post_id"].iloc[1]
    ]


def test_a_needed_column_that_exists_twice_is_an_error(tmp_path: Path) -> None:
    assert error_of(tmp_path, "posts.csv", "id,id,date\n") == "'posts.csv' has 2 columns named 'id'"
    assert read_bytes(tmp_path, "posts.csv", "id,x,x,date\n").rows == 0


def test_a_header_with_unmatched_quotes_is_an_error(tmp_path: Path) -> None:
    said = "cannot read the header of 'posts.csv': its quotes do not match"
    assert error_of(tmp_path, "posts.csv", '"id,date\n1,2\n') == said
