"""Known exports: which one a table is, and which of its records and values make posts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from retrainer.entry_points import FORMATS
from retrainer.errors import ConfigError
from retrainer.posts.exports import known_exports, parse_formats, recognise
from retrainer.posts.exports.mapping import RecordMapping, known_paths
from retrainer.posts.records import PostsTable
from retrainer.settings_file import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.export_format import ImportColumn, Kind
    from tests.plugins_for_tests import Plugins


def table(*columns: str, records: str | None = None) -> PostsTable:
    return PostsTable("posts.json", list(columns), lambda _: iter(()), "record", records=records)


def recognised(*columns: str, records: str | None = None) -> str | None:
    export = recognise(table(*columns, records=records), known_exports())
    return export and export.name


def test_an_export_is_recognised_by_its_paths_and_by_where_its_records_are() -> None:
    assert recognised("tweet.id_str", "tweet.created_at", "tweet.full_text") == "X archive"
    assert recognised("id", "type", "published", "object.id", "object", records="orderedItems") == "Mastodon archive"
    assert recognised("id", "type", "date", "text", "from_id", records="messages") == "Telegram"
    assert recognised("id", "type", "date", "text", "from_id") is None


@pytest.mark.parametrize(
    "columns",
    [
        "id,created_at,text",
        "post_id,timestamp,content,replies_count,reblogs_count,favourites_count",
        "id,created_at,content,url",
        "id,author_id,conversation_id,created_at,text",
        "tweet_id,timestamp,text,retweets",
        "id,date,text,favorites,retweets",
        "id,date,tweet,username",
        "id,url,date,content",
        "id,title,body,date",
        "id,type,timestamp,content,author",
        "ts,text,user",
        "id,created_utc,title,score",
        "uri,createdAt,text",
        "Date,Author,Content",
        "ID,Timestamp,Text",
        "timestamp,data,title",
        "hash,author,date,message",
        "link,title,published",
    ],
)
def test_an_ordinary_table_is_no_export(columns: str) -> None:
    assert recognised(*columns.split(",")) is None
    assert recognised(*columns.split(","), records="messages") is None


def test_the_first_alternative_with_a_value_counts_and_parts_are_joined() -> None:
    mapping = RecordMapping({"created_at": "exact | day + time", "content": "title + body"})
    assert mapping.paths == ["exact", "day", "time", "title", "body"]
    assert mapping.select("created_at", ["", "2024-01-05", "10:00", "a", "b"]) == ("2024-01-05 10:00", 1)
    assert mapping.select("created_at", [5, "2024-01-05", "10:00", "a", "b"]) == (5, 0)
    assert mapping.select("content", [5, None, None, "a", "b"]) == ("a\n\nb", 0)
    assert mapping.select("content", [5, None, None, [], "b"]) == (None, 0)


def test_only_paths_that_a_table_may_have_are_read() -> None:
    columns: dict[ImportColumn, str] = {
        "post_id": "key.id | id",
        "content": "parts.1.text | title + body",
        "created_at": "when",
    }
    mapping = RecordMapping(
        columns, {"replies": {"parent": ".+"}}, available=["id", "parts.0.text", "title", "parent.id"]
    )
    assert mapping.paths == ["id", "parts.1.text", "parent"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["RT @a: b\nc", None, None], "reposts"),
        (["so RT @a", None, None], None),
        (["a", {"id": 1}, 5], "reposts"),
        (["a", {}, 5], "replies"),
        (["a", None, ""], None),
    ],
)
def test_a_record_is_of_a_kind_if_the_whole_of_a_value_matches(values: list[object], kind: str | None) -> None:
    kinds: dict[Kind, dict[str, str]] = {"reposts": {"text": "RT @.*", "reblog": ".+"}, "replies": {"to": ".+"}}
    mapping = RecordMapping({}, kinds)
    assert mapping.paths == ["text", "reblog", "to"]
    assert mapping.kind(values) == kind


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"colums": {}}, "unknown key 'posts.formats.Mine.colums'. Did you mean 'columns'?"),
        ({"columns": {"post_id": "id"}}, "posts.formats.Mine: "),
        ({"columns": {"created_at": "a |b| "}}, "posts.formats.Mine.columns.created_at: "),
        ({"clean_ups": ["xml"]}, "posts.formats.Mine.clean_ups.0: "),
        ({"kinds": {"reposts": {"text": "("}}}, "posts.formats.Mine.kinds.reposts.text: "),
        ({"requires": []}, "posts.formats.Mine.requires: "),
    ],
)
def test_a_wrong_declaration_is_named_by_its_key(change: dict[str, object], problem: str, tmp_path: Path) -> None:
    declaration = {"requires": ["a"], "columns": {"created_at": "a"}} | change
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"posts": {"formats": {"Mine": declaration}}}))
    with pytest.raises(ConfigError) as caught:
        load_settings(path, {})
    assert problem in str(caught.value)


def test_a_misspelled_key_is_named_rather_than_the_missing_one(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("posts: {formats: {Mine: {requires: [a], colums: {created_at: a}}}}")
    with pytest.raises(ConfigError, match=r"unknown key 'posts\.formats\.Mine\.colums'\. Did you mean 'columns'"):
        load_settings(path, {})


def test_a_declaration_in_the_settings_replaces_one_of_the_same_name() -> None:
    (own,) = parse_formats({"Telegram": {"requires": ["a"], "columns": {"created_at": "a"}}}, "test").values()
    exports = known_exports({"Telegram": own})
    assert [export.format for export in exports if export.name == "Telegram"] == [own]


def test_a_package_can_declare_formats(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    declarations = {"My forum": {"requires": ["shout", "when"], "columns": {"created_at": "when"}}}
    plugins.add("shouting", f"FORMATS = {declarations!r}", group=FORMATS, attribute="FORMATS")
    monkeypatch.syspath_prepend(plugins.site)
    assert recognised("shout", "when", "volume") == "My forum"


def test_a_wrong_declaration_of_a_package_names_it(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "FORMATS = {'My forum': {'requires': ['shout']}}"
    plugins.add("other", code, group=FORMATS, attribute="FORMATS")
    monkeypatch.syspath_prepend(plugins.site)
    with pytest.raises(ConfigError, match=r"the formats 'other' of retrainer-other 1\.0: My forum\.columns is missing"):
        known_exports()


def test_a_name_of_many_dots_takes_no_memory() -> None:
    name = "a." * 100_000
    assert sum(map(len, known_paths([name]))) < 2 * len(name)
