"""Changes by the pages, as an attacker or a second visitor tries them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from selectolax.lexbor import LexborHTMLParser

from retrainer.pipeline.run import retrain
from tests.api.conftest import thread_server, train_two_versions
from tests.conftest import open_project, runtime_of
from tests.web.conftest import PROTECTED
from tests.web.hostile import MARKUP
from tests.web.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from retrainer.registry.registry import Registry
    from tests.api.conftest import Server
    from tests.conftest import Prepare


@pytest.fixture
def versions(folder: Path, prepare: Prepare) -> tuple[str, str]:
    """Two timing versions, the first of them in production."""
    return prepare(folder, train_two_versions)


@pytest.fixture
def server(versions: tuple[str, str], folder: Path) -> Iterator[Server]:
    with thread_server(folder, env=PROTECTED) as started:
        yield started


@pytest.fixture
def registry(versions: tuple[str, str], folder: Path) -> Registry:
    return open_project(folder).registry


ADDRESSES = (
    "/action/promote?version={1}",
    "/action/rollback?type=timing",
    "/action/hold?type=timing",
    "/action/release?type=timing",
    "/action/pin?version={0}",
    "/action/unpin?version={0}",
    "/action/retrain",
)


def state(registry: Registry) -> tuple[object, ...]:
    """Return what an action changes."""
    entries, runs = registry.list_ledger_entries(limit=100), registry.list_runs(limit=100)
    return len(entries), len(runs), registry.get_hold("timing"), [one.pinned for one in registry.list_versions()]


def raw_markup(page: str) -> list[str]:
    """Return the elements of a page that only a hostile text can have made."""
    return [
        node.html or "" for node in LexborHTMLParser(page).css("#pwned, [onerror], [onload], iframe, script:not([src])")
    ]


def test_neither_a_look_nor_a_forged_form_changes_anything(
    versions: tuple[str, str], server: Server, registry: Registry
) -> None:
    before = state(registry)
    with Visitor(server) as victim, Visitor(server) as attacker, Visitor(server) as stranger:
        assert victim.log_in().status_code == attacker.log_in().status_code == 303
        for address in ADDRESSES:
            path = address.format(*versions)
            for _ in range(2):
                victim.get(path)
                victim.client.head(path)
            answer = stranger.post(path, {"csrf": "", "seen": versions[0]})
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/login?next=")
            if attacker.get(path).status_code != 200:
                continue  # there is nothing to release, for example
            form = attacker.find_form(path, "/action")
            for fields in ({**form.fields, "csrf": ""}, {**form.fields, "csrf": "x" * 64}, form.fields):
                assert victim.post(form.address, fields).status_code == 403, path
            own = victim.find_form(path, "/action")
            for headers in (
                {"Origin": "https://evil.example"},
                {"Origin": "null"},
                {"Origin": server.url, "Sec-Fetch-Site": "cross-site"},
                {"Origin": server.url, "Sec-Fetch-Site": "same-site"},
                {"Origin": server.url, "Host": "evil.example"},
            ):
                assert victim.client.post(own.address, data=own.fields, headers=headers).status_code == 403, path
            assert victim.client.put(own.address, data=own.fields, headers={"Origin": server.url}).status_code == 405
    assert state(registry) == before


def test_a_confirmation_that_is_out_of_date_is_shown_again(
    versions: tuple[str, str], server: Server, folder: Path, registry: Registry
) -> None:
    """Two people have the same page open; the second one does not undo what the first one did unseen."""
    project = open_project(folder)
    now = datetime(2024, 6, 3, tzinfo=UTC)
    run = retrain(project, runtime_of(project), "timing", now, as_of=True, auto_promote=False).run
    assert run is not None
    third = str(run.model_version_id)
    with Visitor(server) as one, Visitor(server) as other:
        assert one.log_in().status_code == other.log_in().status_code == 303
        form = other.find_form(f"/action/promote?version={versions[1]}", "/action")
        assert one.send(one.find_form(f"/action/promote?version={third}", "/action")).status_code == 303
        before = state(registry)
        answer = other.send(form)
        assert answer.status_code == 409
        assert third in answer.text  # what it would replace now
        assert state(registry) == before
        rollback = other.find_form("/action/rollback?type=timing", "/action")
        assert one.send(one.find_form(f"/action/promote?version={versions[1]}", "/action")).status_code == 303
        before = state(registry)
        assert other.send(rollback).status_code == 409
        assert state(registry) == before


def test_hostile_parameters_are_errors_that_show_them_as_text(server: Server, registry: Registry) -> None:
    before = state(registry)
    with Visitor(server) as visitor:
        assert visitor.log_in().status_code == 303
        for text in (*MARKUP, "../../etc/passwd", "%00", "\x00", "'; DROP TABLE retrainer_model_versions; --"):
            for path, parameter in (("promote", "version"), ("rollback", "type"), ("pin", "stream"), ("hold", text)):
                answer = visitor.get(f"/action/{path}", params={parameter: text})
                assert 400 <= answer.status_code < 500, (path, text)
                assert not raw_markup(answer.text), (path, text)
                assert answer.headers["content-type"].startswith(("text/html", "application/json"))
        for name in ("promote.html", "__class__", "..%2f..%2fadmin", "promote/x", "Promote"):
            assert visitor.get(f"/action/{name}").status_code == 404, name
    assert state(registry) == before
    assert "Traceback" not in "".join(server.lines)


@pytest.mark.slow
def test_a_hostile_reason_is_recorded_and_shown_as_text(
    versions: tuple[str, str], server: Server, registry: Registry
) -> None:
    with Visitor(server) as visitor:
        assert visitor.log_in().status_code == 303
        for reason in MARKUP[:6]:
            for path in (f"/action/promote?version={versions[1]}", "/action/rollback?type=timing"):
                answer = visitor.send(visitor.find_form(path, "/action"), reason=reason)
                assert answer.status_code == 303, answer.text
                page = visitor.get(answer.headers["location"]).text
                for path_shown in ("/runs", f"/version/{versions[1]}"):
                    page += visitor.get(path_shown).text
                assert not raw_markup(page)
        form = visitor.find_form(f"/action/promote?version={versions[1]}", "/action")
        assert visitor.send(form, reason="x" * 100_000).status_code == 422
        assert visitor.send(form, reason="\x00").status_code == 422
        assert visitor.send(form, reason="\ud800".encode("utf-8", "surrogatepass").decode("latin-1")).status_code == 303
    reasons = {entry.reason for entry in registry.list_ledger_entries(limit=100)}
    assert MARKUP[0] in reasons


def test_a_promotion_sent_twice_is_made_once(versions: tuple[str, str], server: Server, registry: Registry) -> None:
    with Visitor(server) as visitor:
        assert visitor.log_in().status_code == 303
        form = visitor.find_form(f"/action/promote?version={versions[1]}", "/action")
        answers = [visitor.send(form).status_code for _ in range(3)]
    assert answers[0] == 303
    assert not {200, 500} & set(answers)
    promotions = [one for one in registry.list_ledger_entries(limit=100) if one.action == "promotion"]
    assert [one.to_version_id for one in promotions].count(versions[1]) == 1
