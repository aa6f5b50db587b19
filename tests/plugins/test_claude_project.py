"""`claude_api` in a project: the real command line, the real SDK, a local server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from retrainer.algorithms.testing import check_algorithm
from tests.claude_server import KEY, ClaudeServer, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.command_line import Runner


@pytest.fixture
def server() -> Iterator[ClaudeServer]:
    with ClaudeServer() as running:
        yield running


@pytest.fixture
def environ(server: ClaudeServer) -> dict[str, str]:
    return {**server.environ, "RETRAINER_CONTENT_MODEL__ALGORITHM": "claude_api"}


@pytest.mark.slow
def test_claude_api_passes_the_conformance_suite(server: ClaudeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    check_algorithm("claude_api", options={"examples": 4})


@pytest.mark.usefixtures("posts")
def test_it_trains_evaluates_compares_and_predicts(
    server: ClaudeServer, environ: dict[str, str], retrainer: Runner
) -> None:
    environ["RETRAINER_RETRAINING__REFIT"] = "true"  # which makes no calls
    first = retrainer("train", "content", "--json", env=environ)
    assert first.code == 0, first.err
    live = retrainer("production", "--json", env=environ).json["content_model"]
    assert live["refit_through"] > live["trained_through"]
    (run,) = first.json["training_runs"]
    assert run["promoted_to_production"]
    assert run["evaluation"]["metrics"]["tokens"] > 0
    assert run["evaluation"]["metrics"]["cost_usd"] > 0
    assert len(server.requests) == 20
    assert retrainer("evaluate", run["model_version_id"], env=environ).code == 0
    assert len(server.requests) == 40
    second = retrainer("train", "content", "--json", env=environ).json["training_runs"][0]
    assert second["comparison"]["num_predictions"] == 20
    predicted = retrainer("predict", "content", "--json", env=environ)
    assert predicted.json["text"]
    assert predicted.json["outcome"] == "ok"


@pytest.mark.usefixtures("posts")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://u:secret@127.0.0.1:1"),  # its package is not installed
        ("ANTHROPIC_BASE_URL", "u:secret@api.example.com"),
        *(
            pytest.param(name, value, marks=pytest.mark.slow)
            for name, value in [
                ("HTTPS_PROXY", "ftp://u:secret@127.0.0.1:1"),
                ("https_proxy", "http://u:secret@[::1"),
                ("NO_PROXY", "localhost,[::1]:80:80"),
                ("SSL_CERT_FILE", "/no/such/file"),
                ("ANTHROPIC_BASE_URL", "http://u:secret@[::1"),
            ]
        ),
    ],
)
def test_a_wrong_environment_variable_is_named_before_anything_is_trained(
    name: str, value: str, environ: dict[str, str], retrainer: Runner
) -> None:
    done = retrainer("train", "content", "--json", env={**environ, name: value})
    assert done.code == 2
    assert name in done.json["training_runs"][0]["error"]
    assert "secret" not in done.out + done.err
    assert "Exception ignored" not in done.err


@pytest.mark.usefixtures("posts")
def test_a_dry_run_makes_no_calls(server: ClaudeServer, environ: dict[str, str], retrainer: Runner) -> None:
    done = retrainer("train", "content", "--dry-run", env=environ)
    assert done.code == 0
    assert "Not evaluated: up to 20 paid forecasts of each version would be needed" in done.err
    assert server.requests == []


@pytest.mark.usefixtures("posts")
def test_refusals_are_counted_and_the_others_are_scored(
    server: ClaudeServer, environ: dict[str, str], retrainer: Runner
) -> None:
    server.enqueue(refusal())
    (run,) = retrainer("train", "content", "--json", env=environ).json["training_runs"]
    assert run["evaluation"]["metrics"]["refusals"] == 1
    assert run["evaluation"]["num_predictions"] == 19
    assert run["evaluation"]["baseline"]["metrics"]["num_predictions"] == 19


@pytest.mark.usefixtures("posts")
def test_the_key_reaches_neither_the_output_nor_the_project(
    environ: dict[str, str], retrainer: Runner, folder: Path
) -> None:
    done = retrainer("--verbose", "train", "content", "--json", env=environ)
    assert KEY not in done.out + done.err
    for path in folder.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()


@pytest.mark.usefixtures("posts")
def test_without_credentials_nothing_is_sent_and_production_stays(server: ClaudeServer, retrainer: Runner) -> None:
    environ = {"ANTHROPIC_BASE_URL": server.url, "RETRAINER_CONTENT_MODEL__ALGORITHM": "claude_api"}
    done = retrainer("train", "--quiet", env=environ)
    assert done.code == 2
    line = done.err.splitlines()[0]
    assert line.startswith("ERROR: Model training failed: no credentials for the Claude API")
    assert "ANTHROPIC_API_KEY" in line
    assert server.requests == []
    production = retrainer("production", "--json").json
    assert production["timing_model"] is not None
    assert production["content_model"] is None


@pytest.mark.usefixtures("posts")
def test_credentials_for_production_are_checked_before_any_work(environ: dict[str, str], retrainer: Runner) -> None:
    """The candidate needs no key, but the production version does."""
    assert retrainer("train", "content", env=environ).code == 0
    done = retrainer("train", "content", "--algorithm", "baseline", "--json")
    assert done.code == 2
    assert done.json["errors"][0]["code"] == "missing_credentials"
    assert done.json["training_runs"][0]["model_version_id"] is None
