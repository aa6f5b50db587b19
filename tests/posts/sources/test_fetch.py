"""`posts fetch` from servers of all kinds, whatever happens to them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.posts.sources.conftest import add_source, stored_texts
from tests.posts.sources.servers import PAGE, Answer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Completed, Runner
    from tests.posts.sources.servers import SourceServer


def texts_of(server: SourceServer) -> list[str]:
    return [post.text for post in server.posts]


def counts(done: Completed) -> dict[str, int]:
    assert done.code == 0, done.err
    (source,) = done.json["sources"]
    return {name: source[name] for name in ("added", "updated", "unchanged", "excluded", "rejected")}


def test_the_first_fetch_stores_all_posts(server: SourceServer, folder: Path, retrainer: Runner) -> None:
    done = retrainer("posts", "fetch")
    assert (done.code, done.out) == (0, "ada: 12 added, 0 updated, 0 unchanged\n"), done.err
    assert stored_texts(folder) == texts_of(server)
    agents = {request.headers["user-agent"] for request in server.requests}
    assert agents == {"retrainer/0.1.0"}


@pytest.mark.slow
def test_later_fetches_read_only_what_is_new(server: SourceServer, folder: Path, retrainer: Runner) -> None:
    add_source(folder, "ada", {**server.settings(), "edits_days": 0})
    retrainer("posts", "fetch")
    server.publish(2)
    server.requests.clear()
    assert counts(retrainer("posts", "fetch", "--json"))["added"] == 2
    assert len(server.page_requests()) == 1
    assert stored_texts(folder) == texts_of(server)
    server.requests.clear()
    assert counts(retrainer("posts", "fetch", "--json"))["added"] == 0
    assert len(server.requests) == 1, "the account is not looked up again"


@pytest.mark.slow
def test_more_new_posts_than_a_page_holds_are_all_found(server: SourceServer, folder: Path, retrainer: Runner) -> None:
    add_source(folder, "ada", {**server.settings(), "edits_days": 0})
    retrainer("posts", "fetch")
    server.publish(3 * PAGE)
    assert counts(retrainer("posts", "fetch", "--json"))["added"] == 3 * PAGE
    assert stored_texts(folder) == texts_of(server)


@pytest.mark.parametrize("fault", ["cut", *(pytest.param(status, marks=pytest.mark.slow) for status in (429, 500))])
def test_a_page_that_fails_once_is_requested_again(
    server: SourceServer, fault: str | int, folder: Path, retrainer: Runner
) -> None:
    server.faults = [Answer(b"", 503, {"Retry-After": "0"}), fault]
    assert counts(retrainer("posts", "fetch", "--json"))["added"] == 12
    assert stored_texts(folder) == texts_of(server)


@pytest.mark.slow
def test_a_source_that_stays_broken_keeps_what_was_read(server: SourceServer, folder: Path, retrainer: Runner) -> None:
    retrainer("posts", "fetch")
    server.publish(PAGE)
    server.faults = [500] * 5
    done = retrainer("posts", "fetch")
    assert done.code == 1
    assert "127.0.0.1 returned HTTP 500" in done.err
    assert done.out == "ada: 0 added, 0 updated, 0 unchanged; failed\n"
    assert counts(retrainer("posts", "fetch", "--json"))["added"] == PAGE
    assert stored_texts(folder) == texts_of(server)


def test_an_edited_post_is_updated(server: SourceServer, folder: Path, retrainer: Runner) -> None:
    retrainer("posts", "fetch")
    server.edit(9, "post 9, corrected")
    assert counts(retrainer("posts", "fetch", "--json"))["updated"] == 1
    assert stored_texts(folder) == texts_of(server)


@pytest.mark.slow
def test_edits_are_looked_for_as_far_back_as_configured(server: SourceServer, folder: Path, retrainer: Runner) -> None:
    add_source(folder, "ada", {**server.settings(), "edits_days": 0.1})
    retrainer("posts", "fetch")
    server.edit(0, "post 0, corrected late")
    server.edit(11, "post 11, corrected")
    assert counts(retrainer("posts", "fetch", "--json"))["updated"] == 1
    assert counts(retrainer("posts", "fetch", "--full", "--json"))["updated"] == 1
    assert stored_texts(folder) == texts_of(server)


@pytest.mark.parametrize("pages", [pytest.param(0, marks=pytest.mark.soak), pytest.param(3, marks=pytest.mark.slow)])
def test_a_fetch_killed_in_the_middle_of_a_page_goes_on_there(
    server: SourceServer, pages: int, folder: Path, retrainer: Runner
) -> None:
    add_source(folder, "ada", {**server.settings(), "edits_days": 0})
    server.publish(10)
    server.faults = [*[None] * pages, "kill"]
    process = subprocess.Popen([sys.executable, "-m", "retrainer", "posts", "fetch"], cwd=folder)
    server.victim = process.pid
    server.ready.set()
    assert process.wait(600) == -9
    assert stored_texts(folder) == texts_of(server)[22 - pages * PAGE :]
    server.publish(2)
    server.requests.clear()
    assert counts(retrainer("posts", "fetch", "--json"))["added"] == 24 - pages * PAGE
    assert stored_texts(folder) == texts_of(server)
    assert len(server.page_requests()) <= 6 - pages + 1, "what was stored is not read again"


@pytest.mark.slow
def test_a_fetch_stops_at_its_limit_of_pages_and_goes_on(server: SourceServer, folder: Path, retrainer: Runner) -> None:
    add_source(folder, "ada", {**server.settings(), "max_pages": 2, "edits_days": 0})
    done = retrainer("posts", "fetch")
    assert done.out == f"ada: {2 * PAGE} added, 0 updated, 0 unchanged; more to come, the next fetch continues\n"
    server.publish(1)
    done = retrainer("posts", "fetch", "--json")
    assert counts(done)["added"] == 3
    assert stored_texts(folder) == texts_of(server)
