"""The overview, the list of streams, and the lists of versions and runs."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from selectolax.lexbor import LexborHTMLParser

from retrainer.pipeline.run import retrain
from tests.api.conftest import (
    PATIENCE,
    thread_server,
    train_two_versions,
    turnstile,
    waiting,
    waiting_in_production,
)
from tests.api.test_auth import PAID
from tests.conftest import open_project, regular_posts, runtime_of
from tests.web.conftest import PROTECTED
from tests.web.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.api.conftest import Server, Turnstile
    from tests.command_line import Runner
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins

__all__ = ["turnstile", "waiting", "waiting_in_production"]

PAID_TIMING = """
    import numpy as np
    from retrainer.algorithms import Algorithm, TimingForecasts, hookimpl

    @hookimpl
    def algorithm():
        return Algorithm(name="paid", model_types=("timing",), summary="Costs money.", paid=True)

    @hookimpl
    def train(posts):
        return {}

    @hookimpl
    def predict(posts, origins):
        return TimingForecasts.from_quantiles(np.tile(np.linspace(1.0, 9.0, 99), (len(origins), 1)))
"""


@pytest.fixture
def two_versions(folder: Path, prepare: Prepare) -> tuple[str, str]:
    """Two timing versions, the first of them live."""
    return prepare(folder, train_two_versions)


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[..., Server]]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(thread_server(folder, **options))


def read(server: Server, path: str, status: int = 200) -> LexborHTMLParser:
    with Visitor(server) as visitor:
        answer = visitor.get(path)
    assert answer.status_code == status, answer.text
    return LexborHTMLParser(answer.text)


def text_of(page: LexborHTMLParser, selector: str = "main") -> str:
    found = page.css_first(selector)
    assert found is not None, selector
    return " ".join(found.text(separator=" ").split())


def test_the_overview_says_what_is_live_how_good_it_is_and_why(
    two_versions: tuple[str, str], serve: Callable[..., Server]
) -> None:
    page = read_overview(serve())
    live, _ = two_versions
    (section, _content) = page.css("section")
    words = " ".join(section.text(separator=" ").split())
    assert f"{live} has been live since" in words
    assert "posts that it had not seen, as good as the naive forecast" in words
    assert "It was promoted automatically: First timing model" in words
    captions = [node.text() for node in section.css("figcaption")]
    assert [caption.partition(" per ")[0] for caption in captions] == [
        "Next post: chance",
        "Timing: scores on the same posts, with 95% intervals",
        "Timing: score of each run's version",
    ]
    assert [node.text() for node in section.css(".badge")] == ["not promoted", "promoted"]
    assert not section.css(".actions"), "who has not logged in sees no buttons"


def test_an_empty_project_says_what_to_do_next(folder: Path, serve: Callable[..., Server]) -> None:
    page = read(serve(), "/")
    words = text_of(page)
    assert "There are no posts. Import some with retrainer posts import FILE" in words
    codes = [node.text() for node in page.css("main code")]
    assert "retrainer train timing" in codes
    for path, command in (("/versions", "retrainer train"), ("/runs", "retrainer train")):
        assert [node.text() for node in read(serve(), path).css(".empty code")] == [command]


def test_with_several_streams_the_first_page_lists_them(folder: Path, serve: Callable[..., Server]) -> None:
    project = open_project(folder)
    names, now = ["<b>bold</b>", "news", "quiet"], datetime.now(UTC)
    for name in names:
        posts = regular_posts(60)
        posts["post_id"] = name + posts["post_id"]
        project.for_stream(name).posts.add(posts, now)
    project.for_stream("news").registry.hold("timing", "because of &amp;", now)
    retrain(project.for_stream("news"), runtime_of(project), "timing", now, auto_promote=True)
    server = serve()
    rows = read(server, "/").css("tbody th a")
    assert [row.text() for row in rows] == names
    one = read(server, str(rows[0].attributes["href"]))
    assert text_of(one, ".stream") == "Stream <b>bold</b> all streams"
    assert text_of(one, "h1") == "Overview"
    assert all("stream=%3Cb%3Ebold" in str(link.attributes["href"]) for link in one.css("header nav a"))
    for address, found in (
        ("only=held", ["news"]),
        ("only=failed", []),
        ("search=NEW", ["news"]),
        ("only=not_live&sort=posts", names),
    ):
        assert [row.text() for row in read(server, f"/?{address}").css("tbody th a")] == found, address
    with Visitor(server) as visitor:
        assert visitor.get("/overview").headers["location"] == "/"
    assert "Did you mean 'held'" in text_of(read(server, "/?only=hold", 422))
    assert "unknown stream 'new'" in text_of(read(server, "/overview?stream=new", 404)).lower()


def test_lists_are_filtered_and_paged(two_versions: tuple[str, str], serve: Callable[..., Server]) -> None:
    server = serve()
    assert len(read(server, "/versions").css("tbody tr")) == 3
    timing = read(server, "/versions?type=timing")
    assert [node.text() for node in timing.css("tbody th")] == [*reversed(two_versions)]
    assert len(read(server, "/runs?type=timing&result=not_promoted").css("tbody tr")) == 1
    assert len(read(server, "/runs?result=promoted").css("tbody tr")) == 2
    assert text_of(read(server, "/runs?result=failed"), ".empty") == "No runs match."
    assert read(server, "/versions?page=7").css_first(".empty") is not None
    for path in (
        "/runs?result=lost",
        "/versions?page=0",
        "/versions?page=x",
        "/versions?type=both",
        "/runs?typ=timing",
    ):
        assert read(server, path, 422).css_first(".error") is not None, path


def test_the_forecast_is_kept_until_a_post_arrives(
    two_versions: tuple[str, str], folder: Path, serve: Callable[..., Server]
) -> None:
    server = serve()
    first = forecast_of(server)
    project = open_project(folder)
    project.registry.hold("timing", "a change that is no post", datetime.now(UTC))
    page = read(server, "/overview")
    assert "a change that is no post" in text_of(page)
    assert forecast_of(server) == first
    later = regular_posts(1, start=datetime.now(UTC) - timedelta(minutes=1))
    project.posts.add(later, datetime.now(UTC))
    assert forecast_of(server) != first


def read_overview(server: Server) -> LexborHTMLParser:
    """Return the overview when its forecasts are made."""
    deadline = time.monotonic() + PATIENCE
    while (waiting := (page := read(server, "/overview")).css_first("[data-reload]")) is not None:
        assert "Reload the page" in waiting.text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return page


def forecast_of(server: Server) -> str:
    """Return what the overview says of the next post."""
    return text_of(read_overview(server), "section figure .note")


def test_a_page_that_loads_itself_again_shows_again_what_was_done(
    waiting_in_production: dict[str, str], turnstile: Turnstile, serve: Callable[..., Server]
) -> None:
    with Visitor(serve(env={**PROTECTED, **waiting_in_production})) as visitor:

        def read_notice() -> tuple[bool, bool]:
            page = LexborHTMLParser(visitor.get("/overview").text)
            notice = page.css_first(".notice[role=status]")
            return page.css_first("[data-reload]") is not None, notice is not None and "on hold" in notice.text()

        visitor.log_in()
        assert visitor.send(visitor.find_form("/action/hold?type=timing", "/action")).status_code == 303
        assert read_notice() == read_notice() == (True, True)
        for _ in range(2):  # content asks timing when the post will come
            turnstile.let_through()
        deadline = time.monotonic() + PATIENCE
        while (shown := read_notice()) == (True, True):
            assert time.monotonic() < deadline
        assert shown == (False, True)
        assert read_notice() == (False, False)


@pytest.mark.slow
def test_looking_at_the_pages_pays_for_nothing(
    trained: str, serve: Callable[..., Server], plugins: Plugins, retrainer: Runner
) -> None:
    algorithm = {**plugins.environ, "RETRAINER_CONTENT_MODEL__ALGORITHM": "paid"}
    plugins.add("paid", PAID)
    run = retrainer("train", "content", "--json", env=algorithm).json
    paid = run["training_runs"][0]["model_version_id"]
    assert retrainer("promote", paid, env=algorithm).code == 0
    words = text_of(read_overview(serve(env=algorithm)))
    assert "Forecasts by paid cost money, so pages do not make them" in words
    assert "retrainer predict content" in words
    assert "a text about the garden" not in words


def test_a_paid_version_in_production_is_not_asked_by_a_page_and_named_before_a_run(
    trained: str, serve: Callable[..., Server], plugins: Plugins, retrainer: Runner
) -> None:
    """The content forecast is free, but asks production timing when the post will come."""
    plugins.add("paid", PAID_TIMING)
    run = retrainer("train", "timing", "--algorithm", "paid", "--json", env=plugins.environ).json
    paid = run["training_runs"][0]["model_version_id"]
    assert retrainer("promote", paid, env=plugins.environ).code == 0
    server = serve(env={**PROTECTED, **plugins.environ})
    words = text_of(read_overview(server))
    assert words.count("Forecasts by paid cost money, so pages do not make them") == 2
    with Visitor(server) as visitor:
        visitor.log_in()
        warned = {name: visitor.get(f"/action/retrain?type={name}").text for name in ("timing", "content")}
        both = visitor.get("/action/retrain").text
    assert "Forecasts of &#39;paid&#39; cost money" in both
    assert "cost money" in warned["timing"]
    assert "cost money" not in warned["content"]


def test_pages_that_are_cached_until_a_change_show_no_relative_times(
    trained: str, serve: Callable[..., Server]
) -> None:
    server = serve()
    page = read(server, "/versions")
    assert " ago" not in text_of(page)
    assert "UTC" in text_of(page)
    assert "As of" not in text_of(page, "footer")
    assert "As of" in text_of(read(server, "/overview"), "footer")


def test_a_change_of_one_stream_leads_back_to_it(folder: Path, serve: Callable[..., Server]) -> None:
    project, now = open_project(folder), datetime.now(UTC)
    for name in ("news", "quiet"):
        posts = regular_posts(60)
        posts["post_id"] = name + posts["post_id"]
        project.for_stream(name).posts.add(posts, now)
    run = retrain(project.for_stream("news"), runtime_of(project), "timing", now).run
    assert run
    with Visitor(serve(env=PROTECTED)) as visitor:
        visitor.log_in()
        path = f"/action/pin?version={run.model_version_id}"
        page = LexborHTMLParser(visitor.get(path).text)
        assert text_of(page, ".stream").startswith("Stream news")
        address = visitor.send(visitor.find_form(path, "/action")).headers["location"]
        assert address == f"/version/{run.model_version_id}?stream=news"
        assert "is now pinned" in text_of(LexborHTMLParser(visitor.get(address).text), ".notice")
        assert LexborHTMLParser(visitor.get(address).text).css_first(".notice[role=status]") is None
