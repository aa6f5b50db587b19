"""Live scores and A/B tests of content, free and paid."""

from __future__ import annotations

import sqlite3
import textwrap
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sqlalchemy as sa

from retrainer.errors import UsageError
from retrainer.live.ab_tests import check_test, start_test
from retrainer.live.scores import read_scores
from retrainer.live.update import update_live
from retrainer.model_types import get_model_type
from retrainer.model_types.base import Origins
from retrainer.pipeline.loading import load_live_fit
from retrainer.pipeline.run import retrain
from retrainer.pipeline.split import load_posts
from retrainer.registry.budgets import SharedBudget
from retrainer.registry.tables import Budget
from tests.claude_server import refusal, text_reply
from tests.command_line import packages
from tests.conftest import NOW, open_project, regular_posts, runtime_of
from tests.live.paid import LAST_TRAINED, LIVE, POSTS, TIMES, on_each_database, on_sqlite, update_posts
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.live.scores import Scores
    from retrainer.project import Project
    from tests.claude_server import ClaudeServer
    from tests.live.paid import Paid
    from tests.plugins_for_tests import Plugins

PLUGIN = """
    from retrainer.algorithms import Algorithm, ContentForecast, hookimpl

    @hookimpl
    def algorithm():
        return Algorithm(name="parrot", model_types=("content",), summary="Repeats the last post and the hour.")

    @hookimpl
    def train(posts):
        return {"word": posts["content"].iloc[0].split()[0]}

    @hookimpl
    def predict(model, posts, origins):
        hours = origins.target_time.astype("datetime64[h]").astype(int) % 24
        return [
            ContentForecast(f"{model['word']} {posts['content'].iloc[position]} {hour}")
            for position, hour in zip(origins.position, hours)
        ]
"""


def scores_of(project: Project, against: str = "naive") -> Scores:
    """Bring the scores up to date, and return those against one side."""
    comparisons = update_live(project, runtime_of(project), "content", NOW)
    (comparison,) = [found for found in comparisons if found.against == against]
    chunks = list(read_scores(project.registry, comparison.comparison_id))
    assert len(chunks) == 1
    return chunks[0]


@pytest.mark.parametrize("algorithm", [pytest.param("baseline", marks=pytest.mark.slow), "parrot"])
@on_each_database
def test_free_content_is_forecast_again_for_every_post_with_a_text(
    folder: Path, plugins: Plugins, algorithm: str
) -> None:
    plugins.add("parrot", textwrap.dedent(PLUGIN))
    posts = regular_posts(120)
    posts.loc[posts.index % 4 == 0, "content"] = None
    posts.loc[posts.index % 8 == 1, "content"] = "  \n"
    with packages(plugins.environ["PYTHONPATH"]):
        project = open_project(folder)
        project.posts.add(posts[:100], NOW)
        when = posts["created_at"][99].to_pydatetime()
        retrain(project, runtime_of(project), "content", when, as_of=True, algorithm=algorithm)
        project.posts.add(posts, NOW)
        found = scores_of(project)
        usable = load_posts(project, "content", NOW)
        rows = np.flatnonzero(usable["created_at"] > when)
        assert 5 < len(rows) < 20
        version = project.registry.get_production("content")
        assert version is not None
        model_type: Any = get_model_type("content")
        origins = Origins.before(usable, rows, target_time_known=True)
        forecasts = load_live_fit(project, runtime_of(project), version).predict(usable, origins)
        components = model_type.score_components(forecasts, model_type.targets(usable, origins, rows))
        assert found.post_ids == usable["post_id"][rows].tolist()
        assert found.figures.tolist() == components.tolist()


def ask(paid: Paid, row: int, text: str, claude: ClaudeServer) -> None:
    """Let a caller ask for the text of a post an hour before it comes."""
    claude.enqueue(text_reply(text))
    paid.predict(TIMES[row] - timedelta(hours=1))
    paid.project.posts.add(POSTS[: row + 1], NOW)


@on_each_database
def test_paid_content_is_scored_by_what_was_served(paid: Paid, claude: ClaudeServer) -> None:
    project, (first, second, third) = paid.project, LIVE[:3]
    ask(paid, first, POSTS["content"][first], claude)
    project.posts.add(POSTS[: second + 1], NOW)  # nobody asked
    ask(paid, third, "something else", claude)
    asked = len(claude.requests)
    found = scores_of(project)
    assert found.post_ids == [POSTS["post_id"][first], POSTS["post_id"][third]]
    assert found.figures[0].tolist() == [1.0, 1.0]
    assert found.figures[1].max() < 0.6
    assert found.other_figures.min() > 0
    edited = POSTS[: third + 1].copy()
    edited.loc[third, "content"] = "something else"
    update_posts(project, edited)
    assert scores_of(project).figures.tolist() == [[1.0, 1.0]] * 2
    assert len(claude.requests) == asked, "no call is made just to score"


@pytest.mark.slow
@on_each_database
def test_an_ab_test_of_paid_content_pays_for_each_post_once(paid: Paid, claude: ClaudeServer) -> None:
    project, challenger = paid.project, paid.versions[1]
    runtime = runtime_of(project)
    start = TIMES[LAST_TRAINED] + timedelta(hours=1)
    with pytest.raises(UsageError, match="--max-cost"):
        start_test(project, runtime, "content", challenger, "why not", start)
    test = start_test(project, runtime, "content", challenger, "why not", start, max_cost=0.01).test
    project.posts.add(POSTS, NOW)
    assert claude.requests == []
    update_live(project, runtime, "content", NOW, calls=False)
    assert claude.requests == [], "a look makes no calls"
    state = check_test(project, runtime, "content", NOW)
    assert state is not None
    assert (state.test.test_id, state.num_posts) == (test.test_id, len(LIVE))
    assert len(claude.requests) == 2 * len(LIVE)
    before, question = claude.requests[0].texts[-1].rsplit("\n\n", 1)
    assert f"{TIMES[LIVE[0]]:%Y-%m-%d %H:%M}" in question
    assert before.count("post number") == 5, "the calls know as many posts as those of an evaluation"
    costs = [forecast.forecast["cost_usd"] for forecast in paid.kept()]
    assert state.cost_usd is not None
    assert sum(state.cost_usd.values()) == pytest.approx(sum(costs))
    assert len(scores_of(project, "challenger").post_ids) == len(LIVE)
    assert len(claude.requests) == 2 * len(LIVE), "what was paid for is scored again for nothing"


@pytest.mark.slow
@on_sqlite
def test_a_paid_challenger_is_tested_against_free_production(paid: Paid, claude: ClaudeServer) -> None:
    project, challenger = paid.project, paid.versions[1]
    runtime = runtime_of(project)
    start = TIMES[LAST_TRAINED] + timedelta(hours=1)
    run = retrain(project, runtime, "content", start, as_of=True, algorithm="baseline", auto_promote=False).run
    assert run is not None
    project.registry.promote(str(run.model_version_id), paid.versions[0], "by hand", start)
    start_test(project, runtime, "content", challenger, "why not", start, max_cost=0.01)
    project.posts.add(POSTS, NOW)
    asked = len(claude.requests)
    claude.enqueue(refusal())
    assert len(scores_of(project, "challenger").post_ids) == len(LIVE) - 1
    assert len(claude.requests) == asked + len(LIVE)


@pytest.mark.slow
@on_sqlite
def test_a_text_of_a_foreign_table_that_changes_is_scored_again(folder: Path) -> None:
    path = folder / "foreign.db"
    rows = [[str(value) for value in row] for row in POSTS[["post_id", "created_at", "content"]].to_numpy().tolist()]
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE toots (post_id TEXT, created_at TEXT, content TEXT)")
        foreign.executemany("INSERT INTO toots VALUES (?, ?, ?)", rows)
        foreign.commit()
        environ = {"RETRAINER_POSTS__URL": f"sqlite:///{path}", "RETRAINER_POSTS__TABLE": "toots"}
        project = open_project(folder, environ)
        retrain(project, runtime_of(project), "content", TIMES[LAST_TRAINED], as_of=True)
        before = scores_of(project)
        assert before.post_ids == POSTS["post_id"].tolist()[LIVE[0] :]
        foreign.execute("UPDATE toots SET content = 'short' WHERE post_id = ?", [POSTS["post_id"][LIVE[1]]])
        foreign.execute("DELETE FROM toots WHERE post_id = ?", [POSTS["post_id"][LIVE[4]]])
        foreign.commit()
        after = scores_of(project)
    assert after.post_ids == [post_id for post_id in before.post_ids if post_id != POSTS["post_id"][LIVE[4]]]
    assert after.figures[0].tolist() == before.figures[0].tolist()
    assert after.figures[1].max() < before.figures[1].min()


@on_sqlite
def test_paid_timing_is_not_scored_and_not_called(
    folder: Path, plugins: Plugins, caplog: pytest.LogCaptureFixture
) -> None:
    called = folder / "called"
    dear = timing_algorithm("dear", predict=f"Path({str(called)!r}).touch()")
    plugins.add("dear", dear.replace("summary=", "paid=True, summary="))
    with packages(plugins.environ["PYTHONPATH"]):
        project = open_project(folder)
        project.posts.add(POSTS[: LAST_TRAINED + 1], NOW)
        retrain(project, runtime_of(project), "timing", TIMES[LAST_TRAINED], as_of=True, algorithm="dear")
        project.posts.add(POSTS, NOW)
        called.unlink()
        caplog.set_level("INFO", "retrainer")
        assert update_live(project, runtime_of(project), "timing", NOW) == []
    assert "'dear' makes paid forecasts, and paid timing forecasts are not stored" in caplog.text
    assert not called.exists()


@on_sqlite
def test_what_a_paid_challenger_answers_is_within_its_limit(paid: Paid, claude: ClaudeServer) -> None:
    start = TIMES[LAST_TRAINED] + timedelta(hours=1)
    runtime = runtime_of(paid.project)
    test = start_test(
        paid.project, runtime, "content", paid.versions[1], "why not", start, share=100, max_cost=0.01
    ).test
    answer = paid.predict(start, subject="ada")
    assert (answer.side, answer.version_id) == ("challenger", paid.versions[1])
    spent = SharedBudget.of_test(paid.project.registry.database, test.test_id, "challenger").limit_and_use()[1]
    assert spent == pytest.approx(answer.cost_usd)
    with paid.project.registry.database.write() as session:
        session.execute(sa.update(Budget).values(limit_usd=spent))
    calls = len(claude.requests)
    instead = paid.predict(start + timedelta(minutes=1), subject="ada")
    assert (instead.side, instead.version_id, instead.outcome) == ("production", paid.versions[0], "ok")
    assert len(claude.requests) == calls + 1, "of production"
    assert [kept.version_id for kept in paid.kept()] == [paid.versions[1], paid.versions[0]]
    state = check_test(paid.project, runtime, "content", start + timedelta(minutes=2))
    assert state is not None
    assert "(--max-cost): few or no more posts are scored" in str(state.problem)
