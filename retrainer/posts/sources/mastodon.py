"""The posts of an account, by the API of Mastodon and of what is compatible with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from retrainer.config import Text, VariableName
from retrainer.errors import SourceError
from retrainer.posts.sources.hookspecs import SourceType, hookimpl
from retrainer.posts.sources.secrets import read_secret
from retrainer.posts.sources.walk import Listing, parse_time, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrainer.posts.sources.hookspecs import Page, Since
    from retrainer.posts.sources.http import HttpClient

PAGE_POSTS = 40  # the most that a server sends
EXPORT = "Mastodon API"  # the format of the records


class MastodonOptions(BaseModel, extra="forbid", frozen=True, strict=True):
    """The settings of a source of type `mastodon`.

    Attributes:
        url: of the server, such as https://mastodon.example.
        account: its name on this server (`ada`), or with its own server (`ada@other.example`).
        token_variable: the environment variable with an access token, for servers that require one.
    """

    url: Text
    account: Text = Field(pattern=r"^@?[^@/\s]+(@[^@/\s]+)?$")
    token_variable: VariableName | None = None


@hookimpl
def source() -> SourceType:
    return SourceType("mastodon", "An account on a server with the API of Mastodon", MastodonOptions)


@hookimpl
def fetch(config: MastodonOptions, since: Since, http: HttpClient) -> Iterator[Page]:
    """Yield the account's posts, newest first."""
    headers = {"Authorization": f"Bearer {read_secret(config.token_variable)}"} if config.token_variable else {}
    api = f"{config.url.rstrip('/')}/api/v1/accounts"
    account_id = since.state.get("account_id") or _look_up(http, api, config.account.removeprefix("@"), headers)

    def read(cursor: str | None) -> Listing:
        params = {"limit": str(PAGE_POSTS), **({"max_id": cursor} if cursor else {})}
        statuses = http.get(f"{api}/{account_id}/statuses", params=params, headers=headers).json()
        if not isinstance(statuses, list) or not all(
            isinstance(status, dict) and "id" in status for status in statuses
        ):
            raise SourceError(f"'{config.url}' did not return a list of posts", hint="Check the URL of the source")
        next_cursor = str(statuses[-1]["id"]) if statuses else None
        return Listing(
            statuses,
            [parse_time(status.get("created_at")) for status in statuses],
            next_cursor,
            {"account_id": account_id},
            EXPORT,
            newest_first=True,
        )

    yield from walk(since, read)


def _look_up(http: HttpClient, api: str, account: str, headers: dict[str, str]) -> str:
    """Return the id of an account on the server."""
    found = http.get(f"{api}/lookup", params={"acct": account}, headers=headers).json()
    if not isinstance(found, dict) or "id" not in found:
        raise SourceError(f"the server does not know the account '{account}'", hint="Check the account of the source")
    return str(found["id"])
