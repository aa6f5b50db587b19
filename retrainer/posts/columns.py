"""Find the columns of posts in a table that no known format describes, by the names of its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.errors import PostsError, UsageError, did_you_mean
from retrainer.export_format import ALTERNATIVE, JOIN
from retrainer.posts.exports.mapping import has_path, known_paths
from retrainer.posts.readers import quote_names
from retrainer.posts.validation import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from retrainer.export_format import ImportColumn, PostColumn

# The names of columns in files, the likeliest first; where several are there, the first counts. Case, spaces and
# punctuation do not matter. Of ids the exact text comes first, and of times the exact moment.
ALIASES: dict[ImportColumn, tuple[str, ...]] = {
    "post_id": (
        *("post_id", "id_str", "id", "tweet_id", "status_id", "toot_id", "message_id", "msg_id", "guid", "uuid"),
        *("uri", "permalink", "post_url", "tweet_url", "status_url"),
    ),
    "created_at": (
        *("date_unixtime", "created_utc", "created_at_utc", "timestamp_utc", "date_utc", "time_utc", "date_gmt"),
        *("post_date_gmt", "created_at_gmt", "created_at", "timestamp", "date", "datetime", "published_at"),
        *("published", "posted_at", "created", "created_time", "created_date", "creation_date", "creation_time"),
        *(
            "creation_timestamp",
            "created_timestamp",
            "create_time",
            "timestamp_ms",
            "unix_timestamp",
            "published_date",
            "publish_date",
        ),
        *("pub_date", "post_date", "date_posted", "date_published", "date_created", "post_time", "post_timestamp"),
        *(
            "tweet_date",
            "tweet_time",
            "tweet_created_at",
            "created_on",
            "posted_on",
            "published_on",
            "sent_at",
            "sent_date",
            "time",
            "ts",
            "epoch",
        ),
    ),
    "content": (
        *("content", "text", "body", "full_text", "content_text", "message", "tweet", "tweet_text", "status"),
        *("status_text", "post_text", "message_text", "text_content", "tweet_content", "post_content", "toot", "note"),
        *(
            "caption",
            "description",
            "selftext",
            "raw_content",
            "rendered_content",
            "raw_text",
            "post_body",
            "post",
            "msg",
        ),
    ),
    "replies_count": (
        *("replies_count", "reply_count", "replies", "comments_count", "comment_count", "comments", "num_comments"),
        "n_replies",
    ),
    "reblogs_count": (
        *("reblogs_count", "reblog_count", "reblogs", "retweets_count", "retweet_count", "retweets", "reposts_count"),
        *("repost_count", "reposts", "shares_count", "share_count", "shares", "boosts_count", "boosts", "n_retweets"),
    ),
    "favourites_count": (
        # X writes how many posts a user likes as favourites_count, beside the favorite_count of the post.
        *("favorite_count", "favourite_count", "favourites_count", "favorites_count", "favourites", "favorites"),
        *("likes_count", "like_count", "likes", "n_likes", "reactions_count", "reaction_count", "score", "upvotes"),
    ),
    "stream": (),  # only where it is asked for
}
# Times in two columns: the names of the day, and those of the time of day.
TITLES = ("title", "headline", "subject")  # the text of a post that has no other
DAYS = ("date", "day", "post_date", "created_date", "tweet_date", "date_posted")
_LEAST_DIGITS = 6  # of an id or a time, and more than a column has in its name
_PREFIXES = ("tweet", "post", "status", "message", "toot")  # as in tweet_creation_date
_MONGODB_TYPES = (".$oid", ".$date", ".$numberLong")  # as in {"_id": {"$oid": "65a1"}}
CLOCKS = ("time", "time_of_day", "clock", "post_time", "created_time", "tweet_time", "hour")


class NoTimesError(PostsError):
    """A table has no column of times, so that it holds no posts."""


def parse_columns(options: Sequence[str]) -> dict[str, str]:
    """Parse the `column=name` values of --column; without a name, the posts get no such column.

    Raises:
        UsageError: one has another form, or names an unknown column of posts.
    """
    columns = {}
    for option in options:
        column, equals, name = option.partition("=")
        if not (column and equals):
            raise UsageError(f"--column: '{option}' is not of the form COLUMN=NAME", hint="Example: content=message")
        columns[column] = name
    return columns


def check_columns(given: Mapping[str, str]) -> None:
    """Check that these are columns of posts.

    Raises:
        UsageError: one is not.
    """
    for column in given:
        if column not in ALIASES:
            hint = f"{did_you_mean(column, ALIASES)} Posts have {quote_names(list(ALIASES))}"
            raise UsageError(f"'{shorten(column)}' is not a column of posts", hint=hint)


def find_columns(
    names: Sequence[str],
    given: Mapping[str, str],
    table: str,
    known: Mapping[PostColumn, str] | None = None,
    *,
    holds_days: Callable[[str], bool] = lambda _name: True,
) -> dict[ImportColumn, str]:
    """Return column of posts -> expression, as in `ExportFormat.columns`, without columns that the table lacks.

    Args:
        names: the columns of the table.
        given: column of posts -> expression, which overrides what would be found; an empty one means no column.
        table: the name of the table, for errors.
        known: those of its format, where that is known.
        holds_days: whether a column holds days without a time of day, asked if another column may hold that.

    Raises:
        UsageError: a given column is not in the table.
        NoTimesError: there is no column of times.
        PostsError: a needed name belongs to two columns.
    """
    found: dict[ImportColumn, str] = _recognise_all(names) if known is None else dict(known.items())
    existing = known_paths(names)
    for expression in filter(None, given.values()):
        for name in _paths(expression, names):
            if not has_path(existing, name):
                hint = f"{did_you_mean(name, names)} Its columns are {quote_names(names)}"
                raise UsageError(f"'{table}' has no column '{shorten(name)}'", hint=hint)
    columns = {column: path for column in ALIASES if (path := given.get(column, found.get(column)))}
    for name in (name for expression in columns.values() for name in _paths(expression, names)):
        if names.count(name) > 1:
            problem = f"{names.count(name)} columns named '{shorten(name)}'"
            raise PostsError(f"'{table}' has {problem}", hint="Rename all but one")
    if "created_at" not in columns:
        problem = f"'{table}' has no column for created_at: its columns are {quote_names(names)}"
        hint = "Choose one with --column created_at=NAME"
        if any(sum(map(str.isdigit, name.replace(".0", ""))) >= _LEAST_DIGITS for name in names):
            hint = "If these are the values of a post, add a line with the names of the columns before them"
        raise NoTimesError(problem, hint=hint)
    day = columns["created_at"]
    if known is None and "created_at" not in given and _normalise(day) in map(_normalise, DAYS):
        clock = _recognise([name for name in names if name != day], CLOCKS)
        if clock is not None and holds_days(day):
            columns["created_at"] = f"{day}{JOIN}{clock}"
    return columns


def _paths(expression: str, names: Sequence[str]) -> list[str]:
    if expression in names:  # a column of a table may be named like an expression
        return [expression]
    return [path for alternative in expression.split(ALTERNATIVE) for path in alternative.split(JOIN)]


def _recognise_all(names: Sequence[str]) -> dict[ImportColumn, str]:
    """Find the columns by their names; where records are wrapped, as in `{"post": {...}}`, those of one wrapper."""
    wrapped: dict[str, list[str]] = {"": list(names)}
    for name in names:
        if "." in name:
            wrapped.setdefault(name[: name.rfind(".") + 1], []).append(name)
    for prefix, inner in sorted(wrapped.items(), key=lambda wrapper: wrapper[0].count(".")):
        found = {column: _recognise(inner, aliases, prefix) for column, aliases in ALIASES.items()}
        columns = {column: path for column, path in found.items() if path is not None}
        if "created_at" in columns and "content" not in columns:  # a text may be an array of parts
            arrays = {inner_name.partition(".0")[0] for inner_name in names if ".0" in inner_name}
            path = _recognise(sorted(arrays), ALIASES["content"], prefix)
            columns |= {} if path is None else {"content": path}
        if "created_at" in columns and ("content" in columns or "post_id" in columns):
            return _with_title(columns, _recognise(inner, TITLES, prefix))
    everywhere = {column: _recognise(names, aliases) for column, aliases in ALIASES.items()}
    columns = {column: path for column, path in everywhere.items() if path is not None}
    return _with_title(columns, _recognise(names, TITLES))


def _with_title(columns: dict[ImportColumn, str], title: str | None) -> dict[ImportColumn, str]:
    """Return the columns, where posts without a text have their title for one."""
    if title is None:
        return columns
    text = columns.get("content")
    return {**columns, "content": title if text is None else f"{text}{ALTERNATIVE}{title}"}


def _recognise(names: Sequence[str], aliases: Sequence[str], prefix: str = "") -> str | None:
    normal: dict[str, str] = {}
    for name in names:
        normal.setdefault(_normalise(name.removeprefix(prefix)), name)
    for alias in aliases:
        if prefix + alias in names:
            return prefix + alias
        if (name_found := normal.get(_normalise(alias))) is not None:
            return name_found
    wanted = [word + _normalise(alias) for alias in aliases for word in _PREFIXES]
    return next((normal[name] for name in wanted if name in normal), None)


def _normalise(name: str) -> str:
    """Return a name without what differs between spellings: `Created At`, `created-at` and `createdAt` are one."""
    for suffix in _MONGODB_TYPES:
        name = name.removesuffix(suffix)
    return "".join(character for character in name.casefold() if character.isalnum())
