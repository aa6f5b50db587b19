"""Local servers that speak the formats of real ones: Mastodon, Bluesky, feeds, an endpoint with JSON.

Each publishes the posts of one account, a few on a page, and fails on request.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from tests.http_server import HttpServer

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST = datetime(2024, 1, 5, 10, tzinfo=UTC)
PAGE = 5  # posts


@dataclass(frozen=True)
class Published:
    """A post as its author sees it; `kind` is own, repost or reply."""

    number: int
    text: str
    kind: str = "own"

    @property
    def time(self) -> datetime:
        return FIRST + timedelta(hours=self.number)


@dataclass(frozen=True)
class Request:
    """A request as it came in; names of headers in lower case."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def as_json(document: object, **headers: str) -> Answer:
    content = {"Content-Type": "application/json; charset=utf-8"}
    return Answer(
        json.dumps(document).encode(), headers={**content, **{k.replace("_", "-"): v for k, v in headers.items()}}
    )


@dataclass
class SourceServer(HttpServer):
    """A server with the posts of one account.

    Attributes:
        posts: oldest first.
        faults: what happens to the next requests for posts instead: a status, `cut` (the connection ends in the middle
            of the answer), `kill` (as `cut`, and the process that asks is killed), an answer; None is no fault.
        victim: the process to kill.
        requests: all requests.
    """

    posts: list[Published] = field(default_factory=list)
    faults: list[int | str | Answer | None] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    victim: int = 0
    kind: ClassVar[str]

    def publish(self, count: int, kind: str = "own") -> None:
        first = len(self.posts)
        self.posts += [Published(n, f"post {n} about tea & <3", kind) for n in range(first, first + count)]

    def edit(self, number: int, text: str) -> None:
        self.posts[number] = replace(self.posts[number], text=text)

    def answer(self, request: Request) -> Answer:
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        raise NotImplementedError

    def is_for_posts(self, request: Request) -> bool:
        return True

    def page_requests(self) -> list[Request]:
        return [request for request in self.requests if self.is_for_posts(request)]

    def __post_init__(self) -> None:
        self.ready = threading.Event()  # the victim is known

    def handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else the body waits for the client, which acknowledges the head late

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(parts.path, query, headers)
                server.requests.append(request)
                fault = server.faults.pop(0) if server.faults and server.is_for_posts(request) else None
                if isinstance(fault, int):
                    error = json.dumps({"error": "Too many requests" if fault == 429 else "Internal error"}).encode()
                    self._send(Answer(error, fault, {"Retry-After": "0"}))
                elif isinstance(fault, Answer):
                    self._send(fault)
                else:
                    self._send(server.answer(request), cut=fault is not None)
                if fault == "kill":
                    server.ready.wait(600)
                    os.kill(server.victim, signal.SIGKILL)

            def _send(self, answer: Answer, *, cut: bool = False) -> None:
                body, headers = answer.body, dict(answer.headers)
                if body and "gzip" in self.headers.get("Accept-Encoding", "") and answer.status == 200:
                    body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
                self.send_response(answer.status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if cut else body)
                self.close_connection = cut

        return Handler


class MastodonServer(SourceServer):
    """The API of Mastodon, with one account."""

    kind = "mastodon"
    account: ClassVar = {"id": "11407", "username": "ada", "acct": "ada", "display_name": "Ada", "locked": False}

    def settings(self) -> dict[str, Any]:
        return {"type": "mastodon", "url": self.url, "account": "ada"}

    def is_for_posts(self, request: Request) -> bool:
        return request.path.endswith("/statuses")

    def answer(self, request: Request) -> Answer:
        if request.path == "/api/v1/accounts/lookup":
            known = request.query["acct"] == "ada"
            return as_json(self.account) if known else Answer(b'{"error":"Record not found"}', 404)
        assert request.path == "/api/v1/accounts/11407/statuses", request.path
        below = int(request.query.get("max_id", 10**18))
        statuses = [self._status(post) for post in reversed(self.posts) if self._id(post) < below][:PAGE]
        base = f"{self.url}{request.path}?limit=40"
        links = f'<{base}&min_id={statuses[0]["id"]}>; rel="prev"' if statuses else ""
        if len(statuses) == PAGE:
            links = f'<{base}&max_id={statuses[-1]["id"]}>; rel="next", {links}'
        reset = format(datetime.now(UTC) + timedelta(minutes=5), "%Y-%m-%dT%H:%M:%S.%fZ")
        return as_json(
            statuses,
            Link=links,
            X_RateLimit_Limit="300",
            X_RateLimit_Remaining="299",
            X_RateLimit_Reset=reset,
            ETag=f'W/"{sha256(json.dumps(statuses).encode()).hexdigest()[:32]}"',
        )

    @staticmethod
    def _id(post: Published) -> int:
        return 111_700_000_000_000_000 + post.number * 1_000_003

    def _status(self, post: Published) -> dict[str, Any]:
        text = post.text.replace("&", "&amp;").replace("<", "&lt;")
        status: dict[str, Any] = {
            "id": str(self._id(post)),
            "created_at": f"{post.time:%Y-%m-%dT%H:%M:%S}.000Z",
            "in_reply_to_id": "111699" if post.kind == "reply" else None,
            "in_reply_to_account_id": "99" if post.kind == "reply" else None,
            "sensitive": False,
            "spoiler_text": "",
            "visibility": "public",
            "language": "en",
            "uri": f"{self.url}/users/ada/statuses/{self._id(post)}",
            "url": f"{self.url}/@ada/{self._id(post)}",
            "replies_count": 1,
            "reblogs_count": 2,
            "favourites_count": 3,
            "edited_at": None,
            "content": f"<p>{text}</p>",
            "reblog": None,
            "application": {"name": "Web", "website": None},
            "account": self.account,
            "media_attachments": [],
            "mentions": [],
            "tags": [],
            "emojis": [],
            "card": None,
            "poll": None,
        }
        if post.kind == "repost":
            other = {**self.account, "id": "77", "username": "bob", "acct": "bob@other.example"}
            original = {**status, "id": f"9{status['id']}", "account": other}
            return {**status, "content": "", "reblog": original}
        return status


class BlueskyServer(SourceServer):
    """The public AppView of Bluesky, with one account."""

    kind = "bluesky"
    did: ClassVar = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"

    def settings(self) -> dict[str, Any]:
        return {"type": "bluesky", "url": self.url, "account": "ada.example"}

    def is_for_posts(self, request: Request) -> bool:
        return request.path.endswith("getAuthorFeed")

    def answer(self, request: Request) -> Answer:
        if request.path == "/xrpc/com.atproto.identity.resolveHandle":
            if request.query["handle"] == "ada.example":
                return as_json({"did": self.did})
            return Answer(b'{"error":"InvalidRequest","message":"Unable to resolve handle"}', 400)
        assert request.path == "/xrpc/app.bsky.feed.getAuthorFeed", request.path
        assert request.query["actor"] == self.did
        below = request.query.get("cursor", "9999")
        items = [self._item(post) for post in reversed(self.posts) if self._time(post) < below][:PAGE]
        cursor = {"cursor": items[-1]["post"]["indexedAt"]} if len(items) == PAGE else {}
        return as_json({"feed": items, **cursor}, RateLimit_Limit="3000", RateLimit_Remaining="2999")

    @staticmethod
    def _time(post: Published) -> str:
        return f"{post.time:%Y-%m-%dT%H:%M:%S}.000Z"

    def _item(self, post: Published) -> dict[str, Any]:
        author = {"did": self.did, "handle": "ada.example", "displayName": "Ada"}
        other = {"did": "did:plc:oky5czdrnfjpqslsw2a5iclo", "handle": "bob.example"}
        is_repost = post.kind == "repost"
        uri = f"at://{other['did'] if is_repost else self.did}/app.bsky.feed.post/3k{post.number:011d}"
        record: dict[str, Any] = {
            "$type": "app.bsky.feed.post",
            "createdAt": self._time(post),
            "langs": ["en"],
            "text": post.text,
        }
        parent = {"cid": "bafyreia", "uri": f"at://{other['did']}/app.bsky.feed.post/3k9"}
        if post.kind == "reply":
            record["reply"] = {"parent": parent, "root": parent}
        view = {
            "uri": uri,
            "cid": f"bafyrei{sha256(post.text.encode()).hexdigest()[:40]}",
            "author": other if is_repost else author,
            "record": record,
            "replyCount": 1,
            "repostCount": 2,
            "likeCount": 3,
            "quoteCount": 0,
            "indexedAt": self._time(post),
            "labels": [],
        }
        item: dict[str, Any] = {"post": view}
        if is_repost:
            item["reason"] = {"$type": "app.bsky.feed.defs#reasonRepost", "by": author, "indexedAt": self._time(post)}
        if post.kind == "reply":
            item["reply"] = {"root": {"uri": parent["uri"]}, "parent": {"uri": parent["uri"]}}
        return item


class FeedServer(SourceServer):
    """An Atom feed with further pages (RFC 5005), and validators."""

    kind = "feed"

    def settings(self) -> dict[str, Any]:
        return {"type": "feed", "url": f"{self.url}/feed.atom"}

    def answer(self, request: Request) -> Answer:
        page = int(request.query.get("page", 1))
        posts = list(reversed(self.posts))[(page - 1) * PAGE : page * PAGE]
        entries = "".join(self._entry(post) for post in posts)
        is_last = page * PAGE >= len(self.posts)
        following = "" if is_last else f'<link rel="next" href="/feed.atom?page={page + 1}"/>'
        body = (
            '<?xml version="1.0" encoding="utf-8"?><feed xmlns="http://www.w3.org/2005/Atom"><title>Ada</title>'
            f"<id>urn:ada</id><updated>2024-01-05T10:00:00Z</updated>{following}{entries}</feed>"
        ).encode()
        etag = f'"{sha256(body).hexdigest()[:20]}"'
        modified = format_datetime(FIRST + timedelta(hours=len(self.posts)), usegmt=True)
        headers = {"ETag": etag, "Last-Modified": modified, "Content-Type": "application/atom+xml"}
        if request.headers.get("if-none-match") == etag:
            return Answer(b"", 304, headers)
        return Answer(body, headers=headers)

    @staticmethod
    def _entry(post: Published) -> str:
        text = post.text.replace("&", "&amp;").replace("<", "&lt;")
        html = f"<p>{text}</p>".replace("&", "&amp;").replace("<", "&lt;")
        time = f"{post.time:%Y-%m-%dT%H:%M:%SZ}"
        return (
            f"<entry><id>urn:ada:{post.number}</id><title/><published>{time}</published>"
            f'<updated>{time}</updated><content type="html">{html}</content></entry>'
        )


class JsonServer(SourceServer):
    """An endpoint whose answers name the cursor of their next page."""

    kind = "json"

    def settings(self) -> dict[str, Any]:
        return {
            "type": "json",
            "url": f"{self.url}/api/items",
            "records": "data.items",
            "columns": {"post_id": "id", "created_at": "meta.sent", "content": "body.text"},
            "next": "data.cursor",
            "cursor_param": "after",
        }

    def answer(self, request: Request) -> Answer:
        below = int(request.query.get("after", 10**6))
        posts = [post for post in reversed(self.posts) if post.number < below]
        items = [
            {"id": post.number, "meta": {"sent": int(post.time.timestamp())}, "body": {"text": post.text}}
            for post in posts[:PAGE]
        ]
        cursor = items[-1]["id"] if len(posts) > PAGE else None
        return as_json({"data": {"items": items, "cursor": cursor}})


SERVERS: dict[str, type[SourceServer]] = {
    server.kind: server for server in (MastodonServer, BlueskyServer, FeedServer, JsonServer)
}
