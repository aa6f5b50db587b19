"""The posts of a feed: RSS, Atom or JSON Feed."""

from __future__ import annotations

import html
import io
import re
from contextlib import suppress
from datetime import datetime
from time import strftime
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, model_validator

from retrainer.config import Text, VariableName
from retrainer.errors import SourceError
from retrainer.export_format import ExportFormat
from retrainer.posts.sources.hookspecs import SourceType, hookimpl
from retrainer.posts.sources.secrets import read_secret
from retrainer.posts.sources.walk import Listing, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from retrainer.posts.sources.hookspecs import Page, Since
    from retrainer.posts.sources.http import HttpClient, Response

_PROLOG = re.compile(rb"\A[^<]*(?:<(?![A-Za-z_])[^<]*)*")
_ENTRY = ExportFormat(
    requires=["created_at"],
    columns={"post_id": "post_id", "created_at": "created_at", "content": "content"},
    clean_ups=["html"],
)


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


class _Feed(NamedTuple):
    records: list[dict[str, object]]
    next_link: str | None


@hookimpl
def source() -> SourceType:
    """Describe the source."""
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
        feed = _parse(response)
        following = response.page_url(feed.next_link) if feed.next_link and feed.records else None
        times = [_time(record["created_at"]) for record in feed.records]
        return Listing(feed.records, times, following, {"validators": dict(validators)})

    yield from walk(since, read, _ENTRY)


def _parse(response: Response) -> _Feed:
    if response.content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return _parse_json(response)
    return _parse_xml(response)


def _parse_json(response: Response) -> _Feed:
    document = response.json()
    items = document.get("items") if isinstance(document, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise SourceError(f"{response.host} did not answer with a feed", hint="Check the URL of the source")
    records = []
    for item in items:
        text = item.get("content_html") or html.escape(str(item.get("content_text") or ""), quote=False)
        text = text or html.escape(str(item.get("summary") or item.get("title") or ""), quote=False)
        time = item.get("date_published") or item.get("date_modified")
        records.append({"post_id": item.get("id") or item.get("url"), "created_at": time, "content": text})
    return _Feed(records, document.get("next_url"))


def _parse_xml(response: Response) -> _Feed:
    import feedparser  # noqa: PLC0415  slow to import

    prolog = _PROLOG.match(response.content.replace(b"\0", b""))
    if prolog and b"<!ENTITY" in prolog[0].upper():
        raise SourceError(f"{response.host} declares entities in its feed, which may expand without end")
    headers = {"content-type": response.headers.get("content-type", "application/xml")}
    feed = feedparser.parse(io.BytesIO(response.content), response_headers=headers)
    if not feed.version and not feed.entries:
        raise SourceError(f"{response.host} did not answer with a feed", hint="Check the URL of the source")
    links = [link.get("href") for link in feed.feed.get("links", ()) if link.get("rel") == "next"]
    return _Feed([_entry(entry) for entry in feed.entries], links[0] if links else None)


def _entry(entry: Mapping[str, Any]) -> dict[str, object]:
    time = entry.get("published_parsed") or entry.get("updated_parsed")
    details = [*entry.get("content", ()), entry.get("summary_detail"), entry.get("title_detail")]
    detail: Mapping[str, Any] = next((detail for detail in details if detail and detail.get("value")), {})
    text = str(detail.get("value", ""))
    return {
        "post_id": entry.get("id") or entry.get("link"),
        "created_at": strftime("%Y-%m-%dT%H:%M:%SZ", time) if time else None,
        "content": html.escape(text, quote=False) if detail.get("type") == "text/plain" else text,
    }


def _time(value: object) -> datetime | None:
    with suppress(ValueError):
        time = datetime.fromisoformat(str(value))
        return time if time.tzinfo else None
    return None
