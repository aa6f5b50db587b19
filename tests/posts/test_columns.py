"""Which columns of an unknown table hold the values of posts."""

from __future__ import annotations

import pytest

from retrainer.errors import PostsError, UsageError
from retrainer.posts.columns import NoTimesError, find_columns

ID, TIME, TEXT = "post_id", "created_at", "content"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["Tweet ID", "Created At", "Full Text"], {ID: "Tweet ID", TIME: "Created At", TEXT: "Full Text"}),
        (["createdAt", "message"], {TIME: "createdAt", TEXT: "message"}),
        (["id", "id_str", "date", "text"], {ID: "id_str", TIME: "date", TEXT: "text"}),
        (["id", "date", "date_unixtime"], {ID: "id", TIME: "date_unixtime"}),
        (["id", "post_date", "post_date_gmt"], {ID: "id", TIME: "post_date_gmt"}),
        (["id", "date", "time", "text"], {ID: "id", TIME: "date + time", TEXT: "text"}),
        (["id", "Post Date", "Post Time"], {ID: "id", TIME: "Post Date + Post Time"}),
        (["id", "created_at", "time"], {ID: "id", TIME: "created_at"}),
        (["_id.$oid", "createdAt.$date", "text"], {ID: "_id.$oid", TIME: "createdAt.$date", TEXT: "text"}),
        (["node.id", "node.date", "cursor"], {ID: "node.id", TIME: "node.date"}),
        (["id", "user.id", "user.created_at", "post.id", "post.date", "post.text"], {
            ID: "post.id", TIME: "post.date", TEXT: "post.text",
        }),
        (["id", "date", "text.0", "text.1.text"], {ID: "id", TIME: "date", TEXT: "text"}),
        (["id", "date", "retweets", "Like Count", "num_comments"], {
            ID: "id", TIME: "date", "replies_count": "num_comments", "reblogs_count": "retweets",
            "favourites_count": "Like Count",
        }),
    ],
)  # fmt: skip
def test_columns_are_found_by_their_usual_names(names: list[str], expected: dict[str, str]) -> None:
    assert find_columns(names, {}, "posts") == expected


def test_a_date_that_has_a_time_of_day_needs_no_other_column() -> None:
    found = find_columns(["id", "date", "time"], {}, "posts", holds_days=lambda _name: False)
    assert found == {ID: "id", TIME: "date"}


def test_given_columns_may_be_paths_alternatives_and_joined() -> None:
    names = ["key", "object.said", "object.title", "day", "hour", "date"]
    given = {ID: "key", TEXT: "object.title + object.said | object.said", TIME: "day + hour"}
    assert find_columns(names, given, "posts") == given
    assert find_columns(["id", "date", "a | b"], {TEXT: "a | b"}, "posts")["content"] == "a | b"  # a name in a table
    with pytest.raises(UsageError, match="has no column 'object.sad'. Did you mean 'object.said'"):
        find_columns(names, {TEXT: "object.sad"}, "posts")


def test_a_table_without_times_or_with_a_column_twice_is_refused() -> None:
    with pytest.raises(NoTimesError, match="no column for created_at: its columns are 'id', 'text'"):
        find_columns(["id", "text"], {}, "posts")
    with pytest.raises(PostsError, match="2 columns named 'text'"):
        find_columns(["id", "date", "text", "text"], {}, "posts")
