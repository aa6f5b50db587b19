"""The posts of a feed: RSS, Atom or JSON Feed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, model_validator

from retrainer.config import Text, VariableName
from retrainer.errors import SourceError
from retrainer.posts.feeds import is_feed, parse_feed_page
from retrainer.posts.sources.hookspecs import SourceType, hookimpl
from retrainer.posts.sources.secrets import read_secret
from retrainer.posts.sources.walk import Listing, parse_time, walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from retrainer.posts.sources.hookspecs import Page, Since
    from retrainer.posts.sources.http import HttpClient, Response

HEAD_BYTES = 65_536  # which tell a feed from other XML
XML_EXPORT, JSON_EXPORT = "RSS or Atom feed", "JSON Feed"  # the formats of the records


class FeedOptions(BaseModel, extra="forbid", frozen=True, strict=True):
    """The settings of a source of type `feed`.

    Attributes:
        url: of the feed; or url_variable, if the URL is a secret.
    """

    url: Text | None = None
    url_variable: VariableName | None = None

    @model_validator(mode="after")
    def _check(self) -> FeedOptions:
        if (self.url is None) == (self.url_variable is None):
            raise ValueError("must have either url or url_variable")
        return self


@hookimpl
def source() -> SourceType:
    return SourceType("feed", "A feed: RSS, Atom or JSON Feed", FeedOptions)


@hookimpl
def fetch(config: FeedOptions, since: Since, http: HttpClient) -> Iterator[Page]:
    """Yield the entries of the feed, and of its further pages if it has any."""
    url = config.url or read_secret(config.url_variable or "")
    validators: dict[str, str] = dict(since.state.get("validators", {}))

    def read(cursor: str | None) -> Listing | None:
        response = http.get(cursor or url, validators=None if cursor else validators)
        if response.is_unmodified:
            return None
        if cursor is None:
            validators.clear()
            validators.update(response.validators)
        is_json = response.content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
        entries, link = _parse_json(response) if is_json else _parse_xml(response)
        times = [_time(entry) for entry in entries]
        following = response.page_url(link) if link and entries else None
        return Listing(
            entries, times, following, {"validators": dict(validators)}, JSON_EXPORT if is_json else XML_EXPORT
        )

    yield from walk(since, read)


def _parse_xml(response: Response) -> tuple[list[dict[str, object]], str | None]:
    if not is_feed(response.content[:HEAD_BYTES]):
        raise SourceError(f"{response.host} did not return a feed", hint="Check the URL of the source")
    return parse_feed_page(response.content)


def _parse_json(response: Response) -> tuple[list[dict[str, object]], str | None]:
    document = response.json()
    items = document.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise SourceError(f"{response.host} did not return a feed", hint="Check the URL of the source")
    return items, document.get("next_url")


def _time(entry: dict[str, object]) -> datetime | None:
    names = ("published", "updated", "date_published", "date_modified")
    return next(filter(None, (parse_time(entry.get(name)) for name in names)), None)
