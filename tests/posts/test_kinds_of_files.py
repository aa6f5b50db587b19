"""Files as other programs write them, through the whole command: what is stored, and what is said about it."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import NOW, open_project
from tests.shared import SHARED

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Runner

Posts = list[tuple[str | None, str, str | None]]
"""The id (None for a made one), the time and the text of each post, in the order of time."""


@dataclass(frozen=True)
class Case:
    """A file, how it is imported, and what comes of it.

    Attributes:
        name: of the file.
        content: of the file; anything but text and bytes is written as JSON.
        posts: what is stored.
        said: what the output contains.
        options: of the command.
    """

    name: str
    content: object
    posts: Posts
    said: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def x_record(number: int, text: str, day: str = "Tue Mar 05 2019") -> dict[str, object]:
    weekday, month, date, year = day.split()
    return {
        "id": str(1100000000000000000 + number),
        "id_str": str(1100000000000000000 + number),
        "created_at": f"{weekday} {month} {date} 06:07:08 +0000 {year}",
        "full_text": text,
        "retweeted": False,
        "truncated": False,
        "entities": {"hashtags": [], "symbols": [], "user_mentions": [], "urls": []},
        "favorite_count": "12",
        "retweet_count": "3",
        "lang": "en",
    }


X_RECORDS = [x_record(1, "tea &amp; toast"), x_record(2, "RT @someone: not mine", "Wed Mar 06 2019")]
X_POSTS: Posts = [("1100000000000000001", "2019-03-05T06:07:08Z", "tea & toast")]


def assignment(variable: str, records: object) -> str:
    return f"window.YTD.{variable} = {json.dumps(records, indent=2)}\n"


def packed(**files: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/").replace("_js", ".js"), text)
    return content.getvalue()


def mastodon_activity(number: int, kind: str, **note: object) -> dict[str, object]:
    address = f"https://social.example/users/me/statuses/{number}"
    obj: object = {"id": address, "type": "Note", "published": "2023-02-03T04:05:06Z", **note} if note else address
    return {"id": f"{address}/activity", "type": kind, "published": "2023-02-03T04:05:06Z", "object": obj}


MASTODON = {
    "@context": ["https://www.w3.org/ns/activitystreams", {"sensitive": "as:sensitive"}],
    "id": "outbox.json",
    "type": "OrderedCollection",
    "totalItems": 2,
    "orderedItems": [
        mastodon_activity(7, "Create", content="<p>rain<br>again</p><p>and &lt;more&gt;</p>"),
        mastodon_activity(8, "Announce"),
    ],
}
TELEGRAM = {
    "name": "Channel",
    "type": "public_channel",
    "id": 5,
    "messages": [
        {
            "id": 1,
            "type": "service",
            "date": "2022-01-01T01:00:00",
            "date_unixtime": "1640995200",
            "action": "create_channel",
            "text": "",
        },
        {
            "id": 2,
            "type": "message",
            "date": "2022-01-02T01:00:00",
            "date_unixtime": "1641081600",
            "text": ["read ", {"type": "bold", "text": "this"}, "\nnow"],
        },
        {"id": 3, "type": "message", "date": "2022-01-03T01:00:00", "date_unixtime": "1641168000", "text": "plain"},
    ],
}
FACEBOOK = [
    {
        "timestamp": 1500000000,
        "data": [{"post": "Zoë in a café 👍".encode().decode("latin-1")}],
        "title": "Someone updated a status.",
    },
    {"timestamp": 1500086400, "data": [{"update_timestamp": 1500086400}], "attachments": []},
]
INSTAGRAM = [
    {"media": [{"uri": "a.jpg", "creation_timestamp": 1500000000, "title": "first ❤".encode().decode("latin-1")}]},
    {
        "media": [
            {"uri": "b.jpg", "creation_timestamp": 1500086399, "title": ""},
            {"uri": "c.jpg", "creation_timestamp": 1500086399, "title": ""},
        ],
        "title": "second",
        "creation_timestamp": 1500086400,
    },
]
TABLE = "id,created_at,text\n{}\n"
PLAIN = TABLE.format("1,2024-02-03T04:05:06Z,one\n2,2024-02-04T04:05:06Z,zwölf")
PLAIN_POSTS: Posts = [("1", "2024-02-03T04:05:06Z", "one"), ("2", "2024-02-04T04:05:06Z", "zwölf")]
SEMICOLONS = '\ufeffid;created_at;text\r\n1;03.02.2024 04:05:06;"a; ""b""\nc 😀"\r\n2;25.02.2024 04:05:06;zwölf\r\n'
SEMICOLON_POSTS: Posts = [("1", "2024-02-03T04:05:06Z", 'a; "b"\nc 😀'), ("2", "2024-02-25T04:05:06Z", "zwölf")]

CASES = [
    Case(
        "zones.csv",
        TABLE.format("9,2021-03-04 05:06:07 UTC,a\n10,2021-03-05 05:06:07 GMT,b"),
        [("9", "2021-03-04T05:06:07Z", "a"), ("10", "2021-03-05T05:06:07Z", "b")],
    ),
    Case(
        "us.csv",
        TABLE.format("1,9/4/2017 1:02 PM,a\n2,10/22/2017 12:30 AM,b"),
        [("1", "2017-09-04T13:02:00Z", "a"), ("2", "2017-10-22T00:30:00Z", "b")],
    ),
    Case(
        "eu.csv",
        TABLE.format("1,04.09.2017 13:02,a\n2,22.10.2017 00:30,b"),
        [("1", "2017-09-04T13:02:00Z", "a"), ("2", "2017-10-22T00:30:00Z", "b")],
    ),
    Case(
        "open.csv",
        TABLE.format("1,04/09/2017 13:02,a"),
        [],
        ("'04/09/2017 13:02' is 2017-09-04 (DMY) or 2017-04-09 (MDY)", "--time-format", "--timezone"),
    ),
    Case(
        "named.csv",
        TABLE.format("1,04/09/2017 13:02,a"),
        [("1", "2017-09-04T11:02:00Z", "a")],
        (),
        ("--time-format", "%d/%m/%Y %H:%M", "--timezone", "Europe/Paris"),
    ),
    Case(
        "days.csv",
        TABLE.format("1,2017-09-04,a\n2,2017-09-05,b"),
        [("1", "2017-09-04T00:00:00Z", "a"), ("2", "2017-09-05T00:00:00Z", "b")],
        ("midnight",),
    ),
    Case(
        "compact.csv",
        TABLE.format("1,20240105100000,a\n2,20240106110000,b"),
        [("1", "2024-01-05T10:00:00Z", "a"), ("2", "2024-01-06T11:00:00Z", "b")],
    ),
    Case(
        "two.csv",
        "id,date,time,text\n1,2017-09-04,13:02:00,a\n2,2017-09-04,18:00:00,b\n",
        [("1", "2017-09-04T13:02:00Z", "a"), ("2", "2017-09-04T18:00:00Z", "b")],
    ),
    Case(
        "epoch.jsonl",
        '{"id": 1, "created_at": 1500000000000, "text": "a"}\n{"id": 2, "created_at": 1500000001500, "text": "b"}\n',
        [("1", "2017-07-14T02:40:00Z", "a"), ("2", "2017-07-14T02:40:01.500000Z", "b")],
    ),
    Case("flat.json", X_RECORDS, X_POSTS, ("Recognised: X archive", "1 repost")),
    Case(
        "tweets.js",
        assignment("tweets.part0", [{"tweet": record} for record in X_RECORDS]),
        X_POSTS,
        ("Recognised: X archive", "1 repost"),
    ),
    Case("tweet.js", assignment("tweet.part0", X_RECORDS), X_POSTS, ("Recognised: X archive", "1 repost")),
    Case(
        "x.zip",
        packed(
            data__tweets_js=assignment("tweets.part0", [{"tweet": record} for record in X_RECORDS]),
            data__account_js=assignment("account.part0", [{"account": {"id": "1"}}]),
        ),
        X_POSTS,
        ("Recognised: X archive", "1 repost"),
    ),
    Case(
        "outbox.json",
        MASTODON,
        [("https://social.example/users/me/statuses/7", "2023-02-03T04:05:06Z", "rain\nagain\n\nand <more>")],
        ("Recognised: Mastodon", "1 repost"),
    ),
    Case(
        "result.json",
        TELEGRAM,
        [("2", "2022-01-02T00:00:00Z", "read this\nnow"), ("3", "2022-01-03T00:00:00Z", "plain")],
        ("Recognised: Telegram", "1 service message"),
    ),
    Case(
        "your_posts_1.json",
        FACEBOOK,
        [(None, "2017-07-14T02:40:00Z", "Zoë in a café 👍"), (None, "2017-07-15T02:40:00Z", None)],
        ("Recognised: Facebook", "made them from time and text"),
    ),
    Case(
        "posts_1.json",
        INSTAGRAM,
        [(None, "2017-07-14T02:40:00Z", "first ❤"), (None, "2017-07-15T02:40:00Z", "second")],
        ("Recognised: Instagram", "made them from time and text"),
    ),
    Case("alias.csv", "id,created_at,content_text\n1,2024-02-03T04:05:06Z,one\n", PLAIN_POSTS[:1]),
    Case(
        "unknown.csv",
        "id,created_at,utterance\n1,2024-02-03T04:05:06Z,one\n",
        [("1", "2024-02-03T04:05:06Z", None)],
        ("'utterance'", "--column content=NAME"),
    ),
    Case(
        "no_ids.csv",
        "created_at,text\n2024-02-03T04:05:06Z,one\n",
        [(None, "2024-02-03T04:05:06Z", "one")],
        ("made them from time and text",),
    ),
    Case(
        "ids.csv",
        TABLE.format("\n".join(f"{spelling},2024-02-03T04:05:06Z,a" for spelling in ('"7 "', "7", "7.0", "'7"))),
        [("7", "2024-02-03T04:05:06Z", "a")],
        ("3 repeated",),
    ),
    Case("floats.json", [{"id": 1e17, "created_at": 1500000000, "text": "a"}], [], ("last digits are lost",)),
    Case(
        "rounded.csv",
        TABLE.format("1.2E+17,2024-02-03T04:05:06Z,one"),
        [],
        ("last digits are lost", "--column post_id="),
    ),
    Case(
        "rounded_anyway.csv",
        TABLE.format("1.2E+17,2024-02-03T04:05:06Z,one"),
        [(None, "2024-02-03T04:05:06Z", "one")],
        ("made them from time and text",),
        ("--column", "post_id="),
    ),
    Case(
        "prefixes.csv",
        "tweet_id,tweet_creation_date,user_created_at,tweet_text,tweet_retweet_count\n1,2024-02-03T04:05:06Z,2010-01-01,one,3\n",
        PLAIN_POSTS[:1],
    ),
    Case(
        "counts.csv",
        'id,created_at,text,replies_count,favourites_count\n1,2024-02-03T04:05:06Z,one,n/a,"12,345"\n2,2024-02-04T04:05:06Z,zwölf,-3,1.5K\n',
        PLAIN_POSTS,
        ("2 of replies_count",),
    ),
    Case(
        "html.csv",
        TABLE.format("1,2024-02-03T04:05:06Z,<p>one</p>\n2,2024-02-04T04:05:06Z,<p>zw&ouml;lf</p>"),
        PLAIN_POSTS,
        ("texts in HTML",),
    ),
    Case(
        "entities.csv",
        TABLE.format("1,2024-02-03T04:05:06Z,a &amp; b\n2,2024-02-04T04:05:06Z,c &lt; d"),
        [("1", "2024-02-03T04:05:06Z", "a & b"), ("2", "2024-02-04T04:05:06Z", "c < d")],
        ("HTML entities in texts",),
    ),
    Case("mojibake.csv", PLAIN.encode().decode("cp1252"), PLAIN_POSTS, ("wrongly decoded texts",)),
    Case(
        "quotes.csv",
        TABLE.format('1,2024-02-03T04:05:06Z,"7" tape"\n2,2024-02-04T04:05:06Z,fine'),
        [],
        ("1 of 2 rows are rejected", "quote", "--allow-rejects"),
    ),
    Case(
        "allowed.csv",
        TABLE.format('1,2024-02-03T04:05:06Z,"7" tape"\n2,2024-02-04T04:05:06Z,zwölf'),
        PLAIN_POSTS[1:],
        ("1 rejected",),
        ("--allow-rejects",),
    ),
    Case("semicolons.csv", SEMICOLONS, SEMICOLON_POSTS, ("separator ';'",)),
    Case("tabs.txt", PLAIN.replace(",", "\t"), PLAIN_POSTS, ("separator tab",)),
    Case("utf16.csv", PLAIN.encode("utf-16"), PLAIN_POSTS, ("UTF-16",)),
    Case("windows.csv", PLAIN.encode("cp1252"), PLAIN_POSTS, ("indows-1252",)),
    Case("carriage_returns.csv", PLAIN.replace("\n", "\r"), PLAIN_POSTS),
    Case("sep.csv", f"sep=;\r\n{PLAIN.replace(',', ';')}", PLAIN_POSTS),
    Case("posts.csv.gz", gzip.compress(PLAIN.encode()), PLAIN_POSTS),
    Case("posts.csv.bz2", bz2.compress(PLAIN.encode()), PLAIN_POSTS),
    Case("posts.csv.xz", lzma.compress(PLAIN.encode()), PLAIN_POSTS),
    Case(
        "nested.json",
        {
            "meta": {"id": 3},
            "result": {"items": [{"id": 1, "published": "2024-02-03T04:05:06Z", "body": {"text": "one"}}]},
        },
        [("1", "2024-02-03T04:05:06Z", "one")],
        (),
        ("--column", "content=body.text"),
    ),
    Case(
        "keyed.json",
        {
            "11": {"created_at": "2024-02-03T04:05:06Z", "text": "one"},
            "12": {"created_at": "2024-02-04T04:05:06Z", "text": "zwölf"},
        },
        [("11", "2024-02-03T04:05:06Z", "one"), ("12", "2024-02-04T04:05:06Z", "zwölf")],
    ),
    Case(
        "concatenated.json",
        '{"id": 1, "created_at": "2024-02-03T04:05:06Z", "text": "one"}\n\n'
        '{"id": 2,\n "created_at": "2024-02-04T04:05:06Z", "text": "zwölf"}',
        PLAIN_POSTS,
    ),
]


def encode(content: object) -> bytes:
    """Return the bytes of a file: text and bytes as they are, anything else as JSON."""
    if isinstance(content, bytes):
        return content
    return (content if isinstance(content, str) else json.dumps(content)).encode()


def write(folder: Path, case: Case) -> Path:
    path = folder / case.name
    path.write_bytes(encode(case.content))
    return path


def stored(folder: Path) -> Posts:
    project = open_project(folder)
    posts = project.posts.load(NOW)
    project.close()
    times = [time.replace(tzinfo=None).isoformat() + "Z" for time in posts["created_at"].dt.to_pydatetime()]
    ids = [None if post_id.startswith("made-") else post_id for post_id in posts["post_id"]]
    texts = [text if isinstance(text, str) else None for text in posts["content"]]
    return list(zip(ids, times, texts, strict=True))


def require_accounted(document: dict[str, Any]) -> None:
    """Check that every row of an import is counted once."""
    parts = ("added", "updated", "already_there", "clashing", "repeated")
    counted = sum(document[part] for part in parts) + sum(document["excluded"].values()) + len(document["rejected"])
    assert counted == document["rows"]


def import_again(retrainer: Runner, path: Path, options: tuple[str, ...]) -> None:
    """Check that a second import of the same file changes nothing and accounts for every row."""
    again = retrainer("posts", "import", str(path), *options, "--json").json
    require_accounted(again)
    assert (again["added"], again["updated"], again["clashing"]) == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_file_of_this_kind_is_read_right(case: Case, retrainer: Runner, folder: Path, tmp_path: Path) -> None:
    path = write(tmp_path, case)
    done = retrainer("posts", "import", str(path), *case.options)
    assert done.code == (0 if case.posts else 1), done.err
    said = f"{done.out}\n{done.err}"
    assert [words for words in case.said if words not in said] == [], said
    assert stored(folder) == case.posts
    if case.posts:
        import_again(retrainer, path, case.options)
        assert stored(folder) == case.posts


@pytest.mark.slow
def test_a_missing_text_is_filled_in_by_a_later_import(retrainer: Runner, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "posts.csv"
    path.write_text("id,created_at,utterance\n1,2024-02-03T04:05:06Z,one\n")
    assert retrainer("posts", "import", str(path)).code == 0
    done = retrainer("posts", "import", str(path), "--column", "content=utterance", "--json")
    assert done.json["updated"] == 1
    assert stored(folder) == PLAIN_POSTS[:1]


@pytest.mark.slow
def test_a_correction_is_reported_and_taken_with_update_alone(retrainer: Runner, folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text(TABLE.format("1,2024-02-03T04:05:06Z,one"))
    second.write_text(TABLE.format("1,2024-02-03T05:05:06Z,two"))
    assert retrainer("posts", "import", str(first)).code == 0
    kept = retrainer("posts", "import", str(second))
    assert "'1'" in kept.out + kept.err
    assert stored(folder) == PLAIN_POSTS[:1]
    assert retrainer("posts", "import", str(second), "--update", "--json").json["updated"] == 1
    assert stored(folder) == [("1", "2024-02-03T05:05:06Z", "two")]


@pytest.mark.slow
def test_two_spellings_of_an_id_in_two_files_are_one_post(retrainer: Runner, folder: Path, tmp_path: Path) -> None:
    for written in ('"7 "', "7", "7.0", "'7"):
        path = tmp_path / "posts.csv"
        path.write_text(TABLE.format(f"{written},2024-02-03T04:05:06Z,a"))
        assert retrainer("posts", "import", str(path)).code == 0
    assert stored(folder) == [("7", "2024-02-03T04:05:06Z", "a")]


# --- the small inputs beside the project ----------------------------------------------------------


@dataclass(frozen=True)
class Given:
    """What `expected.md` says of an input.

    Attributes:
        names: the file, or the two that are imported one after the other.
        times: of the posts that are stored.
        said: what the last output contains.
        options: of the last import.
        code: of the last import.
    """

    names: tuple[str, ...]
    times: tuple[str, ...]
    said: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    code: int = 0


GIVEN = [
    Given(("utc_suffix.csv",), ("2020-05-10T13:38:59Z", "2020-05-11T09:00:00Z")),
    Given(("us_dates.csv",), ("2016-07-28T18:32:31Z", "2016-08-16T19:22:57Z")),
    Given(("x_v1_flat.json",), ("2018-10-10T20:19:24Z",), ("1 repost",)),
    Given(("x_tweets.js",), ("2018-10-10T20:19:24Z",), ("X archive", "1 repost")),
    Given(("mastodon_outbox.json",), ("2022-11-08T03:07:14Z",), ("Mastodon", "1 repost")),
    Given(("telegram.json",), ("2023-07-05T04:39:12Z", "2023-07-05T04:43:28Z"), ("Telegram", "1 service message")),
    Given(("facebook_posts.json",), ("2013-06-28T18:36:52Z", "2013-07-04T19:11:47Z"), ("Facebook", "made them")),
    Given(("instagram_posts.json",), ("2015-02-15T15:41:38Z", "2015-02-18T02:04:48Z"), ("Instagram", "made them")),
    Given(("unrecognised_text.csv",), ("2024-01-05T10:00:00Z", "2024-01-06T10:00:00Z"), ("content_text",)),
    Given(("edit_first.csv", "edit_second.csv"), ("2024-01-05T10:00:00Z",), ("--update",)),
    Given(("edit_first.csv", "edit_second.csv"), ("2024-01-05T10:05:00Z",), (), ("--update",)),
    Given(("bad_count.csv",), tuple(f"2024-01-0{day}T10:00:00Z" for day in (5, 6, 7)), ("1 of replies_count",)),
    Given(("stray_quote.csv",), (), ("line", "quote", "--allow-rejects"), code=1),
    Given(("date_and_time.csv",), ("2024-01-05T10:15:00Z", "2024-01-05T18:40:00Z", "2024-01-06T07:05:00Z")),
    Given(("semicolon.csv",), ("2018-10-10T20:19:24Z", "2018-10-11T08:00:00Z"), ("separator ';'",)),
    Given(("utf16.csv",), ("2018-10-10T20:19:24Z", "2018-10-11T08:00:00Z"), ("UTF-16",)),
    Given(("id_spaces_first.csv", "id_spaces_second.csv"), ("2024-01-05T10:00:00Z",)),
]
NOT_IMPORTED = {"expected.md", "bursts.csv", "yearly.csv", "pgbouncer.ini"}  # these are about training


def given_file(name: str) -> Path:
    path = SHARED / "imports" / name
    if not path.exists():
        pytest.skip(f"no '{path}': the folder holds small inputs, and expected.md says what each gives")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("given", GIVEN, ids=[given.names[-1] + " ".join(given.options) for given in GIVEN])
def test_a_given_input_gives_what_its_folder_says(given: Given, retrainer: Runner, folder: Path) -> None:
    *earlier, last = (given_file(name) for name in given.names)
    for path in earlier:
        assert retrainer("posts", "import", str(path)).code == 0
    done = retrainer("posts", "import", str(last), *given.options)
    said = f"{done.out}\n{done.err}"
    assert done.code == given.code, said
    assert [words for words in given.said if words not in said] == [], said
    assert tuple(time for _, time, _ in stored(folder)) == given.times


def test_every_given_input_is_tried() -> None:
    names = {path.name for path in given_file("expected.md").parent.iterdir()}
    assert names - NOT_IMPORTED == {name for given in GIVEN for name in given.names}
