"""Several samples for each forecast of `claude_api`."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from retrainer.algorithms.budget import Budget
from retrainer.errors import AlgorithmError
from tests.claude_server import ClaudeServer, Reply, bad_request, refusal, text_reply, truncated
from tests.plugins.test_claude import before, make_posts, predict, question

if TYPE_CHECKING:
    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.model_types.content import ContentForecast
    from tests.command_line import Runner

ALIKE = ("rain in the north today", "rain in the south today", "nothing of the kind " * 40)


def forecast_of(claude: LoadedAlgorithm, *replies: Reply, server: ClaudeServer, **given: Any) -> ContentForecast:
    """Return the forecast for one post, of which each sample is one of the replies."""
    posts = make_posts()
    server.enqueue(*replies)
    (forecast,) = predict(
        claude, posts, before(posts, 100), samples=len(replies), concurrency=1, max_retries=0, **given
    )
    return forecast


def test_each_sample_is_a_call_and_all_begin_after_the_first(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts = make_posts()
    server.require_concurrent(11)
    forecasts = predict(claude, posts, before(posts, 97, 98, 99), samples=4, concurrency=11)
    assert len(server.requests) == 12
    assert len({question(request) for request in server.requests}) == 3
    assert server.max_concurrent == 11
    assert all(forecast.cache_read_tokens > 0 for forecast in forecasts)
    assert sum(forecast.output_tokens for forecast in forecasts) == sum(one["output_tokens"] for one in server.usages)


def test_the_sample_most_like_the_others_is_the_forecast(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    forecast = forecast_of(claude, *map(text_reply, (ALIKE[2], *ALIKE[:2])), server=server)
    assert forecast.text in ALIKE[:2]
    assert forecast.agreement is not None
    assert 0 < forecast.agreement < 1


def test_one_of_the_last_posts_may_be_chosen_if_so_configured(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts = make_posts()
    texts = set(posts["content"])
    strange = text_reply("\u00a1" * 900)
    assert forecast_of(claude, strange, server=server).text not in texts
    assert forecast_of(claude, strange, strange, server=server).text not in texts
    assert forecast_of(claude, strange, strange, server=server, copies="allow").text in texts


def test_a_single_sample_is_the_forecast_also_if_it_repeats_a_post(
    claude: LoadedAlgorithm, server: ClaudeServer
) -> None:
    repeated = make_posts()["content"][99]
    forecast = forecast_of(claude, text_reply(repeated), server=server)
    assert (forecast.text, forecast.agreement) == (repeated, None)


@pytest.mark.parametrize(
    ("replies", "outcome"),
    [
        ([refusal(), text_reply("a text"), bad_request()], "ok"),
        ([truncated(), refusal(), bad_request()], "refusal"),
        ([bad_request(), truncated(), bad_request()], "truncated"),
    ],
)
def test_the_other_samples_decide(
    claude: LoadedAlgorithm, server: ClaudeServer, replies: list[Reply], outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    forecast = forecast_of(claude, *replies, server=server)
    assert forecast.outcome == outcome
    assert forecast.agreement is None
    count = replies.count(bad_request())
    (warning,) = (record.message for record in caplog.records if record.levelno == logging.WARNING)
    assert f"{count} of 3 samples failed, the last because the Claude API answered with an error (400" in warning


def test_a_forecast_whose_samples_all_failed_has_failed(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    with pytest.raises(AlgorithmError, match=r"1 of 1 forecasts failed, the last because .*400"):
        forecast_of(claude, bad_request(), bad_request(), server=server)


def test_limits_and_estimates_count_every_sample(claude: LoadedAlgorithm, server: ClaudeServer) -> None:
    posts = make_posts()
    origins = before(posts, *range(90, 94))
    one, five = (claude.options({"samples": samples}, "content") for samples in (1, 5))
    model = claude.train(posts[:80], one, "content")
    single, multiple = (claude.estimate(model, posts, origins, config, "content") for config in (one, five))
    assert single
    assert multiple
    assert (single.calls, multiple.calls) == (4, 20)
    assert multiple.cost_usd == pytest.approx(5 * single.cost_usd)
    budget = Budget()
    forecasts = predict(claude, posts, origins, budget=budget, samples=5, max_calls=7, min_success_share=0)
    assert budget.calls == len(server.requests) == 7
    assert budget.cost_usd == pytest.approx(sum(forecast.cost_usd for forecast in forecasts))
    assert [forecast.outcome for forecast in forecasts] == ["ok", "ok", "failed", "failed"]


@pytest.mark.usefixtures("posts")
def test_a_run_pays_for_its_samples_and_shows_how_far_they_agree(server: ClaudeServer, retrainer: Runner) -> None:
    environ = {
        **server.environ,
        "RETRAINER_CONTENT_MODEL__ALGORITHM": "claude_api",
        "RETRAINER_CONTENT_MODEL__CLAUDE_API": json.dumps({"samples": 3, "examples": 4}),
        "RETRAINER_RETRAINING__EVALUATION_MAX_PREDICTIONS": "5",
    }
    done = retrainer("train", "content", "--json", env=environ)
    assert done.code == 0, done.err
    (run,) = done.json["training_runs"]
    assert len(server.requests) == 15
    assert run["tokens"] == sum(sum(one[name] for name in one if name.endswith("_tokens")) for one in server.usages)
    assert run["cost_usd"] == pytest.approx(run["evaluation"]["metrics"]["cost_usd"])
    assert retrainer("predict", "content", "--json", env=environ).json["agreement"] is not None
    assert "(15 calls)" in retrainer("train", "content", "--dry-run", env=environ).err
