"""What `posts import` prints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Runner


def test_an_import_says_what_it_found_and_did(folder: Path, retrainer: Runner) -> None:
    rows = ["Id;Created At;Tweet Text;favourites_count", "1;2024-01-05 10:00;old;3", "2;2024-01-05 11:00;kept;-1"]
    (folder / "first.csv").write_text("\n".join(rows))
    done = retrainer("posts", "import", "first.csv")
    assert done.out.splitlines() == [
        "Detected: separator ';'",
        "Columns: post_id from 'Id', created_at from 'Created At', content from 'Tweet Text', favourites_count",
        "Read 2 rows: 2 posts added, 0 already there, 0 repeated, 0 rejected",
        "Dropped counts that are not numbers, and kept the posts: 1 of favourites_count",
    ]
    later = [
        {"id": 1, "created_at": "2024-01-05T10:05:00Z", "content": "new"},
        {"id": 2, "created_at": "2024-01-05T11:00:00Z", "content": "kept"},
    ]
    (folder / "second.json").write_text(json.dumps(later))
    change = (
        "  record 1, id '1': created_at 2024-01-05T10:05:00Z instead of 2024-01-05T10:00:00Z, "
        "content 'new' instead of 'old'"
    )
    assert retrainer("posts", "import", "second.json").out.splitlines() == [
        "Columns: post_id from 'id', created_at, content",
        "Read 2 rows: 0 posts added, 1 already there, 1 clashing, 0 repeated, 0 rejected",
        "1 post clashes with an earlier one of the same id, which is kept (--update replaces it):",
        change,
    ]
    assert retrainer("posts", "import", "second.json", "--update").out.splitlines()[1:] == [
        "Read 2 rows: 0 posts added, 1 updated, 1 already there, 0 repeated, 0 rejected",
        "Updated 1 post:",
        change,
    ]


def test_a_folder_is_one_import_and_files_without_times_are_skipped(folder: Path, retrainer: Runner) -> None:
    for name, content in {
        "a.csv": "id,date,text\n1,2024-01-05 10:00,a\n",
        "users.csv": "id,name\n1,someone\n",
        "more/b.jsonl": '{"id": 2, "date": "2024-01-06 10:00", "text": "b"}\n',
    }.items():
        (folder / "posts" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "posts" / name).write_text(content)
    done = retrainer("posts", "import", "posts", "--stream", "other", "--json")
    assert (done.json["rows"], done.json["added"], len(done.json["files"])) == (2, 2, 2)
    assert "Skipped a file without posts: 'posts/users.csv' has no column for created_at" in done.err
    assert retrainer("posts", "count", "--json").json["count"] == 2, "the only stream needs no --stream"


def test_missing_texts_are_said_at_once_and_filled_in_later(folder: Path, retrainer: Runner) -> None:
    (folder / "posts.csv").write_text("id,created_at,blurb\n1,2024-01-05 10:00,hello\n")
    done = retrainer("posts", "import", "posts.csv")
    assert "'posts.csv' has no column of texts, such as 'content', 'text', " in done.err
    assert "its columns are 'id', 'created_at', 'blurb'. Choose one with --column content=NAME" in done.err
    again = retrainer("posts", "import", "posts.csv", "--column", "content=blurb", "--json").json
    assert (again["updated"], again["updates"][0]["after"]) == (1, {"content": "hello"})
    assert retrainer("posts", "count", "--json").json["with_content"] == 1


def test_times_of_which_day_and_month_are_open_are_refused_with_both_readings(folder: Path, retrainer: Runner) -> None:
    exact = "".join(f"{number},2024-01-05T10:00:{number % 60:02}Z,a\n" for number in range(1, 1500))
    (folder / "posts.csv").write_text(f"id,date,text\n{exact}0,03/04/2020 10:00,a\n")
    done = retrainer("posts", "import", "posts.csv")
    assert done.code == 1
    assert "'03/04/2020 10:00' is 2020-04-03 (DMY) or 2020-03-04 (MDY)" in done.err
    with (folder / "posts.csv").open("a") as file:
        file.write("9999,13/04/2020 10:00,a\n")
    assert retrainer("posts", "import", "posts.csv", "--json").json["added"] == 1501


def test_the_name_of_a_stream_is_not_empty(folder: Path, retrainer: Runner) -> None:
    (folder / "posts.csv").write_text("id,date\n1,2024-01-05\n")
    done = retrainer("posts", "import", "posts.csv", "--stream", "")
    assert done.code == 2
    assert "--stream: '' must not be empty" in done.err
