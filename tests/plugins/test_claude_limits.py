"""The limits of `claude_api`, its retries, and the cache that prevents paying twice."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import signal
import socket
import stat
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from retrainer.algorithms.answer_cache import AnswerCache
from retrainer.algorithms.budget import Budget, BudgetExceeded
from retrainer.errors import AlgorithmError, ConfigError
from tests import claude_server
from tests.claude_server import KEY, ClaudeServer, Reply
from tests.plugins.test_claude import before, make_posts, markers_in, predict, question

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.model_types.content import ContentForecast
    from tests.command_line import Runner

TWENTY = range(90, 110)
PRICED = {"input": 1.0, "output": 5.0, "cache_write": 1.25, "cache_read": 0.1, "as_of": "2026-01-01"}
EXPENSIVE = {"prices": {"claude-haiku-5-5": PRICED}}


def predict_twenty(claude: LoadedAlgorithm, budget: Budget | None = None, **given: Any) -> list[ContentForecast]:
    posts = make_posts()
    return predict(claude, posts, before(posts, *TWENTY), budget=budget, **given)


@contextmanager
def open_budget(answers: Path | None) -> Iterator[Budget]:
    budget = Budget(AnswerCache(answers))
    yield budget
    budget.answers.clear_used()


def outcomes(forecasts: list[ContentForecast]) -> list[str]:
    return [forecast.outcome for forecast in forecasts]


# --- the budget -----------------------------------------------------------------------------------


def test_a_budget_counts_calls_in_flight_at_their_estimate() -> None:
    budget = Budget()
    budget.reserve(0.4, max_calls=None, max_cost=1.0)
    budget.reserve(0.4, max_calls=None, max_cost=1.0)
    with pytest.raises(BudgetExceeded, match=r"could raise the cost above \$1 \(max_cost\)"):
        budget.reserve(0.4, max_calls=None, max_cost=1.0)
    budget.settle(0.4, 0.1)
    budget.reserve(0.4, max_calls=None, max_cost=1.0)
    assert budget.calls == 3
    assert budget.cost_usd == pytest.approx(0.1)
    assert budget.reserved_usd == pytest.approx(0.8)


def test_the_first_of_twenty_calls_is_made_alone(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    server.require_concurrent(19)
    forecasts = predict_twenty(claude, concurrency=19)
    assert outcomes(forecasts) == ["ok"] * 20
    assert len(server.requests) == 20
    assert server.max_concurrent == 19
    assert forecasts[0].cache_write_tokens > 0
    assert all(forecast.cache_read_tokens > 0 for forecast in forecasts[1:])
    assert all(forecast.latency_seconds > 0 for forecast in forecasts)


def test_retries_count_as_calls(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    server.reply_to("", claude_server.overloaded())
    with pytest.raises(AlgorithmError, match=r"20 of 20 forecasts failed, the last because .*max_calls"):
        predict_twenty(claude, max_calls=7, max_retries=2, concurrency=1)
    assert len(server.requests) == 7


def test_forecasts_before_the_limit_are_scored(
    claude: LoadedAlgorithm, server: ClaudeServer, caplog: pytest.LogCaptureFixture
) -> None:
    forecasts = predict_twenty(claude, max_calls=12)
    assert outcomes(forecasts).count("ok") == 12
    assert outcomes(forecasts).count("failed") == 8
    assert len(server.requests) == 12
    (warning,) = (record.message for record in caplog.records if record.levelno == logging.WARNING)
    assert "8 of 20 forecasts failed, the last because the limit of 12 calls (max_calls) is reached" in warning


def test_the_cost_never_exceeds_the_limit(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    with open_budget(None) as budget:
        forecasts = predict_twenty(claude, budget, max_cost=0.02, min_success_share=0, **EXPENSIVE)
    spent = sum(forecast.cost_usd for forecast in forecasts)
    assert 0 < spent <= 0.02
    assert budget.cost_usd == pytest.approx(spent)
    assert budget.reserved_usd == pytest.approx(0, abs=1e-12)
    assert 0 < len(server.requests) < 20


def test_a_lost_answer_counts_at_its_estimate(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    server.enqueue(claude_server.cut_short())
    with open_budget(None) as budget:
        forecasts = predict_twenty(claude, budget, **EXPENSIVE)
    assert outcomes(forecasts) == ["ok"] * 20
    assert sum(forecast.retries for forecast in forecasts) == 1
    answered = sum(forecast.cost_usd for forecast in forecasts)
    posts = make_posts()
    model = claude.train(posts[:80], claude.options(EXPENSIVE, "content"), "content")
    estimate = claude.estimate(model, posts, before(posts, TWENTY[0]), claude.options(EXPENSIVE, "content"), "content")
    assert estimate
    assert budget.cost_usd == pytest.approx(answered + estimate.cost_usd)


def test_a_rejected_call_costs_nothing(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    server.enqueue(claude_server.overloaded(), claude_server.rate_limited())
    with open_budget(None) as budget:
        forecasts = predict_twenty(claude, budget, **EXPENSIVE)
    assert budget.calls == 22
    assert budget.cost_usd == pytest.approx(sum(forecast.cost_usd for forecast in forecasts))


@pytest.mark.slow
def test_two_predictions_of_one_run_share_its_limit(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    """The second side makes other requests, so the cache has no answers to them."""
    with open_budget(None) as budget:
        first = predict_twenty(claude, budget, max_calls=30, min_success_share=0)
        second = predict_twenty(claude, budget, max_calls=30, min_success_share=0, examples=3)
    assert outcomes(first).count("ok") == 20
    assert outcomes(second).count("ok") == 10
    assert len(server.requests) == 30
    assert outcomes(predict_twenty(claude, max_calls=30)).count("ok") == 20, "another run has a budget of its own"


def test_the_estimate_is_an_upper_bound(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts = make_posts()
    config = claude.options(EXPENSIVE, "content")
    model = claude.train(posts[:80], config, "content")
    estimate = claude.estimate(model, posts, before(posts, *TWENTY), config, "content")
    assert not server.requests
    forecasts = predict_twenty(claude, None, **EXPENSIVE)
    assert estimate
    assert estimate.calls == 20
    assert estimate.input_tokens >= sum(forecast.input_tokens for forecast in forecasts)
    assert estimate.cost_usd >= sum(forecast.cost_usd for forecast in forecasts)


def test_expensive_calls_are_announced(
    claude: LoadedAlgorithm, server: ClaudeServer, caplog: pytest.LogCaptureFixture
) -> None:
    predict_twenty(claude, None, **EXPENSIVE)
    assert "may cost up to" not in caplog.text
    predict_twenty(claude, None, warn_above_cost=0.01, **EXPENSIVE)
    assert "The next 20 calls of 'claude-haiku-5-5' may cost up to $0." in caplog.text
    assert len(server.requests) == 40


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("retry_after", ["0.02", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_retry_after_is_respected(claude: LoadedAlgorithm, server: ClaudeServer, retry_after: str) -> None:
    server.enqueue(claude_server.rate_limited(retry_after))
    forecasts = predict_twenty(claude)
    assert forecasts[0].retries == 1
    assert outcomes(forecasts) == ["ok"] * 20


def test_a_retry_after_beyond_the_timeout_is_not_waited_for(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    """There is no second request, and the reason is the API's answer, not the timeout."""
    server.reply_to("", claude_server.rate_limited("3600"))
    with pytest.raises(AlgorithmError, match=r"the last because the Claude API answered with an error \(429 rate"):
        predict_twenty(claude, timeout_seconds=60)
    assert len(server.requests) == 20


def test_the_api_may_advise_against_a_retry(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    no_use = Reply(500, claude_server.server_error().body, {"x-should-retry": "false"})
    server.enqueue(no_use)
    assert predict_twenty(claude)[0].outcome == "failed"
    assert len(server.requests) == 20


ERRORS: dict[str, tuple[Reply, str]] = {
    "rate limit": (claude_server.rate_limited(), "retried"),
    "overload": (claude_server.overloaded(), "retried"),
    "server error": (claude_server.server_error(), "retried"),
    "broken mid-body": (claude_server.cut_short(), "retried"),
    "malformed": (claude_server.malformed(), "retried"),
    "web page": (claude_server.web_page(), "retried"),
    "bad request": (claude_server.bad_request(), "failed"),
    "refusal": (claude_server.refusal(), "refusal"),
    "truncated": (claude_server.truncated(), "truncated"),
    "empty text": (claude_server.empty(), "failed"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_each_error_has_its_outcome(claude: LoadedAlgorithm, server: ClaudeServer, name: str) -> None:
    reply, expected = ERRORS[name]
    server.enqueue(Reply(), reply)
    made = outcomes(predict_twenty(claude, concurrency=1))
    wanted = "ok" if expected == "retried" else expected
    assert made == ["ok", wanted, *["ok"] * 18]
    assert len(server.requests) == (21 if expected == "retried" else 20)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])
def test_random_errors_in_a_third_of_the_calls(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path, seed: int
) -> None:
    """In any order, limits hold, no answer is lost, and no request is repeated after an answer."""
    chance = random.Random(seed)  # noqa: S311  not a secret
    script = [chance.choice(list(ERRORS.values()))[0] if chance.random() < 0.3 else Reply() for _ in range(60)]
    server.enqueue(*script)
    with pytest.raises(ZeroDivisionError), open_budget(tmp_path / "answers") as budget:
        forecasts = predict_twenty(
            claude, budget, max_calls=26, max_retries=1, min_success_share=0, concurrency=4, **EXPENSIVE
        )
        1 / 0  # noqa: B018  the run comes to a bad end after the forecasts
    assert len(server.requests) <= 26
    assert budget.calls == len(server.requests)
    assert len(forecasts) == 20
    requested = {question(request) for request in server.requests}
    answered = {
        question(request)
        for request, reply in zip(server.requests, script, strict=False)
        if reply.status == 200 and reply.delivery == "sent" and not isinstance(reply.body, bytes)
    }
    assert len(list((tmp_path / "answers").glob("*.json"))) == len(answered)
    before_the_second = len(server.requests)
    with open_budget(tmp_path / "answers") as budget:
        again = predict_twenty(claude, budget, max_retries=5, concurrency=4, min_success_share=0, **EXPENSIVE)
    later = {question(request) for request in server.requests[before_the_second:]}
    assert not later & answered, "answered requests are not repeated"
    assert requested | later == {question(request) for request in server.requests}
    for first, second in zip(forecasts, again, strict=True):
        if first.outcome in {"ok", "refusal", "truncated"}:
            assert first == second
    assert not list((tmp_path / "answers").glob("*.json"))


# --- the answer cache -----------------------------------------------------------------------------


def test_cached_answers_are_private_and_contain_no_key_or_request(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path
) -> None:
    del server
    folder = tmp_path / "answers"
    with pytest.raises(ZeroDivisionError), open_budget(folder) as budget:
        predict_twenty(claude, budget)
        1 / 0  # noqa: B018
    files = list(folder.iterdir())
    assert len(files) == 20
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        content = path.read_text()
        assert KEY not in content
        assert "The latest posts" not in content
        assert set(json.loads(content)) == {"forecast", "problem"}


def test_answers_to_other_requests_are_not_reused(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path
) -> None:
    for examples in (5, 6):
        with pytest.raises(ZeroDivisionError), open_budget(tmp_path / "answers") as budget:
            predict_twenty(claude, budget, examples=examples)
            1 / 0  # noqa: B018
    assert len(server.requests) == 40


def test_identical_requests_of_one_prediction_are_separate_calls(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path
) -> None:
    posts = make_posts()
    with open_budget(tmp_path / "answers") as budget:
        predict(claude, posts, before(posts, 100, 100, 100), budget=budget)
    assert len(server.requests) == 3


def test_an_unwritable_cache_folder_is_a_warning(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "answers").write_text("a file stands in the way")
    with open_budget(tmp_path / "answers") as budget:
        assert outcomes(predict_twenty(claude, budget)) == ["ok"] * 20
    assert "Cannot cache an answer in" in caplog.text
    assert len(server.requests) == 20


@pytest.fixture
def environ(server: ClaudeServer) -> dict[str, str]:
    return {
        **server.environ,
        "RETRAINER_CONTENT_MODEL__ALGORITHM": "claude_api",
        "RETRAINER_CONTENT_MODEL__CLAUDE_API__CONCURRENCY": "1",
    }


@pytest.mark.slow
@pytest.mark.usefixtures("posts")
def test_the_run_after_a_killed_one_makes_only_the_missing_calls(
    server: ClaudeServer, environ: dict[str, str], retrainer: Runner, folder: Path
) -> None:
    """The eighth request is never answered; while it waits, the process is killed."""
    server.enqueue(*[Reply()] * 7, claude_server.hanging())
    process = subprocess.Popen(
        [sys.executable, "-m", "retrainer", "train", "content"],
        cwd=folder,
        env={**os.environ, **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server.wait_for_requests(8)
    process.send_signal(signal.SIGKILL)
    process.wait()
    answers = folder / ".retrainer" / "answers"
    assert len(list(answers.glob("*.json"))) == 7
    done = retrainer("train", "content", "--json", env=environ)
    assert done.code == 0, done.err
    assert len(server.requests) == 8 + 13
    assert "Reusing 7 of 20 answers, paid for by an earlier run" in done.err
    (run,) = done.json["training_runs"]
    assert run["evaluation"]["num_predictions"] == 20
    assert run["evaluation"]["metrics"]["tokens"] > run["tokens"] > 0
    assert not list(answers.glob("*.json"))
    assert retrainer("doctor").code == 0


@pytest.mark.usefixtures("posts")
def test_the_answers_of_a_failed_run_are_reused(
    server: ClaudeServer, environ: dict[str, str], retrainer: Runner, folder: Path
) -> None:
    server.enqueue(*[Reply()] * 5, claude_server.spend_limit())
    failed = retrainer("train", "content", "--json", env=environ)
    assert failed.code == 1
    (run,) = failed.json["training_runs"]
    assert run["status"] == "failed"
    assert run["tokens"] > 0
    assert run["cost_usd"] > 0
    assert len(list((folder / ".retrainer" / "answers").glob("*.json"))) == 5
    assert retrainer("production", "--json").json["content_model"] is None
    assert retrainer("train", "content", env=environ).code == 0
    assert len(server.requests) == 6 + 15


@pytest.mark.usefixtures("posts")
def test_the_record_of_a_run_has_its_cost(server: ClaudeServer, environ: dict[str, str], retrainer: Runner) -> None:
    server.enqueue(claude_server.refusal())
    (run,) = retrainer("train", "content", "--json", env=environ).json["training_runs"]
    assert run["refusals"] == 1
    assert run["tokens"] == run["evaluation"]["metrics"]["tokens"]
    assert run["cost_usd"] == pytest.approx(run["evaluation"]["metrics"]["cost_usd"])
    (recorded,) = retrainer("history", "--type", "content", "--json").json["training_runs"]
    assert {key: recorded[key] for key in ("tokens", "cost_usd", "refusals")} == {
        key: run[key] for key in ("tokens", "cost_usd", "refusals")
    }
    (evaluation,) = retrainer("show", run["model_version_id"], "--json").json["evaluations"]
    assert evaluation["metrics"]["refusals"] == 1
    assert evaluation["metrics"]["retries"] == 0
    assert evaluation["metrics"]["median_latency_seconds"] > 0


@pytest.mark.usefixtures("posts")
def test_a_dry_run_estimates_the_cost_of_both_sides(
    server: ClaudeServer, environ: dict[str, str], retrainer: Runner
) -> None:
    assert retrainer("train", "content", env=environ).code == 0
    before_the_dry_run = len(server.requests)
    done = retrainer("train", "content", "--dry-run", env=environ)
    assert done.code == 0
    assert "The new version would cost at most $0.0" in done.err
    assert "Production would cost at most $0.0" in done.err
    assert "(20 calls)" in done.err
    assert len(server.requests) == before_the_dry_run


@pytest.mark.slow
def test_no_request_contains_the_post_to_predict(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    """The text of each post contains its number; a request contains smaller numbers only."""
    posts = make_posts()
    rows = list(range(1, 120))
    predict(claude, posts, before(posts, *rows), concurrency=1)
    for row, request in zip(rows, server.requests, strict=True):
        assert all(found < row for found in markers_in(request.prompt)), row


@pytest.mark.usefixtures("posts")
@pytest.mark.slow
def test_todays_limit_applies_to_a_version_trained_without_one(
    server: ClaudeServer, environ: dict[str, str], retrainer: Runner
) -> None:
    """The new version sends other examples, so no answer serves both sides."""
    assert retrainer("train", "content", env=environ).code == 0
    limited = {
        **environ,
        "RETRAINER_CONTENT_MODEL__CLAUDE_API__MAX_CALLS": "25",
        "RETRAINER_CONTENT_MODEL__CLAUDE_API__EXAMPLES": "10",
    }
    before_the_second = len(server.requests)
    done = retrainer("train", "content", env=limited)
    assert len(server.requests) - before_the_second == 25
    assert "the limit of 25 calls (max_calls) is reached" in done.err
    live = retrainer("production", "--json").json["content_model"]["version_id"]
    before_the_third = len(server.requests)
    retrainer("evaluate", live, env={**limited, "RETRAINER_CONTENT_MODEL__CLAUDE_API__MAX_CALLS": "3"})
    assert len(server.requests) - before_the_third == 3


def test_max_cost_without_a_price_is_rejected(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    del server
    with pytest.raises(ConfigError, match="max_cost is set, but the model 'claude-haiku-4-5' has no price"):
        claude.check_ready(claude.options({"max_cost": 1.0, "model": "claude-haiku-4-5"}, "content"))


@pytest.mark.parametrize("usage", ["many", ["a", "list"], {"input_tokens": "some", "output_tokens": -3}])
def test_invalid_usage_counts_as_zero(claude: LoadedAlgorithm, server: ClaudeServer, usage: object) -> None:
    server.enqueue(Reply(changes={"usage": usage}))
    first = predict_twenty(claude)[0]
    assert (first.outcome, first.input_tokens, first.output_tokens, first.cost_usd) == ("ok", 0, 0, 0.0)


def test_a_failed_connection_costs_nothing(
    claude: LoadedAlgorithm, monkeypatch: pytest.MonkeyPatch, server: ClaudeServer
) -> None:
    del server
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(AlgorithmError, match="connection to the Claude API failed"), open_budget(None) as budget:
        predict_twenty(claude, budget, max_retries=0, **EXPENSIVE)
    assert budget.calls == 20
    assert budget.cost_usd == 0


def test_an_estimate_counts_bytes_not_characters(claude: LoadedAlgorithm) -> None:
    config = claude.options(EXPENSIVE, "content")

    def tokens(text: str) -> int:
        posts = make_posts(content=[text] * 120)
        model = claude.train(posts[:80], config, "content")
        found = claude.estimate(model, posts, before(posts, 100), config, "content")
        assert found
        return found.input_tokens

    assert tokens("\u4eca\u65e5\u306f" * 50) > 1.5 * tokens("abc" * 50)


def test_training_opens_no_socket(claude: LoadedAlgorithm, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refused)
    model = claude.train(make_posts(), claude.options({}, "content"), "content")
    assert model["prompt_sha256"] == hashlib.sha256(model["prompt"].encode()).hexdigest()
