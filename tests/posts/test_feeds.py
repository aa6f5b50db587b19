"""Feeds: RSS, Atom and WordPress exports, well-formed or not."""

from __future__ import annotations

import pytest

from retrainer.errors import PostsError
from retrainer.posts.feeds import is_feed, parse_feed

RSS = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0"><channel><title>A blog</title><link>https://blog.example</link>{items}</channel></rss>"""
ITEM = """<item><title>{title}</title><link>https://blog.example/1</link><guid isPermaLink="false">blog-1</guid>
<pubDate>Mon, 04 Mar 2024 10:00:00 +0200</pubDate><description>{text}</description></item>"""
ATOM = """<?xml version="1.0" encoding="utf-16"?>
<feed xmlns="http://www.w3.org/2005/Atom"><title>A blog</title><entry><id>tag:blog.example,2024:1</id>
<title type="text">One</title><link href="https://blog.example/1"/><published>2024-03-04T10:00:00.125+02:00</published>
<updated>2024-03-05T10:00:00Z</updated><summary>short</summary><content type="html">&lt;p&gt;long&lt;/p&gt;</content>
</entry></feed>"""


def test_an_rss_feed_is_read() -> None:
    (entry,) = parse_feed(RSS.format(items=ITEM.format(title="One", text="&lt;p&gt;first&lt;/p&gt;")).encode())
    assert entry == {
        "id": "blog-1",
        "link": "https://blog.example/1",
        "author": None,
        "title": "One",
        "content": "<p>first</p>",
        "published": "2024-03-04T08:00:00+00:00",
        "updated": None,
    }


def test_an_atom_feed_is_read_with_fractions_of_seconds() -> None:
    (entry,) = parse_feed(ATOM.encode("utf-16"))
    assert entry == {
        "id": "tag:blog.example,2024:1",
        "link": "https://blog.example/1",
        "author": None,
        "title": "One",
        "content": "<p>long</p>",
        "published": "2024-03-04T10:00:00.125+02:00",
        "updated": "2024-03-05T10:00:00Z",
    }


@pytest.mark.parametrize("title", ["See you &amp; all there", "See you &amp; all…", "See you..."])
def test_a_title_that_repeats_the_text_is_left_out(title: str) -> None:
    text = "&lt;p&gt;See &lt;b&gt;you&lt;/b&gt; &amp;amp; all there&lt;/p&gt;"
    assert [entry["title"] for entry in parse_feed(RSS.format(items=ITEM.format(title=title, text=text)).encode())] == [
        None
    ]


def test_a_feed_that_is_not_well_formed_is_read_as_far_as_possible() -> None:
    items = ITEM.format(title="A & B", text="one") + ITEM.format(title="&nbsp;Two", text="cut")[:-30]
    assert next(entry["content"] for entry in parse_feed(RSS.format(items=items).encode())) == "one"


def test_entities_of_a_document_are_neither_expanded_beyond_bounds_nor_loaded_from_files() -> None:
    bomb = "".join(f'<!ENTITY b{n + 1} "{f"&b{n};" * 10}">' for n in range(9))
    doctype = f'<!DOCTYPE rss [<!ENTITY b0 "boom"><!ENTITY file SYSTEM "file:///etc/passwd">{bomb}]>'
    for text in ("&b9;", "&file;"):
        feed = RSS.format(items=ITEM.format(title="One", text=text)).replace("<rss", f"{doctype}<rss")
        assert all(len(str(entry)) < 1000 and "root:" not in str(entry) for entry in parse_feed(feed.encode()))


def test_what_is_no_feed_has_no_entries() -> None:
    assert parse_feed(b"/etc/passwd") == []
    assert parse_feed(b"") == []


def test_a_feed_is_known_by_its_root() -> None:
    assert is_feed(RSS.encode()[:200])
    assert is_feed(ATOM.encode("utf-16")[:200])
    assert not is_feed(b"<!doctype html><html><body>about <rss> feeds</body></html>")
    assert not is_feed(b"id,text\n1,<rss>\n")


@pytest.mark.parametrize("number", ["x110000", "x" + "1" * 100, "1" * 5000])
def test_a_reference_to_a_character_that_does_not_exist_is_an_error(number: str) -> None:
    with pytest.raises(PostsError, match="cannot read the feed"):
        parse_feed(f"<rss version='2.0'><channel><item><guid>1</guid>&#{number};</item></channel></rss>".encode())
