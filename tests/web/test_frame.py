"""What all pages share: static files, headers, links from elsewhere, the page of the API, and what is kept."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import pytest

from retrainer.web.background import Background
from retrainer.web.rendering import environment, hint
from retrainer.web.routes import ROUTES
from retrainer.web.static_files import list_static_files
from tests.api.conftest import PATIENCE, TOKEN, thread_server
from tests.web.conftest import PROTECTED
from tests.web.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.api.conftest import Server

CROSS_SITE = {"Sec-Fetch-Site": "cross-site"}
NAVIGATION = {**CROSS_SITE, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with thread_server(folder) as started:
        yield started


def test_a_page_loads_only_from_its_own_server(server: Server) -> None:
    answer = server.get("/versions")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert not any("unsafe" in sources or "http" in sources for sources in policy.values())
    assert len(answer.headers.get_list("Content-Security-Policy")) == 1
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    addresses = re.findall(r'(?:href|src|action)="([^"]*)"', answer.text)
    assert addresses
    assert all(address.startswith(("/", "#")) and not address.startswith("//") for address in addresses)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", answer.text)


def test_a_browser_keeps_static_files_until_they_change(server: Server) -> None:
    page = server.get("/versions").text
    for address in re.findall(r'(?:href|src)="(/static/[^"]*)"', page):
        answer = server.get(address)
        assert "immutable" in answer.headers["Cache-Control"], address
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        name = address.partition("?")[0]
        again = server.get(name, headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert "no-cache" in server.get(name).headers["Cache-Control"]
    for name in ("nothing.css", "..%2fpages.py", "%2e%2e/pages.py"):
        assert server.get(f"/static/{name}").status_code == 404


def test_every_static_file_has_a_type() -> None:
    assert {"retrainer.css", "charts.css", "retrainer.js", "icon.svg"} <= list_static_files()


def test_a_link_from_elsewhere_opens_a_page_but_reads_no_document(server: Server) -> None:
    assert server.get("/versions", headers=NAVIGATION).status_code == 200
    for path, headers in (
        ("/versions", CROSS_SITE),
        ("/versions", {**NAVIGATION, "Sec-Fetch-Dest": "iframe"}),
        ("/versions", {**NAVIGATION, "Host": "evil.example"}),
        ("/models/versions", NAVIGATION),
    ):
        assert server.get(path, headers=headers).status_code == 403, (path, headers)
    with Visitor(server) as visitor:
        assert visitor.post("/login", {"token": TOKEN}, **NAVIGATION).status_code == 403


def test_an_unknown_address_is_a_page_for_a_browser_and_a_document_for_a_program(server: Server) -> None:
    answer = server.get("/nowhere")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    with Visitor(server) as visitor:
        page = visitor.get("/<b>nowhere", headers={"Accept": "text/html,*/*"})
    assert page.status_code == 404
    assert "no page &#39;/&lt;b&gt;nowhere&#39;" in page.text.lower()


def test_the_page_of_the_api_comes_from_the_package(folder: Path) -> None:
    with thread_server(folder, protect_reads=True, env=PROTECTED) as server, Visitor(server) as visitor:
        for path in ("/docs", "/docs/openapi.json"):
            assert visitor.get(path).headers["location"].startswith("/login"), path
        visitor.log_in()
        page = visitor.get("/docs")
        assert "https://" not in page.text
        assert "script-src 'self';" in page.headers["Content-Security-Policy"]
        for address in re.findall(r'(?:href|src)="(/docs/[^"]*)"', page.text):
            assert visitor.get(address).status_code == 200, address
        assert visitor.get("/docs/openapi.json").json()["openapi"].startswith("3.1")
        assert visitor.get("/openapi.json").status_code == 401, "the API ignores the cookie"


def test_pages_and_the_api_have_no_address_in_common(server: Server) -> None:
    api = {path.split("/")[1] for path in server.get("/openapi.json").json()["paths"]} | {"openapi.json"}
    assert not api & {route.path.split("/")[1] for route in ROUTES}


def test_every_template_compiles_and_escapes() -> None:
    names = environment().list_templates()
    assert names
    for name in names:
        environment().get_template(name)
        source = environment().loader.get_source(environment(), name)[0]  # type: ignore[union-attr]
        assert "|safe" not in source.replace(" ", ""), name
        assert "autoescape" not in source, name


def test_a_hint_shows_commands_as_code_and_text_as_text() -> None:
    assert hint("Run `retrainer train '<b>'` now") == "Run <code>retrainer train &#39;&lt;b&gt;&#39;</code> now"
    assert hint("an odd ` in <i>") == "an odd ` in &lt;i&gt;"


def test_a_slow_result_is_computed_once_and_kept() -> None:
    background, calls, go = Background(), [], threading.Event()

    def compute() -> str:
        calls.append(1)
        assert go.wait(PATIENCE)
        return "made"

    assert background.get("key", compute, wait=0) is None
    assert background.get("key", compute, wait=0) is None
    go.set()
    assert background.get("key", compute, wait=PATIENCE) == "made"
    assert background.get("key", compute, wait=0) == "made"
    assert len(calls) == 1


def test_an_old_result_is_shown_until_there_is_a_newer_one() -> None:
    background, go = Background(), threading.Event()
    assert background.get("key", lambda: "old", wait=PATIENCE) == "old"

    def compute() -> str:
        assert go.wait(PATIENCE)
        return "new"

    assert background.get("key", compute, max_age=0, wait=0) == "old"
    go.set()
    assert background.get("key", compute, max_age=0, wait=PATIENCE) == "new"


def test_a_failed_computation_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    background = Background()

    def fail() -> str:
        raise ValueError("broken")

    assert background.get("key", fail, wait=PATIENCE) is None
    assert "Unexpected ValueError" in caplog.text
    assert background.get("key", lambda: "made", wait=PATIENCE) == "made"
