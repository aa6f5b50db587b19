"""`retrainer config`: every setting with its origin, one value, a change that keeps comments, a check of everything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from retrainer.project import default_config
from retrainer.settings_edit import change_key

if TYPE_CHECKING:
    from tests.command_line import Runner


@pytest.fixture
def config(folder: Path) -> Path:
    """The settings file of a new project, as it is shipped."""
    file = folder / "config" / "config.yaml"
    file.write_bytes(default_config().read_bytes())
    return file


def rows(retrainer: Runner, **environ: str) -> dict[str, tuple[object, str]]:
    document = retrainer("config", "show", "--json", env=environ).json
    return {row["key"]: (row["value"], row["source"]) for row in document["settings"]}


def test_each_setting_is_shown_with_where_it_was_set(config: Path, retrainer: Runner) -> None:
    config.write_text("retraining:\n  test_split: 0.3\ntiming_model:\n  prophet: {weeks: 8}\n")
    shown = rows(retrainer, RETRAINER_RETRAINING__KEEP_VERSIONS="4")
    assert shown["retraining.test_split"] == (0.3, "line 2")
    assert shown["retraining.keep_versions"] == (4, "RETRAINER_RETRAINING__KEEP_VERSIONS")
    assert shown["retraining.schedule_days"] == (7, "default")
    assert shown["timing_model.prophet.weeks"] == (8, "line 4")
    assert shown["timing_model.prophet.timezone"] == ("UTC", "default"), "the options of the algorithm in use"
    table = retrainer("config", "show").out
    assert str(config) in table
    assert "retraining.test_split" in table


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:hush-hush@127.0.0.1:1/posts",
        "postgresql://ada:hush@hush-hush@127.0.0.1:1/posts",
        "postgresql://ada@127.0.0.1:1/posts?password=hush-hush",
        "ada:hush-hush@127.0.0.1:1/posts",
        "postgresql://ada l:hush hush@127.0.0.1:1/posts",
        "postgresql://ada@corp:hush-hush@127.0.0.1:1/posts",
    ],
)
def test_passwords_are_hidden(config: Path, retrainer: Runner, url: str) -> None:
    config.write_text(f'database:\n  url: "{url}"\nposts:\n  url: "{url}"\n')
    for command in (("config", "show"), ("config", "get", "database.url"), ("config", "get", "posts", "--json")):
        done = retrainer(*command)
        assert done.code == 0
        assert "hush" not in done.out + done.err
        assert "***" in done.out


def test_a_value_and_a_section_are_printed(config: Path, retrainer: Runner) -> None:
    assert retrainer("config", "get", "timing_model.algorithm").out == "prophet\n"
    assert retrainer("config", "get", "retraining.min_new_posts").out == "null\n"
    assert retrainer("config", "get", "posts.columns", "--json").json["value"]["post_id"] == "post_id"
    done = retrainer("config", "get", "retraining.test_splitt")
    assert done.code == 2
    assert "unknown key 'retraining.test_splitt'" in done.err
    assert "retraining.test_split'" in done.err


def test_a_change_leaves_every_other_line_as_it_is(config: Path, retrainer: Runner) -> None:
    before = config.read_text().splitlines()
    assert retrainer("config", "set", "retraining.test_split", "0.25").code == 0
    after = config.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [new.split("#")[0].strip() for _, new in changed] == ["test_split: 0.25"]
    assert changed[0][1].endswith("# 20% test set"), "the comment stays"


@pytest.mark.parametrize(
    ("text", "key", "value", "expected"),
    [
        ("", "retraining.test_split", "0.25", {"retraining": {"test_split": 0.25}}),
        ("# only a comment\n", "models_dir", "files", {"models_dir": "files"}),
        ("# no line end", "models_dir", "files", {"models_dir": "files"}),
        ("models_dir: a", "live.rollback", "true", {"models_dir": "a", "live": {"rollback": True}}),
        ("live:\n  floor: null # no line end", "live.rollback", "true", {"live": {"floor": None, "rollback": True}}),
        ("retraining:\n", "retraining.enabled", "false", {"retraining": {"enabled": False}}),
        (
            "timing_model: {algorithm: prophet}\n",
            "timing_model.prophet.weeks",
            "8",
            {"timing_model": {"algorithm": "prophet", "prophet": {"weeks": 8}}},
        ),
        ("posts:\n  exclude:\n  - replies\n", "posts.exclude", "[reposts]", {"posts": {"exclude": ["reposts"]}}),
        ("posts: {url: ~}\n", "models_dir", "'007'", {"posts": {"url": None}, "models_dir": "007"}),
        ("models_dir: a\r\nposts:\r\n  url: null\r\n", "models_dir", "b", {"models_dir": "b", "posts": {"url": None}}),
    ],
)
def test_what_is_missing_is_added(text: str, key: str, value: str, expected: dict[str, object]) -> None:
    changed = change_key(text, tuple(key.split(".")), value, Path("config.yaml"))
    assert yaml.safe_load(changed) == expected
    assert changed.count("#") == text.count("#")


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("retraining.test_split", "7", "retraining.test_split: invalid value '7'"),
        ("retraining.test_splitt", "0.2", "unknown key 'retraining.test_splitt'"),
        ("timing_model.algorithm", "oracle", "unknown algorithm 'oracle'"),
        ("timing_model.prophet.weeks", "1", "timing_model.prophet.weeks: invalid value '1'"),
        ("models_dir.deeper", "1", "'models_dir' is a value, not a section"),
        ("retraining..x", "1", "not a key: 'retraining..x'"),
    ],
)
def test_a_wrong_change_is_refused_and_nothing_written(
    config: Path, retrainer: Runner, key: str, value: str, problem: str
) -> None:
    before = config.read_bytes()
    done = retrainer("config", "set", key, value)
    assert done.code == 2
    assert problem in done.err
    assert " line " not in done.err, "the file does not hold what was refused"
    assert config.read_bytes() == before
    assert list(config.parent.iterdir()) == [config]


def test_a_variable_that_overrides_the_change_is_named(config: Path, retrainer: Runner) -> None:
    done = retrainer("config", "set", "retraining.test_split", "0.25", RETRAINER_RETRAINING__TEST_SPLIT="0.3")
    assert "RETRAINER_RETRAINING__TEST_SPLIT in the environment overrides it" in done.out
    assert "test_split: 0.25" in config.read_text()


def test_check_also_asks_the_plugins(config: Path, retrainer: Runner) -> None:
    assert "are valid" in retrainer("config", "check").out
    config.write_text("timing_model:\n  prophet: {weeks: 1}\n")
    done = retrainer("config", "check")
    assert done.code == 2
    assert "timing_model.prophet.weeks: invalid value '1'" in done.err
    config.write_text("posts:\n  sources:\n    ada: {type: feed}\n")
    assert retrainer("config", "check").code == 2


@pytest.mark.parametrize("key", ["database.url", "posts.url", "tuning.storage_url"])
@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("posts.db", "{key} is not a database URL"),
        ("mysql://host/posts", "unsupported database 'mysql'"),
        ("sqlite://", "a SQLite database needs a file"),
        ("postgresql://host:port/posts", "{key} is not a database URL"),
    ],
)
def test_a_database_that_can_never_be_opened_is_refused(
    config: Path, retrainer: Runner, key: str, url: str, problem: str
) -> None:
    before = config.read_bytes()
    done = retrainer("config", "set", key, url)
    assert (done.code, config.read_bytes()) == (2, before)
    assert problem.format(key=key) in done.err
    variable = "RETRAINER_" + key.upper().replace(".", "__")
    assert retrainer("config", "check", env={variable: url}).code == 2


def test_a_database_that_is_only_unreachable_is_accepted(config: Path, retrainer: Runner) -> None:
    for url in ("sqlite:///not/yet/there.db", "postgresql://nobody@127.0.0.1:1/posts"):
        assert retrainer("config", "set", "database.url", url).code == 0
    assert not (config.parent.parent / "not").exists()
    assert retrainer("config", "check").code == 0


def test_one_of_several_unusable_urls_can_be_corrected(config: Path, retrainer: Runner) -> None:
    config.write_text("database: {url: posts.db}\ntuning: {storage_url: mysql://host/studies}\n")
    assert retrainer("config", "set", "database.url", "sqlite:///posts.db").code == 0
    assert "unsupported database 'mysql'" in retrainer("config", "check").err
