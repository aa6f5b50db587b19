"""The endpoints: their documents, and the answers to invalid requests."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.conftest import PATIENCE
from tests.programs import installed
from tests.shared import requirements

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.conftest import Serve, Server
    from tests.command_line import Runner

# The endpoints of the specification: how each is called there, and the fields of its answer.
VERSION = {"version_id", "algorithm", "trained_at", "promoted_at", "num_training_samples"}
ENDPOINTS = {
    "/models/production": {"timing_model", "content_model", *VERSION},
    "/models/versions": {
        "versions",
        "count",
        "version_id",
        "model_type",
        "algorithm",
        "trained_at",
        "status",
        "is_production",
        "num_training_samples",
        "training_duration_seconds",
    },
    "/models/training-history": {
        "training_runs",
        "count",
        "run_id",
        "model_version_id",
        "started_at",
        "completed_at",
        "duration_seconds",
        "status",
        "test_mae_hours",
        "test_within_6h_accuracy",
        "promoted_to_production",
        "promotion_reason",
    },
    "/models/retrain": {"status", "message", "note", "run_ids"},
    "/models/promote/": {"status", "message", "version_id"},
    "/models/compare/": {
        "version_a",
        "version_b",
        "version_id",
        "score",
        "winner",
        "improvement_percentage",
        "recommendation",
        "reason",
    },
}
CURL_LINES = [
    "curl http://localhost:8000/models/production",
    'curl "http://localhost:8000/models/versions?model_type=timing&limit=5"',
    'curl "http://localhost:8000/models/training-history?limit=10"',
    "curl -X POST http://localhost:8000/models/retrain",
    'curl -X POST "http://localhost:8000/models/promote/prophet_timing_20251106_120000_a3f2"',
    'curl "http://localhost:8000/models/compare/prophet_timing_OLD/prophet_timing_NEW"',
]


def keys_of(document: Any) -> set[str]:
    """Return every key of a document, at any depth."""
    if isinstance(document, dict):
        return set(document).union(*map(keys_of, document.values()))
    return set().union(*map(keys_of, document)) if isinstance(document, list) else set()


def called_as_in(line: str, server: Server, versions: tuple[str, str]) -> tuple[str, dict[str, Any]]:
    """Run a curl line, with our host and versions; return the endpoint and the document."""
    old, new = versions
    ours = line.partition("|")[0].replace("http://localhost:8000", server.url)
    words = shlex.split(
        re.sub(r"compare/[\w/]+", f"compare/{old}/{new}", re.sub(r"promote/\w+", f"promote/{new}", ours))
    )
    command = [installed("curl"), "--silent", "--show-error", "--fail-with-body", *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    (endpoint,) = (known for known in ENDPOINTS if words[-1].startswith(server.url + known))
    return endpoint, json.loads(done.stdout)


def test_every_endpoint_returns_its_specified_fields(two_versions: tuple[str, str], serve: Serve) -> None:
    server = serve()
    seen = set()
    for line in CURL_LINES:
        endpoint, document = called_as_in(line, server, two_versions)
        assert ENDPOINTS[endpoint] <= keys_of(document), line
        seen.add(endpoint)
    assert seen == set(ENDPOINTS)


def test_every_curl_line_of_the_specification_returns_its_documented_fields(
    two_versions: tuple[str, str], serve: Serve
) -> None:
    text = requirements()
    lines = re.findall(r"^curl .*$", text, re.MULTILINE)
    assert set(CURL_LINES) <= set(lines)
    documented = {}
    for heading, section in re.findall(r"^### \w+ (/models/\S+)\n(.*?)^---|^### ", text, re.MULTILINE | re.DOTALL):
        if heading:
            block = section.partition("Response:\n```json")[2].partition("```")[0]
            documented[heading.partition("{")[0]] = set(re.findall(r'"(\w+)":', block))
    server = serve()
    for line in lines:
        endpoint, document = called_as_in(line, server, two_versions)
        wanted = documented.get(endpoint, ENDPOINTS[endpoint])
        assert wanted, line
        assert wanted <= keys_of(document), line


def test_the_api_returns_the_documents_of_the_command_line(
    two_versions: tuple[str, str], serve: Serve, retrainer: Runner
) -> None:
    old, new = two_versions
    server = serve()
    for path, arguments in {
        "/models/production": ["production"],
        "/models/versions?model_type=timing&limit=5": ["versions", "--type", "timing", "--limit", "5"],
        f"/models/versions/{new}": ["show", new],
        "/models/training-history?limit=2&page=2": ["history", "--limit", "2", "--page", "2"],
        "/models/training-history?status=completed&promoted=false": [
            "history",
            "--status",
            "completed",
            "--not-promoted",
        ],
        f"/models/compare/{old}/{new}": ["compare", old, new],
    }.items():
        assert server.get(path).json() == retrainer(*arguments, "--json").json, path


def test_the_latest_changes_are_the_same_for_every_page_and_filter(
    two_versions: tuple[str, str], serve: Serve, retrainer: Runner
) -> None:
    old, new = two_versions
    server = serve()
    for version in (new, old, new):
        server.post(f"/models/promote/{version}")
    latest = [change["to_version_id"] for change in server.get("/models/training-history").json()["changes"]][:2]
    assert latest == [new, old]
    for filters in ("page=3", "promoted=false", "status=failed"):
        history = server.get(f"/models/training-history?limit=2&{filters}").json()
        assert [change["to_version_id"] for change in history["changes"]] == latest, filters
    described = server.get("/openapi.json").json()["components"]["schemas"]["History"]["properties"]["changes"]
    assert "the same on every page" in described["description"]
    assert "Latest changes of production" in retrainer("history", "--not-promoted").out


def test_the_next_forecast_of_each_type(trained: str, serve: Serve, retrainer: Runner) -> None:
    server = serve()
    timing = server.get("/models/predict/timing?interval=0.5").json()
    assert timing["version_id"] == trained
    assert timing["interval"]["level"] == 0.5
    assert timing.keys() == retrainer("predict", "timing", "--json").json.keys()
    days = server.get("/models/predict/timing?until=2d&next=3").json()["simulation"]
    assert days["until"] == days["days"][-1]["end"]
    assert len(days["posts"]) <= 3
    assert server.get("/models/predict/content").json()["text"]


def test_a_forecast_as_of_a_past_time(trained: str, serve: Serve) -> None:
    """The sample posts end in October 2024, so today they are stale."""
    del trained
    server = serve()
    now = server.get("/models/predict/timing").json()
    last = now["last_post_at"]
    assert (now["stale"], now["origin_at"], now["at"]) == (True, last, now["made_at"])
    right_after = server.get("/models/predict/timing?at=last&until=1d").json()
    assert (right_after["stale"], right_after["origin_at"], right_after["at"]) == (False, last, last)
    assert right_after["simulation"]["total"]["start"] == last
    assert now["as_of_last_post"] == {key: right_after[key] for key in now["as_of_last_post"]}
    assert right_after["as_of_last_post"] is None
    earlier = server.get("/models/predict/timing?at=2024-08-01").json()
    assert earlier["at"] == "2024-08-01T00:00:00Z"
    assert earlier["origin_at"] < earlier["at"] < earlier["next_post_at"]
    text = server.get("/models/predict/content?at=last").json()
    assert (text["at"], text["stale"]) == (last, False)


def test_promote_and_roll_back(two_versions: tuple[str, str], serve: Serve, folder: Path, retrainer: Runner) -> None:
    old, new = two_versions
    server = serve()
    promoted = server.post(f"/models/promote/{new}", json={"reason": "reviewed"}).json()
    assert promoted == {
        "status": "success",
        "message": f"Model {new} promoted to production",
        "stream": "default",
        "version_id": new,
        "from_version_id": old,
        "changed": True,
    }
    assert (folder / "models" / "timing_model").readlink().name == new
    assert server.post(f"/models/promote/{new}").json()["changed"] is False
    back = server.post("/models/rollback/timing", json={"reason": "too many misses", "hold": False}).json()
    assert (back["version_id"], back["from_version_id"]) == (old, new)
    assert "hold" not in back["message"]
    reasons = [change["reason"] for change in server.get("/models/training-history").json()["changes"]]
    assert reasons[:2] == ["too many misses", "reviewed"]
    nothing_left = server.post("/models/rollback/timing")
    assert nothing_left.status_code == 409
    assert nothing_left.json()["error"]["code"] == "nothing_to_roll_back"
    assert server.get("/models/production").json()["timing_model"]["refit_through"] is None
    again = server.post(f"/models/promote/{new}", json={"refit": True})
    assert again.status_code == 200, again.text
    live = server.get("/models/production").json()["timing_model"]
    assert live["refit_through"] > live["trained_through"]
    assert server.get("/models/predict/timing").json()["version_id"] == new
    assert server.post("/models/rollback/timing", json={"to": old}).json()["version_id"] == old
    assert "on hold" in retrainer("production").out


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/models/versions?limit=0", 422, "limit: invalid value '0': should be greater than or equal to 1"),
        ("/models/versions?limit=-1", 422, "limit: invalid value '-1'"),
        ("/models/versions?limit=1000000000", 422, "limit: invalid value '1000000000': should be less than"),
        ("/models/versions?limit=ten", 422, "limit: invalid value 'ten'"),
        ("/models/versions?limit=" + "9" * 5000, 422, "limit: invalid value '99999"),
        ("/models/versions?model_type=timming", 422, "model_type: invalid value 'timming'"),
        ("/models/versions?lmit=3", 422, "unknown parameter 'lmit'"),
        ("/models/versions?limit=1&limit=2", 422, "the parameter 'limit' is given more than once"),
        ("/models/production?stream=default&stream=a", 422, "the parameter 'stream' is given more than once"),
        ("/models/training-history?page=0", 422, "page: invalid value '0'"),
        ("/models/training-history?limit=0", 422, "limit: invalid value '0'"),
        ("/models/training-history/run_x", 404, "unknown run 'run_x'"),
        ("/models/training-history/%00", 404, "unknown run '\0'"),
        ("/models/versions/none", 404, "unknown version 'none'"),
        ("/models/versions/..%2f..%2fetc%2fpasswd", 404, "not found"),
        ("/models/versions/%2e%2e", 404, "unknown version '..'"),
        ("/models/versions/%00", 404, "unknown version '\0'"),
        ("/models/versions/a%00b", 404, "unknown version 'a\0b'"),
        ("/models/versions/%ff%fe", 404, "unknown version"),
        ("/models/versions/" + "v" * 10_000, 422, "version_id: invalid value 'vvvvvv"),
        ("/models/compare/none/none", 404, "unknown version 'none'"),
        ("/models/predict/both", 404, "not found"),
        ("/models/predict/content?interval=0.5", 422, "unknown parameter 'interval'"),
        ("/models/predict/timing?interval=nan", 422, "interval: invalid value 'nan'"),
        ("/models/predict/timing?interval=1", 422, "interval: invalid value '1'"),
        (
            "/models/predict/timing?at=soon",
            422,
            "at: 'soon' is not a time (write it like 2024-10-31T12:00:00Z, or last)",
        ),
        ("/models/predict/timing?at=9999-01-01", 422, "at: '9999-01-01T00:00:00Z' is in the future"),
        ("/models/predict/content?at=", 422, "at: '' is not a time"),
        ("/models/predict/timing?until=soon", 422, "until: 'soon' is not a time"),
        ("/models/predict/timing?until=2024-01-01", 422, "until: '2024-01-01T00:00:00Z' is not after"),
        ("/models/predict/timing?until=32d", 422, "until: "),
        ("/models/predict/timing?next=0", 422, "next: invalid value '0'"),
        ("/models/predict/timing?next=1000", 422, "next: invalid value '1000'"),
        ("/nothing", 404, "not found"),
        ("/models/promote/x", 405, "method not allowed"),
    ],
)
def test_invalid_requests(path: str, status: int, message: str, bad_input_server: Server) -> None:
    answer = bad_input_server.get(path)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"].startswith(message)
    assert len(answer.text) < 1000, "what was sent is not sent back whole"


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/models/promote/none", "", 404, "unknown version 'none'"),
        ("/models/promote/%2e%2e", "", 404, "unknown version '..'"),
        ("/models/promote/a%2fb", "", 404, "not found"),
        ("/models/promote/%00", "", 404, "unknown version '\0'"),
        ("/models/promote/" + "v" * 10_000, "", 422, "version_id: invalid value 'vvvv"),
        ("/models/promote/none", "{", 422, "body: not JSON"),
        ("/models/promote/none", "[" * 200_000, 400, "there was an error parsing the body"),
        ("/models/promote/none", '{"raison": "x"}', 422, "unknown key 'raison' in the body"),
        ("/models/promote/none", '{"reason": "\\u0000"}', 422, "reason: invalid value '\0'"),
        ("/models/promote/none", '{"reason": "\\ud800"}', 422, "reason: invalid value '\\ud800'"),
        ("/models/promote/none", '{"reason": ""}', 422, "reason: invalid value ''"),
        ("/models/promote/none", '{"reason": 1e999}', 422, "reason: invalid value 'inf'"),
        ("/models/promote/none", b"\xc3", 400, "there was an error parsing the body"),
        ("/models/rollback/both", "", 422, "model_type: invalid value 'both'"),
        ("/models/rollback/timing", '{"to": "none"}', 404, "unknown version 'none'"),
        ("/models/rollback/timing", '{"to": "\\u0000"}', 404, "unknown version '\0'"),
        ("/models/rollback/timing", '{"hold": "yes"}', 422, "hold: invalid value 'yes'"),
        ("/models/retrain", '{"model_type": "both"}', 422, "model_type: invalid value 'both'"),
        ("/models/retrain", '["timing"]', 422, "body: "),
        ("/models/retrain?model_type=timing", "", 422, "unknown parameter 'model_type'"),
    ],
)
def test_invalid_bodies(path: str, body: str | bytes, status: int, message: str, bad_input_server: Server) -> None:
    answer = bad_input_server.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"].startswith(message)


def test_other_methods_are_refused_and_the_allowed_ones_named(bad_input_server: Server) -> None:
    for method in ("PUT", "DELETE", "PATCH"):
        answer = bad_input_server.request(method, "/models/retrain")
        assert answer.status_code == 405
        assert answer.headers["Allow"] == "POST"


def test_a_request_before_the_first_version_is_a_conflict(folder: Path, serve: Serve) -> None:
    server = serve()
    assert server.get("/models/production").json() == {
        "stream": "default",
        "timing_model": None,
        "content_model": None,
    }
    answer = server.get("/models/predict/timing")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "nothing_in_production"
    assert server.post("/models/rollback/timing").status_code == 409


def test_internal_errors_are_logged_and_not_revealed(trained: str, serve: Serve, folder: Path) -> None:
    manifest = folder / "models" / "timing" / trained / "manifest.json"
    manifest.write_text(json.dumps({"format": 1}))
    server = serve()
    answer = server.get("/models/predict/timing")
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "artifact"
    assert any("manifest.json" in line for line in server.lines)
