"""The posts of a Bluesky account, by the public AppView."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from retrainer.config import Text
from retrainer.errors import SourceError
from retrainer.posts.records import find_value
from retrainer.posts.sources.hookspecs import SourceType, hookimpl
from retrainer.posts.sources.walk import Listing, parse_time, walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from retrainer.posts.sources.hookspecs import Page, Since
    from retrainer.posts.sources.http import HttpClient

PAGE_POSTS = 100  # the most that the server sends
EXPORT = "Bluesky feed"  # the format of the records


class BlueskyOptions(BaseModel, extra="forbid", frozen=True, strict=True):
    """The settings of a source of type `bluesky`.

    Attributes:
        account: its handle (`ada.example`) or DID.
        url: of the AppView.
    """

    account: Text
    url: Text = "https://public.api.bsky.app"


@hookimpl
def source() -> SourceType:
    return SourceType("bluesky", "A Bluesky account", BlueskyOptions)


@hookimpl
def fetch(config: BlueskyOptions, since: Since, http: HttpClient) -> Iterator[Page]:
    """Yield the account's posts, newest first."""
    api = f"{config.url.rstrip('/')}/xrpc"
    did = since.state.get("did") or _resolve(http, api, config.account.removeprefix("@"))

    def read(cursor: str | None) -> Listing:
        params = {"actor": did, "limit": str(PAGE_POSTS), **({"cursor": cursor} if cursor else {})}
        answer = http.get(f"{api}/app.bsky.feed.getAuthorFeed", params=params).json()
        feed = answer.get("feed") if isinstance(answer, dict) else None
        if not isinstance(feed, list) or not all(isinstance(item, dict) for item in feed):
            raise SourceError(f"'{config.url}' did not return a list of posts", hint="Check the URL of the source")
        times = [_time(item) for item in feed]
        return Listing(feed, times, answer.get("cursor"), {"did": did}, EXPORT, newest_first=True)

    yield from walk(since, read)


def _resolve(http: HttpClient, api: str, account: str) -> str:
    """Return the DID of an account, which stays the same when its handle changes."""
    if account.startswith("did:"):
        return account
    answer = http.get(f"{api}/com.atproto.identity.resolveHandle", params={"handle": account}).json()
    if not isinstance(answer, dict) or not isinstance(answer.get("did"), str):
        raise SourceError(f"the server does not know the handle '{account}'", hint="Check the account of the source")
    return str(answer["did"])


def _time(item: dict[str, Any]) -> datetime | None:
    """Return the time by which the feed is sorted: of a repost its own, of a post the time it was indexed or says."""
    if "reason" in item:
        return parse_time(find_value(item, "reason.indexedAt"))
    times = [parse_time(find_value(item, path)) for path in ("post.indexedAt", "post.record.createdAt")]
    return min(filter(None, times), default=None)
