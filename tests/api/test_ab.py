"""An A/B test over HTTP: started, answering callers by their side, decided by the posts that come."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.conftest import TOKEN, WITH_TOKEN
from tests.conftest import open_project
from tests.live.ab_project import Versions, add_algorithms, add_posts_since_start, binomial_range, train_versions

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.conftest import Serve, ServeProcess, Server
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins

SHARE = 30
SUBJECTS = [f"reader-{number}" for number in range(200)]
TEST = "/models/ab-tests/timing"


@pytest.fixture
def environ(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a server with the algorithms and a token."""
    add_algorithms(plugins)
    monkeypatch.syspath_prepend(str(plugins.site))
    return {**plugins.environ, "RETRAINER_API_TOKEN": TOKEN}


@pytest.fixture
def versions(environ: dict[str, str], folder: Path, prepare: Prepare) -> Versions:
    """The versions of the project."""
    return prepare(folder, train_versions)


def ask(server: Server, subject: str) -> tuple[str | None, str]:
    """Return the side and the version that answer a subject."""
    answer = server.get("/models/predict/timing", params={"subject": subject})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document["side"], document["version_id"]


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_an_ab_test_from_start_to_decision(
    versions: Versions, environ: dict[str, str], folder: Path, serve_process: ServeProcess
) -> None:
    server = serve_process(env=environ)
    assert server.get(TEST).status_code == 404
    options = {"challenger": versions.near, "share": SHARE, "reason": "try it"}
    assert server.post(f"{TEST}/start", json=options).status_code == 401
    started = server.post(f"{TEST}/start", json=options, headers=WITH_TOKEN)
    assert started.status_code == 200, started.text
    test = started.json()
    assert (test["status"], test["num_posts"], test["share"]) == ("running", 0, SHARE)
    twice = server.post(f"{TEST}/start", json=options, headers=WITH_TOKEN)
    assert (twice.status_code, twice.json()["error"]["code"]) == (409, "ab_test")

    with ThreadPoolExecutor(8) as callers:
        asked = list(callers.map(lambda subject: ask(server, subject), SUBJECTS))
        again = list(callers.map(lambda subject: ask(server, subject), SUBJECTS[::4]))
    assert asked[::4] == again, "the same subject is always on the same side"
    low, high = binomial_range(len(SUBJECTS), SHARE / 100)
    count = Counter(asked)
    assert set(count) == {("production", versions.production), ("challenger", versions.near)}
    assert low <= count["challenger", versions.near] <= high

    project = open_project(folder)
    add_posts_since_start(project, 40)
    assert server.get(TEST).json()["num_posts"] == 0, "a GET changes nothing"
    assert server.post(f"{TEST}/decide").status_code == 401
    decided = server.post(f"{TEST}/decide", headers=WITH_TOKEN).json()
    assert (decided["status"], decided["outcome"], decided["num_posts"]) == ("ended", "promoted", 40)
    assert decided["evidence_for_challenger"] >= decided["threshold"] == 40
    assert server.get(TEST).json() == decided
    assert server.get("/models/production").json()["timing_model"]["version_id"] == versions.near
    assert ask(server, SUBJECTS[0]) == (None, versions.near)
    ledger = server.get(f"/models/versions/{versions.near}").json()["ledger"]
    assert [entry["action"] for entry in ledger[:3]] == ["ab_end", "promotion", "ab_start"]
    for entry in ledger[:2]:
        assert entry["automatic"]
        assert entry["evidence"]["test_id"] == test["test_id"]
        assert entry["evidence"]["evidence_for_challenger"] >= 40


def test_a_test_is_stopped_and_bad_requests_are_refused(
    versions: Versions, environ: dict[str, str], serve: Serve
) -> None:
    server = serve(env=environ)

    def post(path: str, status: int, **options: object) -> dict[str, Any]:
        answer = server.post(f"/models/ab-tests/{path}", headers=WITH_TOKEN, json=options)
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        return found

    assert "no A/B test of timing is running" in post("timing/stop", 409)["error"]["message"]
    assert "is in production" in post("timing/start", 409, challenger="@production")["error"]["message"]
    for options in (
        {},
        {"challenger": "@latest", "share": 101},
        {"challenger": "@latest", "level": 0},
        {"challenger": "@latest", "max_posts": 0},
        {"challenger": "@latest", "reason": "a\0b"},
        {"challenger": "@latest", "shares": 1},
    ):
        post("timing/start", 422, **options)
    post("timing/start", 404, challenger="no_such")
    post("content/start", 422, challenger=versions.near)
    assert post("timing/start", 200, challenger=versions.near, share=50)["status"] == "running"
    for subject in ("", "a\nb", "a\0b", "é" * 1_000, "x" * 10_000, "'; --"):
        assert ask(server, subject) == ask(server, subject)
    post("timing/stop", 422, outcome="win")
    stopped = post("timing/stop", 200, outcome="keep", reason="enough")
    assert (stopped["outcome"], stopped["reason"]) == ("kept", "enough")
    assert server.get("/models/ab-tests/content").status_code == 404
