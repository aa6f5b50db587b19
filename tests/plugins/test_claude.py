"""The algorithm `claude_api`, called as the pipeline calls it, with the real SDK and a local server."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
import traceback
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from anthropic.resources.messages import DEPRECATED_MODELS
from anthropic.types import Message
from anthropic.types.shared import ErrorResponse
from pydantic import TypeAdapter

from retrainer.errors import AlgorithmError, ConfigError, InsufficientData, MissingCredentials
from retrainer.model_types.base import Origins
from retrainer_claude.tfidf import cosine_similarity, tfidf_vectors
from tests import claude_server
from tests.claude_server import KEY, ClaudeServer, Received, Reply

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydantic import BaseModel

    from retrainer.algorithms.budget import Budget
    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.model_types.content import ContentForecast

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
WORDS = [
    "the",
    "great",
    "state",
    "of",
    "things",
    "is",
    "better",
    "than",
    "ever",
    "and",
    "everybody",
    "knows",
    "it",
    "because",
    "we",
    "work",
    "hard",
]


# --- helpers --------------------------------------------------------------------------------------


def make_posts(count: int = 120, **columns: Sequence[Any]) -> pd.DataFrame:
    """Return posts five hours apart, of all lengths; the text of post i begins with its marker."""
    texts = [f"{marker(row)} {' '.join(WORDS[: 2 + row * 7 % len(WORDS)])}" for row in range(count)]
    posts = pd.DataFrame(
        {
            "post_id": [f"{row:06d}" for row in range(count)],
            "created_at": pd.to_datetime([START + timedelta(hours=5 * row) for row in range(count)], utc=True),
            "content": pd.Series(texts, dtype="str"),
        }
    )
    return posts.assign(**columns)


def marker(row: int) -> str:
    return f"marker{row:04d}x"


def markers_in(text: str) -> set[int]:
    return {int(piece[:4]) for piece in text.split("marker")[1:] if piece[4:5] == "x"}


def before(posts: pd.DataFrame, *rows: int) -> Origins:
    return Origins.before(posts, np.array(rows, dtype=np.int64))


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the credentials and proxies of this machine."""
    for name in list(os.environ):
        if name.startswith("ANTHROPIC_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def options(claude: LoadedAlgorithm, **given: Any) -> BaseModel:
    return claude.options(given, "content")


def predict(
    claude: LoadedAlgorithm,
    posts: pd.DataFrame,
    origins: Origins,
    *,
    training: int = 80,
    budget: Budget | None = None,
    **given: Any,
) -> list[ContentForecast]:
    """Train on the first posts and forecast with the same options."""
    config = options(claude, **given)
    model = claude.train(posts[:training], config, "content")
    forecasts: list[ContentForecast] = claude.predict(model, posts, origins, config, "content", budget)
    return forecasts


def predict_one(claude: LoadedAlgorithm, **given: Any) -> ContentForecast:
    posts = make_posts()
    return predict(claude, posts, before(posts, 100), **given)[0]


def question(request: Received) -> str:
    """Return the last turn, which differs between requests."""
    text: str = request.body["messages"][-1]["content"]
    return text


# --- training -------------------------------------------------------------------------------------


def test_training_needs_no_key_and_no_network(claude: LoadedAlgorithm) -> None:
    model = claude.train(make_posts(), options(claude), "content")
    assert len(model["examples"]) == 20
    assert json.loads(json.dumps(model)) == model


def test_training_is_deterministic(claude: LoadedAlgorithm) -> None:
    posts = make_posts()
    assert claude.train(posts, options(claude), "content") == claude.train(posts, options(claude), "content")


def test_examples_come_from_the_last_training_posts(claude: LoadedAlgorithm) -> None:
    config = options(claude, examples=10, examples_from_last=30)
    model = claude.train(make_posts()[:80], config, "content")
    chosen = markers_in(json.dumps(model["examples"]))
    assert len(chosen) == 10
    assert chosen <= set(range(50, 80))


def test_examples_are_in_order_of_time(claude: LoadedAlgorithm) -> None:
    times = [example["created_at"] for example in claude.train(make_posts(), options(claude), "content")["examples"]]
    assert times == sorted(times)
    assert all(time.endswith("+00:00") for time in times)


def test_examples_have_the_lengths_of_the_posts(claude: LoadedAlgorithm) -> None:
    posts = make_posts(400)
    model = claude.train(posts, options(claude, examples=20), "content")
    chosen = [len(example["content"]) for example in model["examples"]]
    for share in (0.1, 0.5, 0.9):
        assert np.quantile(chosen, share) == pytest.approx(posts["content"].str.len().quantile(share), abs=5)


def test_examples_cover_all_times_of_day(claude: LoadedAlgorithm) -> None:
    posts = make_posts(400)
    night = np.arange(400) % 10 == 0  # one post in ten comes at night
    times = pd.Series([START.replace(hour=3 if dark else 15) + timedelta(days=row) for row, dark in enumerate(night)])
    model = claude.train(posts.assign(created_at=times), options(claude, examples=20), "content")
    hours = [datetime.fromisoformat(example["created_at"]).hour for example in model["examples"]]
    assert hours.count(3) >= 8


def test_examples_cover_all_subjects(claude: LoadedAlgorithm) -> None:
    """All posts have the same length, and nearly all are about the garden; at least three of ten examples are not."""
    rare = {30: "volcano", 50: "orchestra", 70: "submarine", 90: "parliament"}
    texts = [
        (f"{rare[row]} {rare[row]}s" if row in rare else "the garden and its flowers").ljust(26, "!") + f" {row:03d}"
        for row in range(100)
    ]
    posts = make_posts(100, content=texts)
    model = claude.train(posts, options(claude, examples=10), "content")
    shown = " ".join(example["content"] for example in model["examples"])
    assert sum(word in shown for word in rare.values()) >= 3


def test_rare_words_count_more_in_the_similarity_of_texts() -> None:
    weights = tfidf_vectors(["the cat sat", "the cat ran", "the dog barked", "https://example.org/cat", ""])
    assert cosine_similarity(weights[0], weights[0]) == pytest.approx(1)
    assert cosine_similarity(weights[0], weights[1]) > cosine_similarity(weights[0], weights[2]) > 0
    assert weights[3] == weights[4] == {}
    assert cosine_similarity(weights[0], weights[3]) == 0


def test_examples_are_neither_repeated_nor_empty(claude: LoadedAlgorithm) -> None:
    texts = ["Make it so", "make  IT so", "", "  \n ", None, "\x00\x07", "Another one"]
    posts = make_posts(len(texts), content=texts)
    model = claude.train(posts, options(claude), "content")
    assert [example["content"] for example in model["examples"]] == ["make  IT so", "Another one"]


def test_long_examples_are_cut_at_the_limit(claude: LoadedAlgorithm) -> None:
    posts = make_posts(3, content=["word " * 100, "x" * 500, "short"])
    model = claude.train(posts, options(claude, example_max_characters=42), "content")
    assert [example["content"] for example in model["examples"]] == [("word " * 8).strip(), "x" * 42, "short"]


def test_the_style_is_measured(claude: LoadedAlgorithm) -> None:
    texts = [
        "ALL IN CAPITALS",
        "see https://example.org/x",
        "so #proud of it",
        "plain",
        "item #1 http",
        "12 34",
    ]
    style = claude.train(make_posts(6, content=texts), options(claude), "content")["style"]
    assert style["share_with_links"] == pytest.approx(1 / 6, abs=1e-4)
    assert style["share_with_hashtags"] == pytest.approx(2 / 6, abs=1e-4)
    assert style["share_in_capitals"] == pytest.approx(1 / 6, abs=1e-4)
    assert style["characters_50"] == np.median([len(text) for text in texts])


def test_training_posts_without_text_are_insufficient(claude: LoadedAlgorithm) -> None:
    with pytest.raises(InsufficientData, match="no training post has a text"):
        claude.train(make_posts(3, content=["", " ", None]), options(claude), "content")


def test_a_loaded_model_sends_the_same_request(claude: LoadedAlgorithm, server: ClaudeServer, tmp_path: Path) -> None:
    posts, config = make_posts(), options(claude)
    model = claude.train(posts[:80], config, "content")
    assert claude.save(model, tmp_path) == ["model.json"]
    for source in (model, claude.load({"model.json": (tmp_path / "model.json").read_bytes()})):
        claude.predict(source, posts, before(posts, 100), config, "content")
    assert server.requests[0].raw == server.requests[1].raw


def test_a_version_keeps_the_prompt_that_it_was_trained_with(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts, config = make_posts(), options(claude)
    model = claude.train(posts[:80], config, "content") | {"prompt": "Write like them: $share_with_links links."}
    claude.predict(model, posts, before(posts, 100), config, "content")
    assert server.requests[0].texts[0] == "Write like them: 0% links."


# --- requests -------------------------------------------------------------------------------------


def test_no_post_after_the_origin_is_sent(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts, rows = make_posts(), range(80, 120)
    predict(claude, posts, before(posts, *rows))
    assert len(server.requests) == len(rows)
    for request in server.requests:
        newest = max(markers_in(question(request)))  # the post right before the one to predict
        assert markers_in(request.prompt) <= set(range(newest + 1))
    assert {max(markers_in(question(request))) + 1 for request in server.requests} == set(rows)


def test_later_posts_do_not_change_the_request(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts = make_posts()
    config = options(claude)
    model = claude.train(posts[:80], config, "content")
    future = posts.copy()
    future.loc[future.index >= 100, "content"] = None
    for known in (posts, future, posts[:100], pd.concat([posts, posts[110:]], ignore_index=True)):
        claude.predict(model, known, before(posts, 100), config, "content")
    assert len({request.raw for request in server.requests}) == 1


def test_a_later_post_of_the_same_second_is_not_sent(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts = make_posts()
    posts.loc[[99, 100, 101], "created_at"] = posts["created_at"][99]
    predict(claude, posts, before(posts, 100))
    assert max(markers_in(server.requests[0].prompt)) == 99


@pytest.mark.parametrize("same_second", [False, True])
def test_an_origin_among_the_training_posts_gets_no_later_example(
    claude: LoadedAlgorithm, server: ClaudeServer, *, same_second: bool
) -> None:
    posts = make_posts(40)
    if same_second:
        posts["created_at"] = START
    predict(claude, posts, before(posts, 20), training=40, examples=40)
    assert markers_in(server.requests[0].prompt) == set(range(20))


def test_recent_posts_are_sent_oldest_first(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts = make_posts()
    predict(claude, posts, before(posts, 100), recent_posts=3)
    last_turn = question(server.requests[0])
    indexes = [last_turn.index(marker(row)) for row in (97, 98, 99)]
    assert indexes == sorted(indexes)
    assert markers_in(last_turn) == {97, 98, 99}


@pytest.mark.parametrize("nothing", ["", " \n\t", None, float("nan"), pd.NA, "\x00"])
def test_posts_without_text_are_skipped(claude: LoadedAlgorithm, server: ClaudeServer, nothing: object) -> None:
    posts = make_posts().astype({"content": object})
    posts.loc[[96, 98, 99], "content"] = nothing  # type: ignore[call-overload]  # any object may lie in such a column
    predict(claude, posts, before(posts, 100), recent_posts=2)
    assert markers_in(question(server.requests[0])) == {95, 97}


def test_the_true_time_of_the_post_is_sent(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts = make_posts()
    origins = before(posts, 100)
    time = datetime(2027, 1, 31, 23, 59, tzinfo=UTC)
    with_target = Origins(origins.time, origins.position, np.array([time.replace(tzinfo=None)], dtype="datetime64[us]"))
    predict(claude, posts, with_target)
    assert question(server.requests[0]).endswith("The post of Sunday, 2027-01-31 23:59 UTC:")


def test_without_a_target_time_the_time_of_the_origin_is_sent(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts = make_posts()
    origins = Origins(np.array(["2027-02-01T06:30"], dtype="datetime64[us]"), np.array([100]))
    predict(claude, posts, origins)
    assert question(server.requests[0]).endswith("The post of Monday, 2027-02-01 06:30 UTC:")


def test_a_request_has_the_form_that_current_models_accept(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    predict_one(claude, examples=4, max_tokens=300)
    body = server.requests[0].body
    assert set(body) == {"model", "max_tokens", "system", "messages", "thinking"}
    assert (body["model"], body["max_tokens"]) == ("claude-haiku-5-5", 300)
    assert body["thinking"] == {"type": "disabled"}
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant"] * 4 + ["user"]
    assert body["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert body["messages"][-2]["content"][0]["cache_control"] == {"type": "ephemeral"}


def test_the_prompt_has_no_placeholder_left(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    predict_one(claude)
    system = server.requests[0].texts[0]
    assert "$" not in system
    assert "0% hold a link" in system


def test_adaptive_thinking_is_sent_with_low_effort(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    predict_one(claude, model="claude-opus-5-5", thinking="adaptive")
    body = server.requests[0].body
    assert body["thinking"] == {"type": "adaptive"}
    assert body["output_config"] == {"effort": "low"}


def test_a_forecast_works_without_examples_and_recent_posts(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    forecast = predict_one(claude, examples=0, recent_posts=0)
    assert forecast.text == claude_server.FIXED_TEXT
    assert len(server.requests[0].body["messages"]) == 1


# --- calls ----------------------------------------------------------------------------------------


def test_forecasts_are_in_the_order_of_the_origins(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts, rows = make_posts(), (100, 85, 119, 90, 101)
    for row in rows:
        recent = f'{marker(row - 1)} {" ".join(WORDS[: 2 + (row - 1) * 7 % len(WORDS)])}"\n\nThe post'
        server.reply_to(recent, claude_server.text_reply(f"forecast of {row}"))
    forecasts = predict(claude, posts, before(posts, *rows))
    assert [forecast.text for forecast in forecasts] == [f"forecast of {row}" for row in rows]
    assert {forecast.outcome for forecast in forecasts} == {"ok"}


def test_the_first_call_fills_the_cache_and_the_others_read_it(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts = make_posts()
    forecasts = predict(claude, posts, before(posts, *range(100, 110)), concurrency=10)
    full = [forecast.input_tokens * 0.10 / 1_000_000 for forecast in forecasts]  # dollars, without a cache
    assert forecasts[0].cost_usd > full[0]
    assert all(forecast.cost_usd < price for forecast, price in zip(forecasts[1:], full[1:], strict=True))


def test_calls_are_as_concurrent_as_configured(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts = make_posts()
    server.require_concurrent(3)  # no call but the first is answered until three are open
    assert len(predict(claude, posts, before(posts, *range(100, 107)), concurrency=3)) == 7
    assert server.max_concurrent == 3


def test_predict_works_inside_a_running_event_loop(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    async def from_a_web_server() -> ContentForecast:
        return predict_one(claude)

    assert asyncio.run(from_a_web_server()).outcome == "ok"


def test_no_origins_make_no_calls(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts = make_posts()
    assert predict(claude, posts, before(posts)) == []
    assert server.requests == []


def test_cached_tokens_have_prices_of_their_own(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    usage = {
        "input_tokens": 1000,
        "cache_creation_input_tokens": 200,
        "cache_read_input_tokens": 30,
        "output_tokens": 4,
    }
    server.enqueue(Reply(changes={"usage": usage}))
    forecast = predict_one(claude)
    assert (forecast.input_tokens, forecast.output_tokens) == (1230, 4)
    assert forecast.cost_usd == pytest.approx((1000 * 0.10 + 200 * 0.125 + 30 * 0.01 + 4 * 0.50) / 1_000_000)


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": 7}, {"output_tokens": None, "input_tokens": 7}])
def test_missing_usage_counts_as_zero(
    claude: LoadedAlgorithm, server: ClaudeServer, usage: dict[str, Any] | None
) -> None:
    server.enqueue(Reply(changes={"usage": usage}))
    forecast = predict_one(claude)
    assert (forecast.outcome, forecast.output_tokens) == ("ok", 0)
    assert forecast.input_tokens == (7 if usage else 0)


def test_a_model_without_a_price_costs_nothing(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    forecast = predict_one(claude, prices={})
    assert forecast.input_tokens > 0
    assert forecast.cost_usd == 0


def test_the_text_is_taken_from_the_text_blocks(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    server.enqueue(claude_server.text_reply("  the post \n", after_thinking="what would they write?"))
    assert predict_one(claude).text == "the post"


def test_a_refusal_is_counted_and_its_text_dropped(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    blocks = [{"type": "text", "text": "I would rather not", "citations": None}]
    server.enqueue(Reply(changes={"stop_reason": "refusal", "content": blocks}), claude_server.refusal())
    posts = make_posts()
    for forecast in predict(claude, posts, before(posts, 100, 101), min_success_share=1.0):
        assert (forecast.outcome, forecast.text) == ("refusal", None)
        assert forecast.input_tokens > 0


def test_a_truncated_text_is_counted_separately(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    server.enqueue(claude_server.truncated())
    assert predict_one(claude).outcome == "truncated"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (claude_server.empty(), "the answer has no text"),
        (claude_server.text_reply(" \n"), "the answer has no text"),
        (Reply(changes={"content": ["?", {"type": "novelty", "text": "?"}]}), "the answer has no text"),
        (Reply(changes={"content": None}), "the answer has no text"),
        (Reply(changes={"stop_reason": "pause_turn"}), "stopped for 'pause_turn'"),
        (Reply(body=b"[]"), "not a message"),
        (claude_server.web_page(), "not a message"),
        (claude_server.malformed(), "not a message"),
        (claude_server.cut_short(), "connection to the Claude API failed"),
        (
            claude_server.bad_request("messages: too many tokens"),
            r"request req_test0002\): messages: too many tokens",
        ),
        (claude_server.overloaded(), r"\(529 overloaded_error, request req_test0002\)"),
        (claude_server.server_error(), r"\(500 api_error, request req_test0002\)"),
        (claude_server.rate_limited(), r"\(429 rate_limit_error, request req_test0002\)"),
    ],
)
def test_one_failed_call_is_one_failed_forecast(
    claude: LoadedAlgorithm,
    server: ClaudeServer,
    caplog: pytest.LogCaptureFixture,
    reply: Reply,
    reason: str,
) -> None:
    posts = make_posts()
    server.enqueue(Reply(), reply)
    forecasts = predict(claude, posts, before(posts, 100, 101), max_retries=0)
    assert [forecast.outcome for forecast in forecasts] == ["ok", "failed"]
    assert forecasts[1].text is None
    [warning] = [record.getMessage() for record in caplog.records if record.name.startswith("retrainer_claude")]
    assert warning.startswith("1 of 2 forecasts failed, the last because ")
    assert re.search(reason, warning)


@pytest.mark.parametrize(
    "reply",
    [
        claude_server.rate_limited(),
        claude_server.overloaded(),
        claude_server.server_error(),
        claude_server.cut_short(),
    ],
)
def test_a_transient_error_is_retried(claude: LoadedAlgorithm, server: ClaudeServer, reply: Reply) -> None:
    server.enqueue(reply)
    assert predict_one(claude, max_retries=1).outcome == "ok"
    assert len(server.requests) == 2
    assert server.requests[0].raw == server.requests[1].raw


def test_a_call_that_hangs_times_out(
    claude: LoadedAlgorithm, server: ClaudeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.reply_to("", claude_server.hanging())
    assert predict_one(claude, timeout_seconds=0.5, min_success_share=0.0).outcome == "failed"
    assert re.search("the last because (no answer came within 0.5 seconds|.* did not answer in time)", caplog.text)


def test_a_long_retry_after_does_not_exceed_the_timeout(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts = make_posts()
    server.enqueue(Reply(), claude_server.rate_limited(retry_after="3600"))
    forecasts = predict(claude, posts, before(posts, 100, 101), timeout_seconds=60)
    assert [forecast.outcome for forecast in forecasts] == ["ok", "failed"]


def test_too_many_failures_are_an_error_with_their_number(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts = make_posts()
    server.enqueue(Reply(), claude_server.overloaded(), claude_server.overloaded(), claude_server.overloaded())
    with pytest.raises(AlgorithmError, match=r"3 of 4 forecasts failed, the last because .*529 overloaded_error"):
        predict(claude, posts, before(posts, 100, 101, 102, 103), max_retries=0)


def test_just_enough_successes_are_enough(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts = make_posts()
    server.enqueue(Reply(), claude_server.overloaded(), claude_server.overloaded(), Reply())
    forecasts = predict(claude, posts, before(posts, 100, 101, 102, 103), max_retries=0, min_success_share=0.5)
    assert [forecast.outcome for forecast in forecasts].count("failed") == 2


def test_an_unreachable_server_is_reported_in_one_line(
    claude: LoadedAlgorithm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    with pytest.raises(AlgorithmError, match=r"1 of 1 forecasts failed, .* the connection to the Claude API failed"):
        predict_one(claude, max_retries=0)


# --- fatal errors ---------------------------------------------------------------------------------

FATAL = [
    (
        claude_server.authentication_error(),
        MissingCredentials,
        r"credentials \(401 authentication_error, request",
    ),
    (claude_server.billing_error(), AlgorithmError, r"unpaid bill \(402 billing_error, request"),
    (
        claude_server.permission_error(),
        AlgorithmError,
        r"use the model 'claude-haiku-5-5' \(403 permission_error",
    ),
    (
        claude_server.unknown_model("x"),
        AlgorithmError,
        r"not know the model 'claude-haiku-5-5' \(404 not_found",
    ),
    (
        claude_server.spend_limit(),
        AlgorithmError,
        r"spend limit .*\(429 enforced_spend_limit_reached, request",
    ),
    (
        claude_server.error(400, "invalid_request_error", "on hold", error_code="organization_on_hold"),
        AlgorithmError,
        r"on hold \(400 organization_on_hold, request",
    ),
]


@pytest.mark.parametrize(("reply", "kind", "message"), FATAL)
def test_a_fatal_error_stops_at_the_first_call(
    claude: LoadedAlgorithm, server: ClaudeServer, reply: Reply, kind: type[Exception], message: str
) -> None:
    posts = make_posts()
    server.reply_to("", reply)
    with pytest.raises(kind, match=message) as caught:
        predict(claude, posts, before(posts, *range(100, 120)), max_retries=0, min_success_share=0.0)
    assert len(server.requests) == 1
    assert "\n" not in str(caught.value)
    assert "req_test0001" in str(caught.value)


def test_a_fatal_error_cancels_the_calls_in_flight(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts = make_posts()
    server.enqueue(Reply(), claude_server.hanging(), claude_server.hanging(), claude_server.permission_error())
    with pytest.raises(AlgorithmError, match="403"):
        predict(claude, posts, before(posts, *range(100, 120)), concurrency=3, timeout_seconds=60)
    assert len(server.requests) <= 5  # one more may have started when the error freed a slot


def test_an_unknown_model_is_named(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    with pytest.raises(AlgorithmError, match="does not know the model 'claude-nonsense-9'"):
        predict_one(claude, model="claude-nonsense-9")


def test_the_hint_for_not_found_mentions_the_base_url(
    claude: LoadedAlgorithm, server: ClaudeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"{server.url}/elsewhere")
    with pytest.raises(AlgorithmError, match="ANTHROPIC_BASE_URL"):
        predict_one(claude)


@pytest.mark.parametrize(
    "echoed", [f"Bearer {KEY}", "The latest posts, oldest first: <post", "better than ever and everybody"]
)
@pytest.mark.parametrize("make", [claude_server.bad_request, claude_server.authentication_error])
def test_an_error_that_echoes_the_request_is_not_repeated(
    claude: LoadedAlgorithm, server: ClaudeServer, echoed: str, make: Any
) -> None:
    server.reply_to("", make(f"cannot use: {echoed}"))
    with pytest.raises((AlgorithmError, MissingCredentials)) as caught:
        predict_one(claude)
    shown = "".join(traceback.format_exception(caught.value))
    assert echoed not in shown
    assert "req_test0001" in shown


@pytest.mark.parametrize("reply", [Reply(), claude_server.server_error(), claude_server.authentication_error()])
def test_the_key_is_never_in_a_message_or_log(
    claude: LoadedAlgorithm, server: ClaudeServer, caplog: pytest.LogCaptureFixture, reply: Reply
) -> None:
    server.reply_to("", reply)
    shown = ""
    with caplog.at_level(logging.DEBUG):
        try:
            predict_one(claude, max_retries=1)
        except (AlgorithmError, MissingCredentials) as error:
            shown = "".join(traceback.format_exception(error))
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in caplog.text + shown


# --- credentials ----------------------------------------------------------------------------------


def test_missing_credentials_are_reported_before_any_request(
    claude: LoadedAlgorithm, server: ClaudeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(MissingCredentials, match="Set ANTHROPIC_API_KEY"):
        claude.check_ready(options(claude))
    with pytest.raises(MissingCredentials, match="Set ANTHROPIC_API_KEY"):
        predict_one(claude)
    assert server.requests == []


def profile(home: Path, **contents: Any) -> None:
    folder = home / ".config" / "anthropic"
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "default.json").write_text(json.dumps(contents))


def user_profile(home: Path) -> None:
    profile(home, version="1.0", authentication={"type": "user_oauth"})
    secrets = home / ".config" / "anthropic" / "credentials"
    secrets.mkdir()
    path = secrets / "default.json"
    path.write_text(json.dumps({"version": "1.0", "type": "oauth_token", "access_token": "profile-token"}))
    path.chmod(0o600)


@pytest.mark.parametrize(
    "environment",
    [
        {"ANTHROPIC_API_KEY": KEY},
        {"ANTHROPIC_AUTH_TOKEN": KEY},
        {"ANTHROPIC_CUSTOM_HEADERS": f"X-Api-Key: {KEY}"},
        {
            "ANTHROPIC_IDENTITY_TOKEN": "jwt",
            "ANTHROPIC_FEDERATION_RULE_ID": "fdrl_1",
            "ANTHROPIC_ORGANIZATION_ID": "org_1",
        },
    ],
)
def test_credentials_in_the_environment_are_enough(
    claude: LoadedAlgorithm, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    claude.check_ready(options(claude))


def test_a_profile_is_found_and_used(
    claude: LoadedAlgorithm, server: ClaudeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    user_profile(tmp_path)
    claude.check_ready(options(claude))
    assert predict_one(claude).outcome == "ok"
    assert server.requests[0].headers["authorization"] == "Bearer profile-token"


def test_a_profile_without_its_secrets_is_missing_credentials(
    claude: LoadedAlgorithm, server: ClaudeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    profile(tmp_path, version="1.0", authentication={"type": "user_oauth"})
    with pytest.raises(MissingCredentials, match="cannot be used: Credentials file not found"):
        predict_one(claude)
    assert server.requests == []


def test_a_missing_named_profile_is_missing_credentials(
    claude: LoadedAlgorithm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_PROFILE", "nobody")
    with pytest.raises(MissingCredentials, match=r"cannot be used: .*nobody"):
        claude.check_ready(options(claude))


@pytest.mark.parametrize("flaw", ["\n", " ", "\r", "\x00", "…"])
def test_a_key_that_cannot_be_sent_is_not_quoted(
    claude: LoadedAlgorithm,
    monkeypatch: pytest.MonkeyPatch,
    server: ClaudeServer,
    caplog: pytest.LogCaptureFixture,
    flaw: str,
) -> None:
    if flaw == "\x00":
        monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", f"X-Api-Key: {KEY}\x01")
    else:
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY + flaw)
    with caplog.at_level(logging.DEBUG), pytest.raises(MissingCredentials, match="cannot be sent") as caught:
        predict_one(claude)
    assert KEY not in caplog.text + "".join(traceback.format_exception(caught.value))
    assert server.requests == []


def test_a_deprecated_model_is_a_warning(
    claude: LoadedAlgorithm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    model, day = "claude-old-1", "January 1st, 2030"
    monkeypatch.setitem(DEPRECATED_MODELS, model, day)
    claude.check_ready(options(claude))
    assert caplog.messages == []
    claude.check_ready(options(claude, model=model))
    assert f"'{model}' is deprecated and will be retired on {day}" in caplog.text
    assert f"No price is set for the model '{model}'" in caplog.text


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"temperature": 0.5},
        {"max_tokens": "300"},
        {"max_tokens": 0},
        {"examples": -1},
        {"timeout_seconds": float("inf")},
        {"min_success_share": 1.5},
        {"model": ""},
        {"prices": {"claude-haiku-5-5": {"input": 1.0}}},
    ],
)
def test_unknown_and_invalid_options_are_rejected(claude: LoadedAlgorithm, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        options(claude, **given)


def test_options_survive_json(claude: LoadedAlgorithm) -> None:
    config = options(claude, examples=3, timeout_seconds=30)
    stored = json.loads(json.dumps(config.model_dump(mode="json")))
    assert options(claude, **stored) == config


def test_describing_the_plugin_imports_nothing_slow() -> None:
    code = "import sys, retrainer_claude as c; c.algorithm(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"anthropic", "pandas", "numpy", "httpx2"} & set(done.stdout.split())


# --- the test server ------------------------------------------------------------------------------


def test_the_server_replies_with_the_sdks_types() -> None:
    body = {"model": "claude-haiku-5-5", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
    with ClaudeServer() as server:
        server.enqueue(
            Reply(),
            claude_server.refusal(),
            claude_server.truncated(),
            claude_server.text_reply("this", after_thinking="that"),
            claude_server.spend_limit(),
            claude_server.overloaded(),
            claude_server.unknown_model("x"),
        )
        replies = [server.answer(Received("/v1/messages", headers, json.dumps(body).encode())) for _ in range(7)]
    for reply in replies[:4]:
        TypeAdapter(Message).validate_python(reply.body, strict=True)
    for reply in replies[4:]:
        TypeAdapter(ErrorResponse).validate_python(reply.body, strict=True)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 200),
        ({"temperature": 0.5}, 400),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, 400),
        ({"messages": [{"role": "user", "content": ""}]}, 400),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "tone": "b"}]}]}, 400),
        ({"max_tokens": "5"}, 400),
        ({"model": "claude-nonsense-9"}, 404),
    ],
)
def test_the_server_rejects_what_the_api_rejects(change: dict[str, Any], status: int) -> None:
    body = {
        "model": "claude-haiku-5-5",
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "Hello"}],
    } | change
    headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
    with ClaudeServer() as server:
        assert server.answer(Received("/v1/messages", headers, json.dumps(body).encode())).status == status
