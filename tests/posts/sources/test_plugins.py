"""Types of sources that other packages provide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import blocks
from tests.posts.sources.conftest import add_source, stored_texts
from tests.posts.sources.servers import SourceServer, as_json

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins
    from tests.posts.sources.servers import Answer, Request

pytestmark = pytest.mark.slow

DESCRIBE = """
from retrainer.posts.sources import Page, SourceType, hookimpl

@hookimpl
def source():
    return SourceType("gazette", "The posts of the Gazette")
"""


def fetch(retrainer: Runner, plugins: Plugins, code: str) -> tuple[int, str]:
    plugins.add("gazette", code, group="retrainer.sources")
    done = retrainer("posts", "fetch", env=plugins.environ)
    assert done.err.count("\n") <= 1, done.err
    return done.code, done.err


class Gazette(SourceServer):
    """The server of the example in the documentation."""

    def answer(self, request: Request) -> Answer:
        section, day = request.path.strip("/").split("/")
        number = int(day[-2:])
        post = {"id": number, "time": f"{day}T10:00:00Z", "text": f"{section} {number}"}
        return as_json({"posts": [post], "next_day": f"2024-01-0{number + 1}" if number < 3 else None})


def test_the_plugin_of_the_documentation_works(folder: Path, retrainer: Runner, plugins: Plugins) -> None:
    (block,) = [block for block in blocks("docs/fetching.md", "python") if block.file_name == "retrainer_gazette.py"]
    add_source(folder, "paper", {"type": "gazette", "section": "local"})
    with Gazette() as server:
        plugins.add("gazette", block.text.replace("https://gazette.example", server.url), group="retrainer.sources")
        assert retrainer("posts", "fetch", env=plugins.environ).out == "paper: 3 added, 0 updated, 0 unchanged\n"
        server.requests.clear()
        assert retrainer("posts", "fetch", env=plugins.environ).out == "paper: 0 added, 0 updated, 1 unchanged\n"
        assert [request.path for request in server.requests] == ["/local/2024-01-03"]
    assert stored_texts(folder) == ["local 1", "local 2", "local 3"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import missing_module", "is broken: ModuleNotFoundError: No module named 'missing_module'"),
        ("raise SystemExit(3)", "is broken: SystemExit: 3"),
        ("", "is broken: it has the hooks none"),
        (DESCRIBE, "is broken: it has the hooks source"),
        (DESCRIBE + "@hookimpl\ndef fetch(configuration): pass", "is broken: PluginValidationError: "),
        (
            DESCRIBE.replace('"gazette"', '"gazett"') + "@hookimpl\ndef fetch(): return iter(())",
            "is broken: source must return a SourceType named 'gazette'",
        ),
        (DESCRIBE + "@hookimpl\ndef fetch(): 1 / 0", "failed at 'paper': ZeroDivisionError: division by zero"),
        (DESCRIBE + "@hookimpl\ndef fetch(): yield 3", "failed at 'paper': fetch yielded a value that is not a Page"),
        (DESCRIBE + "@hookimpl\ndef fetch(): yield Page([], {'a': object()})", "is not plain data"),
    ],
)
def test_a_broken_plugin_is_one_line(
    code: str, message: str, folder: Path, retrainer: Runner, plugins: Plugins
) -> None:
    add_source(folder, "paper", {"type": "gazette"})
    exit_code, error = fetch(retrainer, plugins, code)
    assert exit_code == 1
    assert error.startswith("ERROR: 'paper': the source type 'gazette' ")
    assert message in error


def test_two_plugins_of_one_name_are_refused(folder: Path, retrainer: Runner, plugins: Plugins) -> None:
    add_source(folder, "paper", {"type": "gazette"})
    plugins.add("gazette", DESCRIBE, distribution="other-gazette", group="retrainer.sources")
    exit_code, error = fetch(retrainer, plugins, DESCRIBE)
    assert exit_code == 1
    assert "two packages provide the source type 'gazette': other-gazette 1.0 and retrainer-gazette 1.0" in error


def test_a_broken_plugin_that_no_source_uses_blocks_nothing(folder: Path, retrainer: Runner, plugins: Plugins) -> None:
    plugins.add("broken", "raise SystemExit(3)", group="retrainer.sources")
    exit_code, error = fetch(retrainer, plugins, DESCRIBE)
    assert (exit_code, error.startswith("Error: no sources configured")) == (2, True)


def test_types_of_sources_are_listed_with_what_is_wrong_with_them(retrainer: Runner, plugins: Plugins) -> None:
    plugins.add("gazette", DESCRIBE, group="retrainer.sources")
    listed = retrainer("plugins", "--json", cwd=plugins.site, env=plugins.environ).json
    sources = {plugin["name"]: plugin for plugin in listed if plugin["kind"] == "source"}
    assert {name for name, source in sources.items() if source["status"] == "ok"} == {
        "bluesky",
        "feed",
        "json",
        "mastodon",
        "sql",
    }
    assert sources["sql"]["summary"] == "An SQL query"
    assert "it has the hooks source" in sources["gazette"]["problem"]
