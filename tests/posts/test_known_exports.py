"""Each known export is imported without any option; its files are made by hand in the structure of real ones."""

from __future__ import annotations

import json
import tarfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
import pytest
import yaml
from backports import zstd

from retrainer.export_format import ExportFormat
from retrainer.posts.exports import shipped_formats
from retrainer.posts.importer import ImportOptions, ImportResult, import_posts
from retrainer.project import Project, create_project
from tests.conftest import configure, open_project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrainer.posts.store import PostStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FILES = Path(__file__).parent / "export_files"
EXPECTED: dict[str, dict[str, Any]] = yaml.safe_load((FILES / "expected.yaml").read_text())

PostValues = tuple[str, str, str | None]


class Run(Protocol):
    def __call__(self, *paths: Path, store: PostStore | None = None) -> tuple[ImportResult, list[PostValues]]: ...


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostStore]:
    """The posts of one project; each test has a stream of its own."""
    folder = tmp_path_factory.mktemp("exports") / "project"
    create_project(folder)
    with Project.open(folder) as project:
        yield project.posts


@pytest.fixture
def run(shared_store: PostStore, request: pytest.FixtureRequest) -> Run:
    """Import files; return the result, and the id, time and text of each post."""
    stream = f"stream-{abs(hash(request.node.nodeid))}"

    def run(*paths: Path, store: PostStore | None = None) -> tuple[ImportResult, list[PostValues]]:
        store = store or shared_store
        result = import_posts(store, list(paths), ImportOptions(stream=stream), NOW)
        posts = store.for_stream(stream).load(NOW)
        rows = zip(posts["post_id"], posts["created_at"], posts["content"], strict=True)
        return result, [(key, f"{time:%Y-%m-%dT%H:%M:%S}", None if pd.isna(text) else text) for key, time, text in rows]

    return run


def check(outcome: tuple[ImportResult, list[PostValues]], name: str) -> None:
    """Check that an import gave what is expected of a file, and nothing else."""
    result, posts = outcome
    expected = EXPECTED[name]
    has_ids = expected["posts"][0][0] is not None
    assert {file.recognised for file in result.files} == {expected["recognised"]}
    assert [[key if has_ids else None, *rest] for key, *rest in posts] == expected["posts"]
    assert dict(result.excluded) == expected.get("excluded", {})
    assert result.rejected == 0
    assert [warning for file in result.files for warning in file.warnings] == []


def pack(path: Path, members: dict[str, Path | str]) -> Path:
    """Write a ZIP archive of files, or of texts."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content if isinstance(content, str) else content.read_text())
    return path


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_every_known_export_has_a_file() -> None:
    assert {expected["recognised"] for expected in EXPECTED.values()} == set(shipped_formats())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_known_export_needs_no_option(name: str, run: Run) -> None:
    check(run(FILES / name), name)


@pytest.mark.parametrize(
    ("name", "post_id", "counts"),
    [
        ("x_archive/tweets.js", "1000000000000000001", (None, 1, 3)),
        ("x_api_v2/page.json", "1700000000000000001", (2, 1, 3)),
        ("mastodon_api/statuses.json", "109000000000000001", (1, 2, 3)),
        ("bluesky_feed/sdk.json", "at://did:plc:aaaa/app.bsky.feed.post/3k1", (0, 1, 2)),
        ("hacker_news/items.jsonl", "8863", (1, None, 104)),
    ],
)
def test_counts_are_read(name: str, post_id: str, counts: tuple[int | None, ...], shared_store: PostStore) -> None:
    import_posts(shared_store, [FILES / name], ImportOptions(stream="counts"), NOW)
    post = shared_store.for_stream("counts").get_post(post_id)
    assert (post.replies_count, post.reblogs_count, post.favourites_count) == counts


def test_the_posts_of_an_x_archive_are_found_in_its_zip(run: Run, tmp_path: Path) -> None:
    other = 'window.YTD.like.part0 = [{"like": {"tweetId": "1", "fullText": "liked", "expandedUrl": "x"}}]'
    members: dict[str, Path | str] = {
        "twitter-2026/Your archive.html": "<html></html>",
        "twitter-2026/data/account.js": 'window.YTD.account.part0 = [{"account": {"createdAt": "2010-01-01T00:00Z"}}]',
        "twitter-2026/data/like.js": other,
        "twitter-2026/data/tweet-headers.js": 'window.YTD.tweet_headers.part0 = [{"tweet": {"tweet_id": "1"}}]',
        "twitter-2026/data/tweets.js": FILES / "x_archive/tweets.js",
        "twitter-2026/assets/js/app.js": "x = 1",
    }
    check(run(pack(tmp_path / "archive.zip", members)), "x_archive/tweets.js")


def test_parts_of_an_x_archive_are_read_together(run: Run, tmp_path: Path) -> None:
    text = (FILES / "x_archive/tweets.js").read_text()
    parts = {"data/tweets.js": text, "data/tweets-part1.js": text.replace("100000000000", "200000000000")}
    result, posts = run(pack(tmp_path / "archive.zip", dict(parts)))
    assert [file.name.split(": ")[1] for file in result.files] == list(parts)
    assert (len(posts), result.excluded["reposts"]) == (4, 2)


def test_the_months_of_an_early_x_archive_are_read_and_not_its_table_too(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "data/js/tweets/2013_05.js", (FILES / "x_api_v11/2013_05.js").read_text())
    write(
        tmp_path / "data/js/user_details.js",
        'var user_details = {"id": "5", "created_at": "2010-01-01 00:00:00 +0000"}',
    )
    write(tmp_path / "tweets.csv", (FILES / "x_archive_before_2018/tweets.csv").read_text())
    check(run(tmp_path), "x_api_v11/2013_05.js")


def test_a_common_name_does_not_hide_other_files(run: Run, tmp_path: Path) -> None:
    for number, name in enumerate(["tweets.csv", "result.json", "posts.csv"]):
        record = {"id": str(number), "created_at": f"2024-01-0{number + 1}T10:00:00Z", "text": name}
        table = f"{','.join(record)}\n{','.join(record.values())}\n"
        write(tmp_path / name, [record] if name.endswith("json") else table)
    assert [post[2] for post in run(tmp_path)[1]] == ["tweets.csv", "result.json", "posts.csv"]


@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_the_posts_of_a_mastodon_archive_are_found(form: str, run: Run, tmp_path: Path) -> None:
    actor = '{"id": "actor.json", "type": "Person", "published": "2020-01-01T00:00:00Z", "attachment": []}'
    likes = '{"id": "likes.json", "type": "OrderedCollection", "orderedItems": ["https://other.example/1"]}'
    outbox = FILES / "mastodon_archive/outbox.json"
    if form == "zip":
        archive = pack(tmp_path / "archive.zip", {"actor.json": actor, "likes.json": likes, "outbox.json": outbox})
    else:
        archive = tmp_path / "archive.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            for path in (write(tmp_path / "actor.json", actor), write(tmp_path / "likes.json", likes), outbox):
                tar.add(path, path.name)
    check(run(archive), "mastodon_archive/outbox.json")


def test_the_messages_of_a_slack_export_are_found(run: Run, tmp_path: Path) -> None:
    members: dict[str, Path | str] = {
        "channels.json": '[{"id": "C1", "name": "general", "created": 1500000000, "topic": {"value": ""}}]',
        "users.json": '[{"id": "U1", "name": "a", "updated": 1500000000, "profile": {"real_name": "A"}}]',
        "general/2021-01-07.json": FILES / "slack/2021-01-07.json",
    }
    check(run(pack(tmp_path / "export.zip", members)), "slack/2021-01-07.json")
    assert [file.recognised for file in run(FILES / "slack")[0].files] == ["Slack"]


def test_of_a_reddit_data_request_only_posts_and_comments_are_read(run: Run, tmp_path: Path) -> None:
    members: dict[str, Path | str] = {
        "chat_history.csv": "message_id,created_at,username,message\n1,2020-01-04 10:00:00 UTC,me,private\n",
        "comment_headers.csv": "id,permalink,date,subreddit,gildings\nc0001,p,2020-01-01 10:00:00 UTC,a,0\n",
        "comments.csv": FILES / "reddit_data_request/comments.csv",
        "messages.csv": "id,permalink,date,from,to,subject,body\nm1,p,2020-01-03 10:00:00 UTC,a,b,hi,private\n",
    }
    check(run(pack(tmp_path / "export.zip", members)), "reddit_data_request/comments.csv")
    del members["comment_headers.csv"]
    read = run(pack(tmp_path / "own.zip", members))[0]
    assert len(read.files) == 3, "names like these are common: of any other archive all files are read"


@pytest.mark.parametrize("name", ["messages.csv", "messages.json"])
def test_the_messages_of_a_discord_package_are_found(name: str, run: Run, tmp_path: Path) -> None:
    write(
        tmp_path / "account/user.json",
        {"id": "5", "username": "a", "relationships": [{"id": "6", "since": "2020-01-01"}]},
    )
    write(tmp_path / "messages/index.json", {"1": "general"})
    write(tmp_path / "messages/c1/channel.json", {"id": "1", "type": 0, "name": "general"})
    write(tmp_path / "messages/c1" / name, (FILES / "discord_data_package" / name).read_text())
    check(run(tmp_path), f"discord_data_package/{name}")


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("facebook/your_posts_1.json", "your_facebook_activity/posts/your_posts__check_ins__photos_and_videos_1.json"),
        ("facebook/your_posts_1.json", "posts/your_posts_1.json"),
        ("instagram/posts_1.json", "your_instagram_activity/media/posts_1.json"),
        ("instagram/posts_1.json", "content/posts_1.json"),
        ("threads/threads_and_replies.json", "your_instagram_activity/threads/threads_and_replies.json"),
    ],
)
def test_the_posts_of_a_meta_export_are_found(name: str, member: str, run: Run, tmp_path: Path) -> None:
    members: dict[str, Path | str] = {
        "messages/inbox/b_1/message_1.json": '{"messages": [{"timestamp_ms": 1, "content": "hi"}]}',
        "comments/comments.json": '{"comments_v2": [{"timestamp": 1372444612, "data": [{"comment": {}}]}]}',
        member: FILES / name,
    }
    check(run(pack(tmp_path / "export.zip", members)), name)


@pytest.mark.parametrize("name", ["reddit/submissions.ndjson", "reddit/comments.ndjson"])
def test_files_of_pushshift_are_read_as_they_are_compressed(name: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "RS_2020-01.zst"  # with the largest window, and no suffix of what is inside
    options = {int(zstd.CompressionParameter.window_log): 31}
    path.write_bytes(zstd.compress((FILES / name).read_bytes(), options=options))
    check(run(path), name)


def test_all_chats_of_telegram_are_read(run: Run, tmp_path: Path) -> None:
    chat = json.loads((FILES / "telegram/result.json").read_text())
    other = {"name": "D", "type": "private_channel", "id": 2, "messages": [{**chat["messages"][3], "id": 5}]}
    document = {
        "about": "Here is the data you requested.",
        "personal_information": {"user_id": 5, "first_name": "A"},
        "contacts": {
            "about": "",
            "list": [{"first_name": "B", "date": "2020-01-01T00:00:00", "date_unixtime": "1577836800"}],
        },
        "chats": {"about": "This page lists all chats.", "list": [chat, other]},
    }
    result, posts = run(write(tmp_path / "result.json", document))
    assert [file.recognised for file in result.files] == ["Telegram"]
    assert [post[0] for post in posts] == ["2", "4", "5"]


def test_pages_of_the_x_api_are_read_one_after_the_other(run: Run, tmp_path: Path) -> None:
    page = json.loads((FILES / "x_api_v2/page.json").read_text())
    second = {"data": [{**page["data"][0], "id": "1700000000000000009"}], "meta": {"result_count": 1}}
    result, posts = run(write(tmp_path / "pages.jsonl", f"{json.dumps(page)}\n{json.dumps(second)}\n"))
    assert [file.recognised for file in result.files] == ["X API v2"]
    assert (len(posts), result.excluded["reposts"]) == (3, 1)


def test_optional_fields_may_be_absent_and_others_present(run: Run, tmp_path: Path) -> None:
    tweet = {"id_str": "12", "created_at": "Wed Oct 10 20:19:24 +0000 2018", "full_text": "one", "new": {"a": [1]}}
    result, posts = run(write(tmp_path / "tweets.js", f"window.YTD.tweets.part0 = {json.dumps([{'tweet': tweet}])}"))
    assert [file.recognised for file in result.files] == ["X archive"]
    assert posts == [("12", "2018-10-10T20:19:24", "one")]


def test_an_ordinary_table_keeps_what_looks_like_reposts(run: Run, tmp_path: Path) -> None:
    result, posts = run(write(tmp_path / "posts.csv", "id,created_at,text\n1,2024-01-05T10:00:00Z,RT @a: b\n"))
    assert (result.files[0].recognised, dict(result.excluded)) == (None, {})
    assert posts == [("1", "2024-01-05T10:00:00", "RT @a: b")]


@pytest.mark.parametrize(
    ("exclude", "posts", "excluded"),
    [
        ("[]", 3, {}),
        ("[replies]", 2, {"replies": 1}),
        ("[reposts, replies, service_messages]", 1, {"reposts": 1, "replies": 1}),
    ],
)
def test_a_setting_says_what_is_left_out(
    exclude: str, posts: int, excluded: dict[str, int], run: Run, folder: Path
) -> None:
    configure(folder, exclude=exclude)
    result, stored = run(FILES / "x_archive/tweets.js", store=open_project(folder).posts)
    assert (len(stored), dict(result.excluded)) == (posts, excluded)


def test_an_export_declared_in_the_settings_is_recognised(run: Run, folder: Path, tmp_path: Path) -> None:
    declaration = {
        "requires": ["thread.id", "body"],
        "columns": {"post_id": "thread.id", "created_at": "at_utc | day + hour", "content": "headline + body | body"},
        "clean_ups": ["html"],
        "kinds": {"replies": {"thread.parent": ".+"}, "service_messages": {"state": "(?!published$).+"}},
    }
    ExportFormat.model_validate(declaration)
    configure(folder, formats=json.dumps({"My forum": declaration}), exclude="[service_messages]")
    records = [
        {"thread": {"id": 1}, "at_utc": "2024-01-05T10:00:00Z", "headline": "Hi", "body": "<b>one</b>"},
        {"thread": {"id": 2, "parent": 1}, "day": "2024-01-06", "hour": "11:30", "body": "two", "state": "published"},
        {"thread": {"id": 3}, "at_utc": "2024-01-07T10:00:00Z", "body": "three", "state": "draft"},
    ]
    result, posts = run(write(tmp_path / "forum.json", {"threads": records}), store=open_project(folder).posts)
    assert (result.files[0].recognised, dict(result.excluded)) == ("My forum", {"service_messages": 1})
    assert posts == [("1", "2024-01-05T10:00:00", "Hi\n\none"), ("2", "2024-01-06T11:30:00", "two")]
