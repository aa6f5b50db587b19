"""What each type of source does beyond what all have in common."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.posts.sources.conftest import add_source, stored_texts
from tests.posts.sources.servers import (
    PAGE,
    Answer,
    BlueskyServer,
    FeedServer,
    JsonServer,
    MastodonServer,
    SourceServer,
    as_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.command_line import Runner
    from tests.posts.sources.servers import Request

slow = pytest.mark.slow


class Scripted(SourceServer):
    """A server whose answers a test writes."""

    kind = "feed"
    respond: Callable[[Request], Answer]

    def answer(self, request: Request) -> Answer:
        return self.respond(request)


@slow
@pytest.mark.parametrize("kind", [MastodonServer, BlueskyServer])
def test_reposts_are_left_out_and_replies_if_configured(
    kind: type[SourceServer], folder: Path, retrainer: Runner
) -> None:
    with kind() as server:
        server.publish(2)
        server.publish(1, "repost")
        server.publish(2, "reply")
        add_source(folder, "ada", server.settings())
        assert retrainer("posts", "fetch").out == "ada: 4 added, 0 updated, 0 unchanged, 1 left out\n"
        add_source(folder, "ada", {**server.settings(), "stream": "no replies"})
        done = retrainer("posts", "fetch", RETRAINER_POSTS__EXCLUDE="[reposts, replies]")
        assert done.out == "ada: 2 added, 0 updated, 0 unchanged, 3 left out\n"
        assert stored_texts(folder, "no replies") == ["post 0 about tea & <3", "post 1 about tea & <3"]


@slow
def test_an_unknown_account_is_one_line(folder: Path, retrainer: Runner) -> None:
    with MastodonServer() as server:
        add_source(folder, "ada", {**server.settings(), "account": "@nobody"})
        done = retrainer("posts", "fetch")
    assert (done.code, done.err) == (
        1,
        "ERROR: 'ada': 127.0.0.1 returned HTTP 404. Check its URL and account\n",
    )


def test_a_token_is_sent_and_never_shown(folder: Path, retrainer: Runner) -> None:
    token = {"ADA_TOKEN": "s3cret-token"}
    with MastodonServer() as server:
        server.publish(1)
        add_source(folder, "ada", {**server.settings(), "token_variable": "ADA_TOKEN"})
        missing = retrainer("posts", "fetch")
        assert (missing.code, missing.err) == (
            2,
            "ERROR: 'ada': the environment variable ADA_TOKEN is not set. Set it, and fetch again\n",
        )
        done = retrainer("--verbose", "posts", "fetch", "--json", env=token)
        assert done.code == 0
        assert {request.headers["authorization"] for request in server.requests} == {"Bearer s3cret-token"}
        server.faults = [Answer(b'{"error":"token s3cret-token is invalid"}', 401)]
        refused = retrainer("--verbose", "posts", "fetch", "--json", env=token)
    assert refused.code == 1
    assert "s3cret" not in done.out + done.err + refused.out + refused.err


@slow
def test_a_secret_in_a_url_is_never_shown(folder: Path, retrainer: Runner) -> None:
    with FeedServer() as server:
        server.publish(1)
        secret = {"ADA_FEED": f"{server.url}/feed.atom?token=s3cret-token".replace("//", "//ada:pass-w0rd@")}
        add_source(folder, "ada", {"type": "feed", "url_variable": "ADA_FEED"})
        done = retrainer("--verbose", "posts", "fetch", "--json", env=secret)
        server.faults = [500] * 5
        failed = retrainer("--verbose", "posts", "fetch", "--json", env=secret)
        assert server.requests[0].query == {"token": "s3cret-token"}
        assert server.requests[0].headers["authorization"].startswith("Basic ")
    assert (done.code, failed.code) == (0, 1)
    shown = done.out + done.err + failed.out + failed.err
    assert not any(word in shown for word in ("s3cret", "pass-w0rd"))


def test_an_unchanged_feed_is_not_sent_again(folder: Path, retrainer: Runner) -> None:
    with FeedServer() as server:
        server.publish(3)
        add_source(folder, "ada", server.settings())
        retrainer("posts", "fetch")
        server.requests.clear()
        assert retrainer("posts", "fetch").out == "ada: 0 added, 0 updated, 0 unchanged\n"
        (request,) = server.requests
        assert {"if-none-match", "if-modified-since"} <= request.headers.keys()
        server.publish(1)
        assert retrainer("posts", "fetch").out == "ada: 1 added, 0 updated, 3 unchanged\n"


RSS = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel><title>Ada</title>
<link>https://ada.example</link><description/>
<item><guid isPermaLink="false">b</guid><pubDate>Sat, 06 Jan 2024 10:00:00 +0000</pubDate>
<description>&lt;p&gt;Second&lt;/p&gt;</description></item>
<item><link>https://ada.example/a</link><pubDate>Fri, 05 Jan 2024 10:00:00 GMT</pubDate>
<description>short</description><content:encoded><![CDATA[<p>First <b>post</b></p>]]></content:encoded></item>
</channel></rss>"""
JSON_FEED = {
    "version": "https://jsonfeed.org/version/1.1",
    "title": "Ada",
    "items": [
        {"id": "b", "content_text": "Second", "date_published": "2024-01-06T10:00:00Z"},
        {"id": "a", "content_html": "<p>First post</p>", "date_published": "2024-01-05T12:00:00+02:00"},
    ],
}


@slow
@pytest.mark.parametrize(
    "answer",
    [
        Answer(RSS.encode(), headers={"Content-Type": "text/xml"}),
        Answer(RSS.replace("UTF-8", "UTF-16").encode("utf-16"), headers={"Content-Type": "application/rss+xml"}),
        as_json(JSON_FEED),
    ],
    ids=["RSS", "RSS in UTF-16", "JSON Feed"],
)
def test_feeds_of_every_kind_are_read(answer: Answer, folder: Path, retrainer: Runner) -> None:
    with Scripted() as server:
        server.respond = lambda _: answer
        add_source(folder, "ada", {"type": "feed", "url": server.url})
        done = retrainer("posts", "fetch")
    assert done.out == "ada: 2 added, 0 updated, 0 unchanged\n", done.err
    assert stored_texts(folder) == ["First post", "Second"]


@slow
def test_entities_of_a_feed_neither_expand_without_end_nor_read_files(folder: Path, retrainer: Runner) -> None:
    item = "<item><guid>a</guid><pubDate>Fri, 05 Jan 2024 10:00:00 GMT</pubDate><description>{}</description></item>"
    bomb = f'<!DOCTYPE rss [<!ENTITY a "{"a" * 100_000}"><!ENTITY file SYSTEM "file:///etc/passwd">]>'
    feed = f'<rss version="2.0"><channel><title>x</title>{item.format("&file; " + "&a;" * 20_000)}</channel></rss>'
    with Scripted() as server:
        server.respond = lambda _: Answer(f'<?xml version="1.0"?>{bomb}{feed}'.encode())
        add_source(folder, "ada", {"type": "feed", "url": server.url})
        retrainer("posts", "fetch")
    texts = stored_texts(folder)
    assert all(len(text) < 1_000_000 and "root:" not in text for text in texts)


@slow
@pytest.mark.parametrize("body", [b"<html><body>Log in</body></html>", b"[]", b'{"items": 1}', b"", b"\x00\xff"])
def test_what_is_no_feed_is_one_line(body: bytes, folder: Path, retrainer: Runner) -> None:
    with Scripted() as server:
        server.respond = lambda _: Answer(body)
        add_source(folder, "ada", {"type": "feed", "url": server.url})
        done = retrainer("posts", "fetch")
    assert (done.code, done.out) == (1, "ada: 0 added, 0 updated, 0 unchanged; failed\n")
    assert "127.0.0.1 did not return" in done.err
    assert done.err.count("\n") == 1


@slow
def test_a_next_page_of_another_server_is_not_followed(folder: Path, retrainer: Runner) -> None:
    def respond(_: Request) -> Answer:
        return as_json({**JSON_FEED, "next_url": "http://elsewhere.example/feed"})

    with Scripted() as server:
        server.respond = respond
        add_source(folder, "ada", {"type": "feed", "url": server.url})
        done = retrainer("posts", "fetch")
    assert done.code == 1
    assert "127.0.0.1 links to a next page on another server, which is not followed" in done.err


def json_source(server: SourceServer, **options: Any) -> dict[str, Any]:
    columns = {"post_id": "id", "created_at": "sent", "content": "text"}
    return {"type": "json", "url": f"{server.url}/items", "columns": columns, **options}


def items(*numbers: int) -> list[dict[str, object]]:
    return [{"id": n, "sent": f"2024-01-{n + 1:02}T10:00:00Z", "text": f"post {n}"} for n in numbers]


@slow
def test_a_json_endpoint_with_link_headers_and_secret_headers(folder: Path, retrainer: Runner) -> None:
    def respond(request: Request) -> Answer:
        if request.query.get("page") == "2":
            return as_json(items(1, 0))
        return as_json(items(3, 2), Link='</items?page=2>; rel="next"')

    with Scripted() as server:
        server.respond = respond
        add_source(folder, "ada", json_source(server, secret_headers={"X-Key": "ADA_KEY"}, headers={"X-Kind": "all"}))
        done = retrainer("posts", "fetch", ADA_KEY="s3cret")
        assert done.out == "ada: 4 added, 0 updated, 0 unchanged\n", done.err
        assert [request.headers["x-key"] for request in server.requests] == ["s3cret"] * 2
        assert [request.headers["x-kind"] for request in server.requests] == ["all"] * 2
    assert stored_texts(folder) == ["post 0", "post 1", "post 2", "post 3"]


@slow
@pytest.mark.parametrize("order", [range(6), (5, 1, 4, 0, 3, 2)], ids=["oldest first", "unsorted"])
def test_an_endpoint_without_the_newest_posts_first_is_read_to_its_end(
    folder: Path, retrainer: Runner, order: Sequence[int]
) -> None:
    numbers = list(order)

    def respond(request: Request) -> Answer:
        start = int(request.query.get("from", 0))
        following = start + 3 if start + 3 < len(numbers) else None
        return as_json({"posts": items(*numbers[start : start + 3]), "following": following})

    with Scripted() as server:
        server.respond = respond
        options = {"records": "posts", "next": "following", "cursor_param": "from", "edits_days": 0}
        add_source(folder, "ada", json_source(server, **options))
        retrainer("posts", "fetch")
        numbers += [6, 7]
        assert retrainer("posts", "fetch").out.startswith("ada: 2 added")
    assert stored_texts(folder) == [f"post {n}" for n in range(8)]


@slow
def test_times_that_leave_the_order_of_day_and_month_open_need_a_setting(folder: Path, retrainer: Runner) -> None:
    posts = [{"id": 1, "sent": "03/04/2024 10:00", "text": "first"}, {"id": 2, "sent": "04/04/2024 10:00", "text": "x"}]
    with Scripted() as server:
        server.respond = lambda _: as_json(posts)
        add_source(folder, "ada", json_source(server))
        open_order = retrainer("posts", "fetch")
        assert open_order.code == 1
        assert "03/04/2024" in open_order.err
        add_source(folder, "ada", json_source(server, time_format="DMY", timezone="Europe/Berlin"))
        assert retrainer("posts", "fetch").out == "ada: 2 added, 0 updated, 0 unchanged\n"
    assert retrainer("posts", "show", "1", "--json").json["created_at"] == "2024-04-03T08:00:00Z"


@slow
def test_rejected_posts_are_reported_and_cost_no_others(folder: Path, retrainer: Runner) -> None:
    with Scripted() as server:
        server.respond = lambda _: as_json([*items(0, 1), {"id": 2, "sent": "soon", "text": "x"}])
        add_source(folder, "ada", json_source(server))
        done = retrainer("posts", "fetch")
    assert (done.code, done.out) == (0, "ada: 2 added, 0 updated, 0 unchanged, 1 rejected\n")
    assert done.err.startswith("WARNING: 'ada': rejected 1 post: the time 'soon' ")


@slow
def test_a_page_of_rejected_posts_is_an_error_until_it_is_well(folder: Path, retrainer: Runner) -> None:
    posts = [{"id": 1, "sent": "soon", "text": "first"}, {"id": 2, "sent": None, "text": "second"}]
    with Scripted() as server:
        server.respond = lambda _: as_json(posts)
        add_source(folder, "ada", json_source(server))
        done = retrainer("posts", "fetch")
        assert done.code == 1
        assert "cannot import 'ada': all 2 rows are rejected" in done.err
        posts[:] = items(0, 1)
        assert retrainer("posts", "fetch").out == "ada: 2 added, 0 updated, 0 unchanged\n"


@slow
@pytest.mark.parametrize("token", ["two\nlines", "t\N{LATIN SMALL LETTER O WITH DIAERESIS}ken", "a\x01b"])
def test_a_token_that_no_header_can_hold_is_a_wrong_setting(token: str, folder: Path, retrainer: Runner) -> None:
    add_source(folder, "ada", {"type": "mastodon", "url": "http://127.0.0.1:9", "account": "a", "token_variable": "T"})
    done = retrainer("posts", "fetch", "--json", env={"T": token})
    assert done.code == 2
    assert done.err == "ERROR: 'ada': the header Authorization has an invalid character. Check its variable\n"
    assert token not in done.out


@slow
@pytest.mark.parametrize("table", ["posts", "retrainer_sources"])
def test_the_posts_and_the_state_of_a_page_are_stored_together(table: str, folder: Path, retrainer: Runner) -> None:
    """The database refuses one of the two on the second page."""
    with JsonServer() as server:
        server.publish(2 * PAGE)
        add_source(folder, "ada", {**server.settings(), "edits_days": 0})
        retrainer("posts", "count")  # creates the database
        change, condition = (
            ("UPDATE", "new.pages = 2") if table == "retrainer_sources" else ("INSERT", "new.post_id = '0'")
        )
        with closing(sqlite3.connect(folder / "data" / "retrainer.db")) as database:
            stop = "BEGIN SELECT RAISE(ABORT, 'stopped'); END"
            database.execute(f"CREATE TRIGGER stop BEFORE {change} ON {table} WHEN {condition} {stop}")
            done = retrainer("posts", "fetch", "--json")
            assert (done.code, done.json["added"]) == (1, PAGE)
            assert len(stored_texts(folder)) == PAGE
            database.execute("DROP TRIGGER stop")
            database.commit()
        server.requests.clear()
        assert retrainer("posts", "fetch").out == f"ada: {PAGE} added, 0 updated, {PAGE} unchanged\n"
        assert len(server.requests) == 2


@slow
def test_two_fetches_of_a_source_at_the_same_time_notice_each_other(
    folder_on_each_database: Path, retrainer: Runner
) -> None:
    """The second fetch runs while the first waits for its second page."""
    with JsonServer() as server:
        server.publish(2 * PAGE)
        add_source(folder_on_each_database, "ada", {**server.settings(), "edits_days": 0})
        codes: list[int] = []

        def respond(request: Request, answer: Callable[[Request], Answer] = server.answer) -> Answer:
            if "after" in request.query and not codes:
                codes.append(-1)
                command = [sys.executable, "-m", "retrainer", "posts", "fetch"]
                codes[0] = subprocess.run(command, cwd=folder_on_each_database, check=False).returncode
            return answer(request)

        server.answer = respond  # type: ignore[method-assign]
        done = retrainer("posts", "fetch")
        assert (codes, done.code) == ([0], 4)
        assert "ERROR: 'ada': another fetch of 'ada' is in progress." in done.err
        assert retrainer("posts", "fetch").code == 0
    assert len(stored_texts(folder_on_each_database)) == 2 * PAGE


@slow
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "127.0.0.1 did not return JSON"),
        (b'{"data": {"posts": 3}}', "the endpoint did not return a list of posts at 'data.posts'"),
        (b"[" * 100_000, "127.0.0.1 did not return JSON"),
        (b'{"data": {"posts": [{"id": 1, "text": "x"}]}}', "no column for created_at"),
    ],
)
def test_a_json_answer_without_posts_is_one_line(body: bytes, message: str, folder: Path, retrainer: Runner) -> None:
    with Scripted() as server:
        server.respond = lambda _: Answer(body)
        add_source(folder, "ada", json_source(server, records="data.posts"))
        done = retrainer("posts", "fetch")
    assert done.code in {1, 2}
    assert message in done.err
    assert done.err.count("\n") == 1


@slow
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "posts.sources.ada.type is missing"),
        (None, "posts.sources.ada.type is missing"),
        ({"type": "mastodn"}, "posts.sources.ada.type: unknown source type 'mastodn'. Did you mean 'mastodon'?"),
        ({"type": "mastodon", "url": "https://m.example"}, "posts.sources.ada.account is missing"),
        ({"type": "feed", "ulr": "x"}, "unknown key 'posts.sources.ada.ulr'. Did you mean 'url'?"),
        ({"type": "feed"}, "posts.sources.ada: invalid value '***' (must have either url or url_variable)"),
        ({"type": "feed", "url": "x", "max_pages": 0}, "posts.sources.ada.max_pages: invalid value '***'"),
        ({"type": "feed", "url": "ftp://x/y"}, "'ftp' is not http or https"),
    ],
)
def test_a_wrong_setting_is_one_line(
    settings: dict[str, Any] | None, message: str, folder: Path, retrainer: Runner
) -> None:
    add_source(folder, "ada", settings)
    done = retrainer("posts", "fetch")
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


def test_without_sources_the_error_shows_an_example(folder: Path, retrainer: Runner) -> None:
    done = retrainer("posts", "fetch")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: no sources configured. Add one to config.yaml, such as posts: {sources: {ada: ")


@slow
def test_one_source_of_several_can_be_named(folder: Path, retrainer: Runner) -> None:
    with JsonServer() as first, FeedServer() as second:
        first.publish(1)
        second.publish(2)
        from tests.conftest import configure

        configure(folder, sources=json.dumps({"one": first.settings(), "two": second.settings()}))
        assert retrainer("posts", "fetch", "two").out == "two: 2 added, 0 updated, 0 unchanged\n"
        done = retrainer("posts", "fetch", "tow")
        assert (done.code, done.err) == (2, "Error: unknown source 'tow'. Did you mean 'two'?\n")
        second.faults = [Answer(b"", 404)]
        both = retrainer("posts", "fetch", "--json")
        assert both.code == 1
        assert [source["added"] for source in both.json["sources"]] == [1, 0]
        assert both.json["sources"][1]["error"]["message"] == "127.0.0.1 returned HTTP 404"


@slow
def test_changed_settings_of_a_source_start_it_afresh(folder: Path, retrainer: Runner) -> None:
    with JsonServer() as server:
        server.publish(3 * PAGE)
        add_source(folder, "ada", {**server.settings(), "edits_days": 0})
        retrainer("posts", "fetch")
        add_source(folder, "ada", {**server.settings(), "edits_days": 0, "headers": {"X-All": "yes"}})
        assert retrainer("posts", "fetch").out == f"ada: 0 added, 0 updated, {3 * PAGE} unchanged\n"
