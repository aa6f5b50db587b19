"""Evaluations of `claude_api` by Message Batches."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import traceback
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse
from pydantic import TypeAdapter

from retrainer.algorithms.answer_cache import AnswerCache
from retrainer.algorithms.budget import Budget
from retrainer.algorithms.manager import load_algorithm
from retrainer.errors import AlgorithmError, MissingCredentials
from retrainer.registry.budgets import SharedBudget
from retrainer_claude import ClaudeOptions, batch_service
from retrainer_claude.pricing import reported_usage
from tests import claude_server
from tests.claude_batches import BATCHES
from tests.claude_server import KEY, ClaudeServer, Received, Reply
from tests.conftest import NOW, open_project
from tests.plugins.test_claude import before, make_posts, marker, predict
from tests.plugins.test_claude_limits import EXPENSIVE, open_budget, outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.model_types.content import ContentForecast
    from tests.claude_batches import Operation
    from tests.command_line import Runner

TEN = range(90, 100)
FAST: dict[str, Any] = {"batch": True, "batch_poll_seconds": 0.01}
IMPATIENT = 0.3 / 3600  # hours
NOT_FOUND = claude_server.error(404, "not_found_error", "no such batch")
NO_BATCHES = Reply(body={"data": [], "has_more": False, "first_id": None, "last_id": None})


def predict_ten(claude: LoadedAlgorithm, budget: Budget | None = None, **given: Any) -> list[ContentForecast]:
    posts = make_posts()
    return predict(claude, posts, before(posts, *TEN), budget=budget, **{**FAST, **given})


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer that a batch does not exist is believed."""
    monkeypatch.setattr(batch_service, "UNKNOWN_SECONDS", 0.0)


def leave(claude: LoadedAlgorithm, server: ClaudeServer, answers: Path, *shared: SharedBudget, **given: Any) -> None:
    """Send a batch, and fail when its state is asked for."""
    server.batches.fail("retrieve", claude_server.bad_request("no batch can be read"))
    budget = Budget(AnswerCache(answers), shared=shared)
    with pytest.raises(AlgorithmError, match=r"cannot read the state .*run the same command again within 29 days"):
        predict_ten(claude, budget, **given)
    assert budget.cost_usd == 0


def paid(server: ClaudeServer, given: dict[str, Any] | None = None, *, batch: bool = True) -> float:
    """Return what all answers cost, in US dollars."""
    config = ClaudeOptions.model_validate(given or {})
    usages = [SimpleNamespace(**usage) for usage in server.usages]
    return float(sum(reported_usage(usage, config, batch=batch)["cost_usd"] for usage in usages))


# --- the stand-in ---------------------------------------------------------------------------------


def test_the_server_speaks_the_wire_format_of_the_sdk(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    server.batches.end(1, "expired")
    server.batches.end(2, "canceled")
    server.batches.end(3, "errored")
    predict_ten(claude)
    (batch,) = server.batches.created
    for has_ended in (True, False):
        batch.has_ended = has_ended
        TypeAdapter(MessageBatch).validate_python(batch.document(server.url), extra="forbid")
    batch.has_ended = True
    path = f"{BATCHES}/{batch.batch_id}/results"
    lines = server.batches.answer(Received(path, {}, b"", "GET")).body
    assert isinstance(lines, bytes)
    for line in lines.splitlines():
        TypeAdapter(MessageBatchIndividualResponse).validate_json(line, extra="forbid")


# --- one batch ------------------------------------------------------------------------------------


def test_an_evaluation_is_one_batch_for_half_the_price(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    budget = Budget()
    forecasts = predict_ten(claude, budget)
    assert server.requests == []
    assert len(server.batches.created) == 1
    assert budget.cost_usd == pytest.approx(sum(forecast.cost_usd for forecast in forecasts))
    assert budget.cost_usd == pytest.approx(paid(server))
    assert paid(server) == pytest.approx(paid(server, batch=False) / 2)
    assert budget.reserved_usd == pytest.approx(0, abs=1e-12)
    assert budget.calls == 10


def test_each_forecast_gets_its_own_result(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    """They come in reverse order."""
    for row in reversed(TEN):
        server.reply_to(marker(row - 1), claude_server.text_reply(f"the text for {row}"))
    assert [forecast.text for forecast in predict_ten(claude)] == [f"the text for {row}" for row in TEN]


def test_samples_are_requests_of_the_batch(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    forecasts = predict_ten(claude, samples=3)
    assert len(server.batches.created[0].results) == 30
    assert all(forecast.agreement is not None for forecast in forecasts)


def test_a_single_forecast_is_a_call(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts = make_posts()
    predict(claude, posts, before(posts, 100), samples=3, **FAST)
    assert len(server.requests) == 3
    assert server.batches.created == []


def test_the_estimate_is_half_for_an_evaluation(claude: LoadedAlgorithm) -> None:
    posts = make_posts()
    batch, calls = (claude.options({"batch": batch}, "content") for batch in (True, False))
    model = claude.train(posts[:80], batch, "content")

    def cost(config: Any, *rows: int) -> float:
        found = claude.estimate(model, posts, before(posts, *rows), config, "content")
        assert found
        return found.cost_usd

    assert cost(batch, *TEN) == pytest.approx(cost(calls, *TEN) / 2)
    assert cost(batch, 99) == cost(calls, 99)


def test_the_price_of_a_batch_can_be_configured(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    prices = {"claude-haiku-5-5": {**EXPENSIVE["prices"]["claude-haiku-5-5"], "batch": 0.25}}
    budget = Budget()
    predict_ten(claude, budget, prices=prices)
    assert budget.cost_usd == pytest.approx(paid(server, {"prices": prices}, batch=False) / 4)


@pytest.mark.parametrize("limit", [{"max_calls": 4}, {"max_cost": 0.014, **EXPENSIVE}])
def test_the_batch_has_the_requests_that_the_limits_allow(
    claude: LoadedAlgorithm, server: ClaudeServer, limit: dict[str, Any]
) -> None:
    budget = Budget()
    forecasts = predict_ten(claude, budget, min_success_share=0, **limit)
    sent = len(server.batches.created[0].results)
    assert 0 < sent < 10
    assert outcomes(forecasts) == ["ok"] * sent + ["failed"] * (10 - sent)
    assert budget.calls == sent <= limit.get("max_calls", 10)
    assert 0 < budget.cost_usd <= limit.get("max_cost", 1)
    assert server.requests == []


def test_without_room_for_one_request_there_is_no_batch(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    with pytest.raises(AlgorithmError, match=r"10 of 10 forecasts failed.*max_cost"):
        predict_ten(claude, max_cost=1e-9)
    assert server.batches.created == []


def test_an_expired_request_or_one_with_a_transient_error_is_repeated_as_a_call(
    claude: LoadedAlgorithm, server: ClaudeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.batches.end(0, "expired")
    server.batches.end(4, "errored")
    budget = Budget()
    forecasts = predict_ten(claude, budget)
    assert outcomes(forecasts) == ["ok"] * 10
    assert len(server.requests) == 2
    assert budget.cost_usd == pytest.approx(sum(forecast.cost_usd for forecast in forecasts))
    assert "Repeating 2 requests of the batch" in caplog.text


def test_a_canceled_or_invalid_request_is_a_failed_forecast(
    claude: LoadedAlgorithm, server: ClaudeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.batches.end(3, "canceled")
    server.enqueue(claude_server.bad_request(), claude_server.refusal())
    budget = Budget()
    forecasts = predict_ten(claude, budget)
    assert outcomes(forecasts) == ["failed", "refusal", "ok", "failed", *["ok"] * 6]
    assert (budget.refusals, server.requests) == (1, [])
    assert budget.cost_usd == pytest.approx(sum(forecast.cost_usd for forecast in forecasts))
    assert "2 of 10 forecasts failed, the last because the batch was canceled" in caplog.text


def test_a_canceled_batch_is_one_error(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    for number in range(10):
        server.batches.end(number, "canceled")
    with pytest.raises(AlgorithmError, match="10 of 10 forecasts failed, the last because the batch was canceled"):
        predict_ten(claude)


# --- errors of the service ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "reply"),
    [
        pytest.param(operation, reply, marks=[] if reply in reply_of_each else pytest.mark.slow)
        for operation, reply_of_each in {
            "list": "web_page",
            "create": "rate_limited, malformed",
            "retrieve": "server_error, rate_limited",
            "results": "cut_short",
        }.items()
        for reply in ("server_error", "rate_limited", "malformed", "web_page", "cut_short")
    ],
)
def test_a_transient_error_is_repeated(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path, operation: Operation, reply: str
) -> None:
    server.batches.fail(operation, getattr(claude_server, reply)())
    with open_budget(tmp_path / "answers") as budget:
        assert outcomes(predict_ten(claude, budget)) == ["ok"] * 10
    assert len(server.batches.created) == 1
    assert budget.cost_usd == pytest.approx(paid(server))
    assert server.requests == []
    assert list((tmp_path / "answers").iterdir()) == []


@pytest.mark.parametrize(
    "reply",
    [
        claude_server.cut_short(),
        claude_server.server_error(),
        claude_server.malformed(),
        Reply(500, claude_server.server_error().body, {"x-should-retry": "false"}),
    ],
)
def test_a_batch_whose_creation_was_not_answered_is_found(
    claude: LoadedAlgorithm, server: ClaudeServer, reply: Reply
) -> None:
    """Those that were there before, or have another number of requests, are not looked at."""
    server.batches.add_foreign(10)
    server.batches.lose("create", reply)
    budget = Budget()
    assert outcomes(predict_ten(claude, budget)) == ["ok"] * 10
    assert len(server.batches.created) == 2
    assert len(server.batches.received["create"]) == 1
    assert budget.cost_usd == pytest.approx(paid(server))
    assert all("0000" not in request.path for request in server.batches.received["results"])


def test_a_lost_batch_that_is_listed_late_is_found(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    server.batches.lose("create", claude_server.cut_short())
    server.batches.fail("list", NO_BATCHES, NO_BATCHES)  # before it is created, and right after
    budget = Budget()
    assert outcomes(predict_ten(claude, budget)) == ["ok"] * 10
    assert len(server.batches.created) == 1
    assert budget.cost_usd == pytest.approx(paid(server))


def test_a_lost_batch_whose_results_are_empty_at_first_is_found(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    server.batches.lose("create", claude_server.cut_short())
    server.batches.fail("results", Reply(body=b""))
    assert outcomes(predict_ten(claude)) == ["ok"] * 10
    assert len(server.batches.created) == 1


def test_a_lost_batch_is_found_behind_many_others(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path
) -> None:
    leave(claude, server, tmp_path)
    batches = AnswerCache(tmp_path).batches
    batches.save(replace(batches.list()[0], batch_id=None))
    for _ in range(1200):
        server.batches.add_foreign(1)
    assert outcomes(predict_ten(claude, Budget(AnswerCache(tmp_path)))) == ["ok"] * 10
    assert len(server.batches.received["create"]) == 1


def test_the_batch_of_another_project_is_not_taken_for_a_lost_one(
    claude: LoadedAlgorithm, server: ClaudeServer
) -> None:
    server.batches.before_reply("create", lambda: server.batches.add_foreign(10))
    server.batches.fail("create", claude_server.cut_short())
    assert outcomes(predict_ten(claude)) == ["ok"] * 10
    assert len(server.batches.created) == 2
    assert len(server.batches.received["create"]) == 2


def test_a_batch_that_is_refused_is_one_error_and_reserves_nothing(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path
) -> None:
    server.batches.fail("create", claude_server.bad_request("requests: too many"))
    budget = Budget(AnswerCache(tmp_path))
    with pytest.raises(AlgorithmError, match=r"cannot create a batch: .*400 .*too many.*batch: false"):
        predict_ten(claude, budget)
    assert budget.reserved_usd == pytest.approx(0, abs=1e-12)
    assert budget.cost_usd == 0
    assert list(tmp_path.glob("*.json")) == []


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (claude_server.error(404, "not_found_error", "no such path"), "has no Message Batches"),
        (claude_server.spend_limit(), "spend limit"),
        (claude_server.permission_error(), "does not allow"),
    ],
)
def test_an_error_that_stops_all_calls_stops_a_batch(
    claude: LoadedAlgorithm, server: ClaudeServer, reply: Reply, problem: str
) -> None:
    server.batches.fail("create", reply)
    with pytest.raises(AlgorithmError, match=problem):
        predict_ten(claude)


def test_rejected_credentials_leave_the_batch(claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path) -> None:
    server.batches.fail("retrieve", claude_server.authentication_error())
    with pytest.raises(MissingCredentials):
        predict_ten(claude, Budget(AnswerCache(tmp_path)))
    assert len(list(tmp_path.glob("*-batch.json"))) == 1


def test_results_that_break_off_are_read_again_and_paid_for_once(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path
) -> None:
    server.batches.lose("results", *[claude_server.cut_short()] * 3)
    budget = Budget(AnswerCache(tmp_path))
    with pytest.raises(AlgorithmError, match=r"cannot read the results of batch .*run the same command again"):
        predict_ten(claude, budget)
    assert budget.cost_usd == 0
    with open_budget(tmp_path) as second:
        assert outcomes(predict_ten(claude, second)) == ["ok"] * 10
    assert len(server.batches.created) == 1
    assert second.cost_usd == pytest.approx(paid(server))


def test_an_outage_while_the_batch_is_waited_for_does_not_end_the_run(
    claude: LoadedAlgorithm, server: ClaudeServer
) -> None:
    outage = [claude_server.server_error(), claude_server.overloaded(), claude_server.rate_limited()]
    server.batches.fail("retrieve", *outage * 5, claude_server.web_page(), claude_server.cut_short())
    assert outcomes(predict_ten(claude)) == ["ok"] * 10
    assert len(server.batches.created) == 1
    assert server.requests == []


def test_a_batch_that_does_not_end_in_time_is_an_error(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path
) -> None:
    leave(claude, server, tmp_path)  # so that no time passes with its creation
    server.batches.hold()
    budget = Budget(AnswerCache(tmp_path))
    with pytest.raises(AlgorithmError, match=r"did not end within .*run the same command again within 29 days"):
        predict_ten(claude, budget, batch_timeout_hours=IMPATIENT)
    assert budget.cost_usd == 0
    server.batches.release()
    assert outcomes(predict_ten(claude, Budget(AnswerCache(tmp_path)))) == ["ok"] * 10
    assert len(server.batches.created) == 1


def test_a_state_that_cannot_be_read_is_an_error_in_the_end(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path
) -> None:
    leave(claude, server, tmp_path)  # so that no time passes with its creation
    server.batches.fail("retrieve", *[claude_server.server_error()] * 1000)
    with pytest.raises(AlgorithmError, match=r"did not end|cannot read the state of batch .*: .*500"):
        predict_ten(claude, Budget(AnswerCache(tmp_path)), batch_timeout_hours=IMPATIENT)
    server.batches.stop_failing()
    assert outcomes(predict_ten(claude, Budget(AnswerCache(tmp_path)))) == ["ok"] * 10
    assert len(server.batches.created) == 1


@pytest.mark.parametrize(("operation", "times"), [("retrieve", 50), ("results", 2)])
def test_a_batch_that_is_not_found_for_a_while_is_not_paid_for_again(
    claude: LoadedAlgorithm, server: ClaudeServer, operation: Operation, times: int
) -> None:
    """The API is known to answer with 404 for a minute after a batch was created, or has ended."""
    server.batches.fail(operation, *[NOT_FOUND] * times)
    budget = Budget()
    assert outcomes(predict_ten(claude, budget)) == ["ok"] * 10
    assert len(server.batches.created) == 1
    assert server.requests == []
    assert budget.cost_usd == pytest.approx(paid(server))


def test_results_that_are_not_found_leave_the_batch(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path
) -> None:
    server.batches.fail("results", *[NOT_FOUND] * 3)
    with pytest.raises(AlgorithmError, match=r"cannot read the results of batch .*: the results do not exist"):
        predict_ten(claude, Budget(AnswerCache(tmp_path)))
    assert outcomes(predict_ten(claude, Budget(AnswerCache(tmp_path)))) == ["ok"] * 10
    assert len(server.batches.created) == 1


def test_missing_results_are_repeated_and_may_have_cost_money(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leave(claude, server, tmp_path)
    (batch,) = AnswerCache(tmp_path).batches.list()
    highest = max(batch.estimates.values())
    del server.batches.created[0].results[3:5]
    budget = Budget(AnswerCache(tmp_path))
    forecasts = predict_ten(claude, budget)
    assert outcomes(forecasts) == ["ok"] * 10
    assert [len(one.results) for one in server.batches.created] == [8, 2]
    assert budget.cost_usd == pytest.approx(sum(one.cost_usd for one in forecasts) + 2 * highest, rel=0.05)
    assert "has no results for 2 requests" in caplog.text


def test_lines_of_others_and_a_second_line_for_a_request_are_ignored(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path
) -> None:
    leave(claude, server, tmp_path)
    lines = server.batches.created[0].results
    lines[:0] = [{"custom_id": one["custom_id"], "result": {"type": "canceled"}} for one in lines]  # read last
    lines.append({"custom_id": "another's", "result": {"type": "expired"}})
    budget = Budget(AnswerCache(tmp_path))
    assert outcomes(predict_ten(claude, budget)) == ["ok"] * 10
    assert budget.cost_usd == pytest.approx(paid(server))


# --- the next run ---------------------------------------------------------------------------------


def test_the_next_run_takes_the_results_and_records_their_cost(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path
) -> None:
    leave(claude, server, tmp_path)
    with open_budget(tmp_path) as budget:
        assert outcomes(predict_ten(claude, budget)) == ["ok"] * 10
    assert len(server.batches.created) == 1
    assert server.requests == []
    assert budget.cost_usd == pytest.approx(paid(server))
    assert budget.reserved_usd == 0, "it reserved nothing itself"
    assert list(tmp_path.iterdir()) == []
    predict_ten(claude, Budget(AnswerCache(tmp_path)))
    assert len(server.batches.created) == 2, "a third run has its own"


def test_a_run_with_some_of_the_requests_takes_them_and_sends_the_others(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path
) -> None:
    leave(claude, server, tmp_path)
    posts = make_posts()
    with open_budget(tmp_path) as budget:
        forecasts = predict(claude, posts, before(posts, *range(95, 105)), budget=budget, **FAST)
    assert outcomes(forecasts) == ["ok"] * 10
    assert [len(batch.results) for batch in server.batches.created] == [10, 5]
    assert budget.cost_usd == pytest.approx(paid(server))


@pytest.mark.usefixtures("_impatient")
def test_a_batch_without_results_is_sent_again(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leave(claude, server, tmp_path)
    server.batches.fail("retrieve", NOT_FOUND)
    assert outcomes(predict_ten(claude, Budget(AnswerCache(tmp_path)))) == ["ok"] * 10
    assert len(server.batches.created) == 2
    assert "not found with these credentials; sending its requests again" in caplog.text


@pytest.mark.usefixtures("_impatient")
def test_another_service_at_the_address_does_not_forget_a_batch(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path
) -> None:
    leave(claude, server, tmp_path)
    server.batches.fail("retrieve", NOT_FOUND)
    server.batches.fail("list", NOT_FOUND)
    with pytest.raises(AlgorithmError, match="has no Message Batches"):
        predict_ten(claude, Budget(AnswerCache(tmp_path)))
    assert outcomes(predict_ten(claude, Budget(AnswerCache(tmp_path)))) == ["ok"] * 10
    assert len(server.batches.created) == 1


def test_answers_to_requests_of_another_run_are_kept_for_it(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path
) -> None:
    leave(claude, server, tmp_path)
    posts = make_posts()
    with open_budget(tmp_path) as budget:
        predict(claude, posts, before(posts, 95, 96), budget=budget, **FAST)
    assert outcomes(predict_ten(claude, Budget(AnswerCache(tmp_path)))) == ["ok"] * 10
    assert [len(batch.results) for batch in server.batches.created] == [10, 2], "what was used is paid for again"


def test_without_batch_the_requests_of_one_are_paid_for_again_with_a_warning(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leave(claude, server, tmp_path)
    predict_ten(claude, Budget(AnswerCache(tmp_path)), batch=False)
    assert len(server.requests) == 10
    assert "Paying again, with `batch: false`, for requests of a batch" in caplog.text


@pytest.mark.parametrize("content", ["", '{"token": 1}', '{"estimates": []}', '{"estimates": {"a": "much"}}'])
def test_an_unreadable_record_is_a_warning(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    leave(claude, server, tmp_path)
    (record,) = tmp_path.glob("*-batch.json")
    record.write_text(content)
    assert outcomes(predict_ten(claude, Budget(AnswerCache(tmp_path)))) == ["ok"] * 10
    assert len(server.batches.created) == 2
    assert caplog.text.count(f"Cannot read the record of a batch '{record}', whose requests may be paid for again") == 1


def test_a_record_is_private_and_contains_no_key_or_request(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path
) -> None:
    leave(claude, server, tmp_path)
    (record,) = tmp_path.glob("*-batch.json")
    assert record.stat().st_mode & 0o777 == 0o600
    assert KEY not in record.read_text()
    assert "marker" not in record.read_text()
    sent = server.batches.received["create"][0].body["requests"]
    assert all(len(one["custom_id"]) <= 64 for one in sent)


def test_a_batch_that_another_process_waits_for_is_left_to_it(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    leave(claude, server, tmp_path)
    batches = AnswerCache(tmp_path).batches
    polls = len(server.batches.received["retrieve"])
    with (
        batches.lock(batches.list()[0].token),
        pytest.raises(AlgorithmError, match="did not end within"),
    ):
        predict_ten(claude, Budget(AnswerCache(tmp_path)), batch_timeout_hours=IMPATIENT)
    assert "Another process is waiting for a batch with the same requests" in caplog.text
    assert len(server.batches.received["retrieve"]) == polls
    assert outcomes(predict_ten(claude, Budget(AnswerCache(tmp_path)))) == ["ok"] * 10
    assert len(server.batches.created) == 1


@pytest.fixture
def budgets(folder_on_each_database: Path) -> Iterator[SharedBudget]:
    project = open_project(folder_on_each_database)
    with closing(project.registry.database):
        yield SharedBudget.create(project.registry.database, 0.05, NOW)


def test_a_shared_budget_reserves_a_batch_until_its_results_are_taken(
    claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path, budgets: SharedBudget
) -> None:
    """Its limit leaves room for one such batch, so the second run must not reserve again."""
    answers = tmp_path / "answers"
    leave(claude, server, answers, budgets, **EXPENSIVE)
    _, reserved = budgets.limit_and_use()
    assert 0.025 < reserved <= 0.05
    second = Budget(AnswerCache(answers), shared=(budgets,))
    assert outcomes(predict_ten(claude, second, **EXPENSIVE)) == ["ok"] * 10
    assert second.cost_usd == pytest.approx(paid(server, EXPENSIVE))
    assert budgets.limit_and_use()[1] == pytest.approx(paid(server, EXPENSIVE))
    assert len(server.batches.created) == 1


# --- a killed process -----------------------------------------------------------------------------


@pytest.fixture
def environ(server: ClaudeServer) -> dict[str, str]:
    return {
        **server.environ,
        "RETRAINER_CONTENT_MODEL__ALGORITHM": "claude_api",
        "RETRAINER_CONTENT_MODEL__CLAUDE_API": json.dumps(FAST),
    }


def start(folder: Path, environ: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "retrainer", "train", "content"],
        cwd=folder,
        env={**os.environ, **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("posts")
@pytest.mark.parametrize("when", ["while it waits", "before it knows the id"])
def test_the_run_after_a_killed_one_pays_for_the_batch_once(
    server: ClaudeServer, environ: dict[str, str], retrainer: Runner, folder: Path, when: str
) -> None:
    server.batches.hold()
    if when == "before it knows the id":
        server.batches.lose("create", claude_server.hanging())
    process = start(folder, environ)
    if when == "while it waits":
        server.batches.wait_for("retrieve", 3)
    else:
        server.batches.wait_for("create", 1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    server.batches.release()
    done = retrainer("train", "content", "--json", env=environ)
    assert done.code == 0, done.err
    assert len(server.batches.created) == 1
    assert len(server.batches.received["create"]) == 1
    assert server.requests == []
    (run,) = done.json["training_runs"]
    assert run["cost_usd"] == pytest.approx(paid(server))
    assert run["evaluation"]["metrics"]["cost_usd"] == pytest.approx(paid(server))
    assert list((folder / ".retrainer" / "answers").iterdir()) == []
    runs = retrainer("history", "--type", "content", "--json").json["training_runs"]
    assert sum(one["cost_usd"] or 0 for one in runs) == pytest.approx(paid(server))
    assert retrainer("doctor").code == 0


def predict_four(claude: LoadedAlgorithm, budget: Budget) -> list[ContentForecast]:
    posts = make_posts()
    return predict(claude, posts, before(posts, *TEN[:4]), budget=budget, **FAST)


def predict_until_killed(folder: Path, budget_id: str, kill_before: int) -> None:
    """Predict, and be killed right before a change of the folder of answers, by its number from 0."""
    claude = load_algorithm("claude_api", "content")
    changes = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes
        if event in {"os.rename", "os.remove"} and str(folder / "answers") in str(arguments[0]):
            if changes == kill_before:
                os.kill(os.getpid(), signal.SIGKILL)
            changes += 1

    sys.addaudithook(count)
    with closing(open_project(folder).registry.database) as database:
        budget = Budget(AnswerCache(folder / "answers"), shared=(SharedBudget(database, budget_id),))
        predict_four(claude, budget)


def fork_predictions(folder: Path, url: str, connection: Connection) -> None:
    """Send whether it is ready; receive arguments of `predict_until_killed`, call it in a fork, send the exit code."""
    os.environ |= {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": KEY}
    with closing(open_project(folder).registry.database):  # imports what the forked processes share
        predict_four(load_algorithm("claude_api", "content"), Budget())
    connection.send(True)
    while arguments := connection.recv():
        process = os.fork()
        if process == 0:
            code = 1
            try:
                predict_until_killed(folder, *arguments)
                code = 0
            except Exception:  # noqa: BLE001  a fork must not return
                traceback.print_exc()
            finally:
                os._exit(code)
        connection.send(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))


@pytest.mark.slow
def test_wherever_a_run_is_killed_its_batch_is_paid_for_once(
    claude: LoadedAlgorithm, server: ClaudeServer, folder: Path
) -> None:
    """Processes are forked from one that has imported everything, each killed one change of a file later."""
    server.batches.end(0, "canceled")  # what is not cached is settled when the record is deleted
    processes = multiprocessing.get_context("spawn")
    connection, its_end = processes.Pipe()
    forking = processes.Process(target=fork_predictions, args=(folder, server.url, its_end), daemon=True)
    forking.start()
    its_end.close()
    assert connection.recv()
    project = open_project(folder)
    with closing(project.registry.database) as database:
        for kill_before in range(100):
            budget = SharedBudget.create(database, 1.0, NOW)
            assert budget.budget_id
            created, calls, already_paid = len(server.batches.created), len(server.requests), paid(server)
            connection.send((budget.budget_id, kill_before))
            exit_code = connection.recv()
            if exit_code == 0:
                break
            assert exit_code == -signal.SIGKILL
            second = Budget(AnswerCache(folder / "answers"), shared=(budget,))
            assert outcomes(predict_four(claude, second))[1:] == ["ok"] * 3
            assert len(server.batches.created) == created + 1
            assert len(server.requests) <= calls + 1, "only the canceled one is requested again"
            assert budget.limit_and_use()[1] >= paid(server) - already_paid - 1e-12
            assert AnswerCache(folder / "answers").batches.list() == []
            second.answers.clear_used()
            assert list((folder / "answers").glob("*.json")) == []
        assert kill_before > 2 * 4
    connection.send(None)
    forking.join()


@pytest.mark.slow
@pytest.mark.usefixtures("posts")
def test_an_interrupted_run_says_that_its_batch_goes_on(
    server: ClaudeServer, environ: dict[str, str], folder: Path
) -> None:
    server.batches.hold()
    process = start(folder, environ)
    server.batches.wait_for("retrieve", 3)
    process.send_signal(signal.SIGINT)
    _, log = process.communicate()
    assert process.returncode == 130
    assert "The batch continues: run the same command again within 29 days" in log
    assert "Traceback" not in log


@pytest.mark.slow
@pytest.mark.usefixtures("posts")
def test_both_sides_of_a_comparison_are_batches(
    server: ClaudeServer, environ: dict[str, str], retrainer: Runner
) -> None:
    assert retrainer("train", "content", env=environ).code == 0
    other = {**environ, "RETRAINER_CONTENT_MODEL__CLAUDE_API": json.dumps({**FAST, "examples": 5})}
    (run,) = retrainer("train", "content", "--json", env=other).json["training_runs"]
    assert run["comparison"]["num_predictions"] == 20
    assert len(server.batches.created) == 3
    assert server.requests == []
