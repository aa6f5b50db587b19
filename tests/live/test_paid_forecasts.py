"""Forecasts that cost money: what was made is kept and scored, and nothing is paid just to score."""

from __future__ import annotations

import json
import logging
import shutil
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import sqlalchemy as sa

from retrainer.live.paid_forecasts import served_forecasts
from retrainer.pipeline.run import retrain
from retrainer.pipeline.split import load_posts
from retrainer.registry.budgets import SharedBudget
from retrainer.registry.live_tables import LiveForecast
from tests import claude_server
from tests.api.conftest import TOKEN, WITH_TOKEN, thread_server
from tests.claude_server import text_reply
from tests.conftest import NOW, open_project, runtime_of
from tests.live.paid import LAST_TRAINED, LIVE, POSTS, TEST_ID, TIMES, Paid, on_each_database, on_sqlite, update_posts
from tests.worker import Worker, release

if TYPE_CHECKING:
    from datetime import datetime

    from tests.claude_server import ClaudeServer
    from tests.command_line import Runner

pytestmark = pytest.mark.usefixtures("claude")
EVIL = "\x1b[31m<script>alert(1)</script>\x1b]0;title\x07 " + "é" * 10_000


# --- forecasts that were asked for ----------------------------------------------------------------


@on_each_database
def test_a_forecast_is_kept_as_it_came_with_what_it_knew(paid: Paid, claude: ClaudeServer) -> None:
    claude.enqueue(text_reply(json.dumps(EVIL)))
    now = TIMES[LAST_TRAINED] + timedelta(hours=2)
    answer = paid.predict(now)
    (kept,) = paid.kept()
    assert (kept.stream, kept.model_type, kept.version_id, kept.fit) == (
        "default",
        "content",
        paid.versions[0],
        paid.fit,
    )
    assert (kept.last_post_id, kept.last_post_at) == (POSTS["post_id"][LAST_TRAINED], TIMES[LAST_TRAINED])
    assert (kept.made_at, kept.target_time, kept.post_id) == (now, answer.next_post_at, None)
    assert kept.forecast["text"] == answer.text
    assert "é" * 10_000 in answer.text
    assert (kept.forecast["outcome"], kept.forecast["cost_usd"]) == ("ok", answer.cost_usd)
    assert kept.forecast["input_tokens"] + kept.forecast["output_tokens"] == answer.tokens


@pytest.mark.slow
@on_each_database
def test_any_text_survives_the_database(complete: Paid) -> None:
    text = "\0\x1b[2J\ud800<b>'\";--" + "\u202e" * 10
    row = LiveForecast(
        model_type="content",
        version_id=complete.versions[0],
        fit=complete.fit,
        last_post_id=POSTS["post_id"][LIVE[0] - 1],
        last_post_at=TIMES[LIVE[0] - 1],
        made_at=TIMES[LIVE[0]] - timedelta(microseconds=1),
        target_time=NOW,
        forecast={"text": text, "outcome": "ok", "a field of a later release": 1},
    )
    complete.project.registry.keep_forecast(row)
    (found,) = complete.served(LIVE[:1])
    assert found is not None
    assert found.text == text


@pytest.mark.slow
@on_sqlite
def test_forecasts_as_of_a_past_time_and_free_ones_are_not_kept(paid: Paid) -> None:
    now = TIMES[LAST_TRAINED] + timedelta(hours=2)
    paid.predict(now, at=TIMES[LAST_TRAINED] + timedelta(hours=1))
    paid.predict(now, at="last")
    assert paid.kept() == []
    project = paid.project
    retrain(project, runtime_of(project), "content", now, as_of=True, algorithm="baseline", auto_promote=False)
    free = project.registry.list_versions("content", 1)[0]
    project.registry.promote(free.version_id, paid.versions[0], "by hand", now)
    paid.predict(now)
    assert paid.kept() == []


@on_sqlite
def test_an_answer_that_was_paid_for_is_shown_although_it_cannot_be_kept(
    paid: Paid, caplog: pytest.LogCaptureFixture
) -> None:
    with paid.project.registry.database.write() as session:
        refuse = "BEFORE INSERT ON retrainer_live_forecasts BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        session.execute(sa.text(f"CREATE TRIGGER refuse {refuse}"))
    answer = paid.predict(TIMES[LAST_TRAINED] + timedelta(hours=2))
    assert answer.text
    (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("Cannot store the forecast, so it will not be scored: the database")
    assert "disk is full" in warning


@pytest.mark.slow
@on_sqlite
def test_the_command_and_the_server_keep_what_they_forecast(
    paid: Paid, claude: ClaudeServer, retrainer: Runner, folder: Path
) -> None:
    claude.reply_to("", text_reply("what it says"))
    assert "what it says" in retrainer("predict", "content").out
    with thread_server(folder, env={"RETRAINER_API_TOKEN": TOKEN}) as api:
        assert api.get("/models/predict/content").status_code == 401
        answer = api.get("/models/predict/content", headers=WITH_TOKEN)
        assert answer.json()["text"] == "what it says"
    assert [forecast.forecast["text"] for forecast in paid.kept()] == ["what it says"] * 2
    assert len(claude.requests) == 2


@on_each_database
def test_only_what_could_not_know_a_post_is_scored_on_it(paid: Paid, claude: ClaudeServer) -> None:
    first, second, third, fourth = LIVE[:4]
    hour = timedelta(hours=1)

    def ask(text: str, now: datetime) -> None:
        claude.enqueue(text_reply(text))
        paid.predict(now)

    ask("an earlier one", TIMES[first] - 3 * hour)
    ask("the latest before", TIMES[first] - hour)
    ask("after its time, before it arrived", TIMES[first])
    paid.project.posts.add(POSTS[: first + 1], NOW)
    claude.enqueue(claude_server.refusal())
    paid.predict(TIMES[second] - hour)
    paid.project.posts.add(POSTS[: third + 1], NOW)
    ask("the one before was skipped", TIMES[fourth] - hour)
    paid.project.posts.add(POSTS, NOW)
    asked = len(claude.requests)
    found = paid.served()
    assert [forecast and forecast.text for forecast in found[:4]] == [
        "the latest before",
        None,
        None,
        "the one before was skipped",
    ]
    assert found[1] is not None
    assert found[1].outcome == "refusal"
    assert found[2:3] + found[4:] == [None] * 3
    assert len(claude.requests) == asked, "nothing is paid just to score"
    posts = load_posts(paid.project, "content", NOW)
    assert served_forecasts(paid.project.registry, "another fit", posts, np.array(LIVE)) == [None] * 6
    other = paid.project.for_stream("another stream").registry
    assert served_forecasts(other, paid.fit, posts, np.array(LIVE)) == [None] * 6


# --- forecasts of an A/B test ---------------------------------------------------------------------


@on_each_database
def test_both_sides_of_a_test_forecast_every_post_once_from_the_posts_before(
    complete: Paid, claude: ClaudeServer
) -> None:
    complete.limit(1.0)
    found = complete.shadow()
    assert [len(forecasts) for forecasts in found] == [6, 6]
    assert all(forecast and forecast.outcome == "ok" for forecasts in found for forecast in forecasts)
    assert len(claude.requests) == 12
    for number, row in enumerate(LIVE):
        for request in claude.requests[2 * number : 2 * number + 2]:
            question = request.texts[-1]
            assert f"{TIMES[row]:%Y-%m-%d %H:%M} UTC" in question.splitlines()[-1], "the time of the post is known"
            assert POSTS["content"][row - 1] in request.prompt
            assert POSTS["content"][row] not in request.prompt
    costs = [sum(forecast.cost_usd for forecast in forecasts if forecast) for forecasts in found]
    assert complete.used() == pytest.approx(costs)
    assert complete.shadow() == found
    assert complete.shadow(calls=False) == found
    assert len(claude.requests) == 12, "what was paid for is kept"
    assert complete.served() == [None] * 6, "it was made afterwards"


@pytest.mark.slow
@on_sqlite
def test_a_look_makes_no_calls(complete: Paid, claude: ClaudeServer) -> None:
    complete.limit(1.0)
    assert complete.shadow(calls=False) == [[], []]
    complete.shadow(LIVE[:3])
    assert [len(forecasts) for forecasts in complete.shadow(calls=False)] == [3, 3]
    assert len(claude.requests) == 6


@pytest.mark.slow
@on_sqlite
def test_calls_stop_at_the_limit_of_a_side(
    complete: Paid, claude: ClaudeServer, caplog: pytest.LogCaptureFixture
) -> None:
    limit = complete.limit_after_two_posts()
    found = complete.shadow()
    (done,) = {len(forecasts) for forecasts in found}
    assert 2 <= done < len(LIVE)
    assert all(forecasts[-1] for forecasts in found)
    assert max(complete.used()) <= limit
    (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith(f"The A/B test '{TEST_ID}' is making no paid calls: one more call could raise the cost")
    assert f"side of the A/B test above ${limit:g} (--max-cost)" in warning
    asked = len(claude.requests)
    assert complete.shadow() == found
    assert len(claude.requests) == asked
    assert asked in {2 * done, 2 * done + 1}


@pytest.mark.slow
@on_sqlite
def test_in_a_fleet_a_test_keeps_to_its_own_limit_and_to_that_of_the_fleet(
    complete: Paid, claude: ClaudeServer, caplog: pytest.LogCaptureFixture
) -> None:
    complete.limit(1.0)
    database = complete.project.registry.database
    no_paid_runs = SharedBudget(database, None)
    assert [len(forecasts) for forecasts in complete.shadow(LIVE[:2], of_fleet=no_paid_runs)] == [2, 2]
    all_runs = SharedBudget.create(database, max(complete.used()) * 2, NOW)
    assert len(complete.shadow(of_fleet=all_runs)[0]) < len(LIVE)
    limit, used = all_runs.limit_and_use()
    assert 0 < used <= limit
    assert "could raise the cost of all runs above" in caplog.text


@pytest.mark.slow
@on_sqlite
def test_a_failed_call_is_logged_and_the_others_are_made(
    complete: Paid, claude: ClaudeServer, caplog: pytest.LogCaptureFixture
) -> None:
    complete.limit(1.0)
    bad = [claude_server.server_error()] * 3  # with its two retries
    limited = [claude_server.rate_limited()] * 3
    claude.enqueue(claude_server.Reply(), claude_server.Reply(), *bad, claude_server.Reply(), *limited)
    production, challenger = complete.shadow(LIVE[:6])
    assert [forecast is not None for forecast in production] == [True, False, True, True, True, True]
    assert [forecast is not None for forecast in challenger] == [True, False, False, True, True, True]
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [
        f"no forecast of the post '{POSTS['post_id'][row]}'" in text
        for row, text in zip(LIVE[1:3], warnings, strict=True)
    ] == [True, True]
    assert "500 api_error" in warnings[0]
    assert "429 rate_limit_error" in warnings[1]
    asked = len(claude.requests)
    again = complete.shadow(LIVE[:6])
    assert all(forecast for forecasts in again for forecast in forecasts), "they are made when they are asked for again"
    assert len(claude.requests) == asked + 3


@pytest.mark.slow
@on_sqlite
def test_posts_whose_calls_fail_to_the_end_wait_for_the_next_update(
    complete: Paid, claude: ClaudeServer, caplog: pytest.LogCaptureFixture
) -> None:
    complete.limit(1.0)
    claude.enqueue(*[claude_server.Reply()] * 4)
    claude.reply_to(f"{TIMES[LIVE[2]]:%Y-%m-%d %H:%M} UTC:", claude_server.bad_request())
    for row in LIVE[3:]:
        claude.reply_to(f"{TIMES[row]:%Y-%m-%d %H:%M} UTC:", claude_server.overloaded())
    assert [len(forecasts) for forecasts in complete.shadow()] == [2, 2]
    failed = [record for record in caplog.records if "has no forecast of the post" in record.message]
    assert len(failed) == 3, "then it gives up for now"


@pytest.mark.slow
@pytest.mark.parametrize(
    "reply", [claude_server.authentication_error(), claude_server.refusal(), claude_server.truncated()]
)
@on_sqlite
def test_a_side_that_gives_no_text_spares_the_call_of_the_other(
    complete: Paid, claude: ClaudeServer, reply: claude_server.Reply
) -> None:
    complete.limit(1.0)
    claude.enqueue(reply)
    production, challenger = complete.shadow(LIVE[:2])
    if reply.status == 401:
        assert (production, challenger) == ([], []), "without a key no post of the test is lost"
        assert len(claude.requests) == 1
    else:
        assert [forecast and forecast.outcome == "ok" for forecast in production] == [False, True]
        assert [forecast and forecast.outcome for forecast in challenger] == [None, "ok"]
        assert complete.shadow(LIVE[:2]) == [production, challenger]
        assert len(claude.requests) == 3


@pytest.mark.slow
@on_sqlite
def test_a_missing_key_costs_no_post_of_a_test(
    complete: Paid, claude: ClaudeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    complete.limit(1.0)
    complete.shadow(LIVE[:2])
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    assert [len(forecasts) for forecasts in complete.shadow(LIVE[:2])] == [2, 2]
    assert caplog.records == [] or "no paid calls" not in caplog.text
    assert [len(forecasts) for forecasts in complete.shadow()] == [2, 2]
    assert "is making no paid calls: no credentials for the Claude API were found" in caplog.text
    assert len(claude.requests) == 4


@pytest.mark.slow
@on_sqlite
def test_a_post_whose_text_was_edited_needs_no_new_call_and_one_that_moved_does(
    complete: Paid, claude: ClaudeServer
) -> None:
    complete.limit(1.0)
    before = complete.shadow()
    edited = POSTS.copy()
    edited.loc[LIVE[4], "content"] = "another text"
    update_posts(complete.project, edited)
    assert complete.shadow() == before
    assert len(claude.requests) == 12
    edited["created_at"] = [*TIMES[:-1], TIMES[-1] + timedelta(minutes=7)]
    update_posts(complete.project, edited)
    complete.shadow()
    assert len(claude.requests) == 14


@pytest.mark.slow
@on_sqlite
def test_an_answer_that_cannot_be_kept_is_not_paid_for_twice(
    complete: Paid, claude: ClaudeServer, caplog: pytest.LogCaptureFixture
) -> None:
    complete.limit(1.0)
    refuse = "BEFORE INSERT ON retrainer_live_forecasts BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    with complete.project.registry.database.write() as session:
        session.execute(sa.text(f"CREATE TRIGGER refuse {refuse}"))
    assert complete.shadow(LIVE[:2]) == [[], []]
    assert "disk is full" in caplog.text
    with complete.project.registry.database.write() as session:
        session.execute(sa.text("DROP TRIGGER refuse"))
    assert [len(forecasts) for forecasts in complete.shadow(LIVE[:2])] == [2, 2]
    assert len(claude.requests) == 4


# --- processes ------------------------------------------------------------------------------------


def shadow_in_process(folder: Path, versions: tuple[str, str]) -> None:
    """Make the missing forecasts, as a worker."""
    Paid(open_project(folder), versions).shadow()


@pytest.mark.slow  # starts processes
@on_each_database
def test_a_kill_in_the_middle_loses_one_answer_at_most(complete: Paid, claude: ClaudeServer, folder: Path) -> None:
    complete.limit(1.0)
    claude.enqueue(*[claude_server.Reply()] * 7, claude_server.hanging())
    worker = Worker.start(folder, shadow_in_process, folder, complete.versions)
    release([worker])
    claude.wait_for_requests(8)
    worker.kill()
    worker.finish()
    assert len(complete.kept()) == 7
    found = complete.shadow()
    assert all(forecast for forecasts in found for forecast in forecasts)
    assert len(claude.requests) == 13
    bodies = [request.raw for request in claude.requests]
    assert len(set(bodies)) == 12, "only the one in flight is asked for again"
    production, challenger = (sum(forecast.cost_usd for forecast in forecasts if forecast) for forecasts in found)
    assert complete.used()[0] == pytest.approx(production)
    assert complete.used()[1] > challenger, "the lost call counts at its estimate"


@pytest.mark.slow  # starts processes
@on_each_database
def test_two_processes_keep_within_the_limit_of_each_side(
    complete: Paid, claude: ClaudeServer, folder: Path, tmp_path: Path
) -> None:
    """In one project they pay for nothing twice; in two with one database they may, but not beyond the limit."""
    limit = complete.limit_after_two_posts()
    folders = [folder, folder]
    if complete.project.registry.database.engine.dialect.name == "postgresql":
        folders[1] = Path(shutil.copytree(folder, tmp_path / "other"))
    workers = [Worker.start(one, shadow_in_process, one, complete.versions) for one in folders]
    release(workers)
    assert [worker.finish() for worker in workers] == [0, 0], workers[0].err
    assert max(complete.used()) <= limit
    kept = complete.kept()
    assert len(kept) > 4
    for version_id in complete.versions:
        assert sum(forecast.forecast["cost_usd"] for forecast in kept if forecast.version_id == version_id) <= limit
    if folders[1] == folder:
        assert len({request.raw for request in claude.requests}) == len(claude.requests)
