"""Read RSS and Atom feeds, and WordPress exports, which are RSS with more elements."""

from __future__ import annotations

import html
import io
import re
from calendar import timegm
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from retrainer.errors import PostsError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARKUP = re.compile(r"<[^<>]*>")
_WORDPRESS = "wp_"  # what feedparser makes of the prefix `wp:`


def is_feed(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a feed."""
    start = head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").lower()  # also of UTF-16
    has_root = any(root in start for root in (b"<rss", b"<feed", b"<rdf:rdf"))
    return start.startswith(b"<") and has_root and b"<html" not in start


def parse_feed(data: bytes) -> list[dict[str, object]]:
    """Return the entries of a feed in its order.

    Entities are not expanded beyond bounds, nothing is loaded from elsewhere, and what is not well-formed is read as
    far as possible.

    Returns:
        For each entry `id`, `link`, `author`, `title` (None if it only repeats the beginning of the text), `content`
        (the whole text, or else the summary; HTML), `published` and `updated` (ISO-8601, or as written if that cannot
        be read), and the elements `wp_…` of WordPress. Values that it lacks are None.
    """
    return parse_feed_page(data)[0]


def parse_feed_page(data: bytes) -> tuple[list[dict[str, object]], str | None]:
    """Return the entries of a feed, as `parse_feed` does, and the link to its next page; None without one.

    Raises:
        PostsError: it refers to a character that does not exist.
    """
    import feedparser  # type: ignore[import-untyped]  # noqa: PLC0415  slow, and rarely needed; it ships no types

    # A file, since bytes could be taken as the name of one.
    try:
        feed = feedparser.parse(io.BytesIO(data), sanitize_html=False, resolve_relative_uris=False)
    except (OverflowError, ValueError) as error:  # of a reference to a character that does not exist
        raise PostsError(f"cannot read the feed: {error}", hint="Check that it is RSS or Atom") from error
    entries = [dict(_values(dict(entry.items()))) for entry in feed.entries]
    links = [link.get("href") for link in feed.feed.get("links", ()) if link.get("rel") == "next"]
    return entries, links[0] if links else None


def _values(entry: dict[str, Any]) -> Iterator[tuple[str, object]]:
    for name in ("id", "link", "author"):
        yield name, entry.get(name)
    texts = [part.get("value") for part in entry.get("content", ())]
    text = next((text for text in [*texts, entry.get("summary")] if text), None)
    title = entry.get("title")
    yield "title", None if title and text and _repeats(title, text) else title
    yield "content", text
    for name in ("published", "updated"):
        yield name, _time(entry, name)
    yield from ((name, value) for name, value in entry.items() if name.startswith(_WORDPRESS))


def _repeats(title: str, text: str) -> bool:
    plain, start = _plain(text), re.sub(r"(…|\.\.\.)$", "", _plain(title))
    return plain.startswith(start)


def _plain(text: str) -> str:
    return " ".join(html.unescape(_MARKUP.sub(" ", text)).split())


def _time(entry: dict[str, Any], name: str) -> str | None:
    written = entry.get(name)
    parsed = entry.get(f"{name}_parsed")
    try:
        exact = datetime.fromisoformat(written or "").tzinfo is not None  # feedparser drops fractions of a second
    except ValueError:
        exact = False
    return written if exact or parsed is None else datetime.fromtimestamp(timegm(parsed), UTC).isoformat()
