"""The budget of the paid calls of a fleet."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from retrainer.fleet.units import Unit, WorkerSpec
from retrainer.fleet.worker import close_project, run_unit
from retrainer.registry.budgets import SharedBudget
from tests.command_line import packages
from tests.conftest import NOW, open_project
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from tests.claude_server import ClaudeServer
    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins


@pytest.mark.usefixtures("streams")
def test_a_paid_fleet_needs_max_cost(
    paid_environ: dict[str, str], claude_server: ClaudeServer, project: Project, retrainer: Runner
) -> None:
    refused = retrainer("train", "--all-streams", env=paid_environ)
    assert refused.code == 2
    assert "uses the paid algorithm 'claude_api'" in refused.err
    assert "--max-cost" in refused.err
    assert retrainer("train", "timing", "--stream", "n*", env=paid_environ).code == 0
    assert claude_server.requests == []


def test_a_worker_makes_no_paid_calls_without_a_limit(
    streams: list[str],
    paid_environ: dict[str, str],
    claude_server: ClaudeServer,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as changed:
        for name, value in paid_environ.items():
            changed.setenv(name, value)
        outcome = run_unit(WorkerSpec(project.config_file), Unit(streams[0], "content", None))
        close_project()
    assert outcome.error is not None
    assert "cost money" in outcome.error.message
    assert claude_server.requests == []


@pytest.mark.parametrize("folder_on_each_database", ["sqlite"], indirect=True)
def test_calls_that_cost_nothing_leave_no_debt(project: Project) -> None:
    budget = SharedBudget.create(project.registry.database, 2.0, NOW)
    for estimate in (0.1, 0.2, 0.3, 0.7):
        assert budget.reserve(estimate)
    for estimate in (0.1, 0.3, 0.7, 0.2):
        budget.settle(estimate, 0.0)
    assert f"${budget.limit_and_use()[1]:.4f}" == "$0.0000"


@pytest.mark.parametrize("folder_on_each_database", ["sqlite"], indirect=True)
def test_a_paid_version_that_is_promoted_during_a_run_makes_no_calls_without_a_limit(
    folder: Path, streams: list[str], project: Project, plugins: Plugins, retrainer: Runner
) -> None:
    paid = folder / "paid"
    reserve = f"budget.reserve(0.1, max_calls=None, max_cost=None)\nPath({str(paid)!r}).touch()"
    dear = timing_algorithm("dear", predict=reserve).replace("origins):", "origins, budget):", 1)
    plugins.add("dear", dear.replace("summary=", "paid=True, summary="))
    arguments = ("train", "timing", "--stream", "news", "--algorithm", "dear", "--no-auto-promote")
    assert retrainer(*arguments, env=plugins.environ).code == 0
    paid.unlink()
    own = project.for_stream("news").registry
    (version,), (run,) = own.list_versions(), own.list_runs()
    promote = f"""
        from datetime import UTC, datetime
        from retrainer.project import Project
        own = Project.find(Path({str(folder)!r}), {{}}).for_stream("news")
        own.registry.promote({version.version_id!r}, None, "by hand", datetime.now(UTC))
        own.close()
    """
    plugins.add("switching", timing_algorithm("switching", train=promote))
    with packages(plugins.environ["PYTHONPATH"]):
        spec = WorkerSpec(project.config_file, algorithm="switching")
        outcome = run_unit(spec, Unit("news", "timing", run.run_id))
        close_project()
    production = own.get_production("timing")
    assert production is not None, outcome.error
    assert production.version_id == version.version_id
    assert outcome.kind == "not_promoted"
    assert outcome.run_id is not None
    assert not paid.exists()


@pytest.mark.slow  # starts processes
@pytest.mark.parametrize("folder_on_each_database", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("streams")
def test_a_cost_that_cannot_be_read_hides_no_result(folder: Path, plugins: Plugins, retrainer: Runner) -> None:
    drop = f"""
        import sqlite3
        database = sqlite3.connect({str(folder / "data" / "retrainer.db")!r})
        database.execute("DROP TABLE retrainer_budgets")
        database.close()
    """
    plugins.add("dear", timing_algorithm("dear", train=drop).replace("summary=", "paid=True, summary="))
    arguments = ("train", "timing", "--stream", "n*", "--algorithm", "dear", "--max-cost", "1", "--json")
    done = retrainer(*arguments, env=plugins.environ)
    assert done.code == 0, done.err
    assert done.json["outcomes"]["promoted"] == 1
    assert "Cannot read the cost: the database" in done.err


@pytest.mark.slow  # four processes import the SDK
@pytest.mark.parametrize("folder_on_each_database", ["postgresql"], indirect=True)  # reservations have fast tests
def test_four_workers_never_exceed_max_cost(
    streams: list[str], paid_environ: dict[str, str], claude_server: ClaudeServer, project: Project, retrainer: Runner
) -> None:
    one = retrainer("train", "content", "--stream", "n*", "--max-cost", "10", "--json", env=paid_environ)
    assert one.code == 0, one.err
    limit = one.json["cost_usd"] * 0.9  # less than half of the forecasts of at least two of the three runs
    assert limit > 0
    claude_server.usages.clear()
    arguments = ("train", "--all-streams", "--jobs", "4", "--max-cost", f"{limit:.6f}", "--json")
    done = retrainer(*arguments, env=paid_environ)
    assert done.code == 1
    paid = claude_server.cost_usd
    assert 0 < paid <= limit
    assert done.json["cost_usd"] == pytest.approx(paid)
    runs = [run for run in project.registry.across(None).list_runs("content") if run.run_id not in str(one.out)]
    assert sum(run.cost_usd or 0.0 for run in runs) == pytest.approx(done.json["cost_usd"])
    errors = done.json["errors"]
    assert errors
    assert all("above $" in error["message"] and "--max-cost" in error["message"] for error in errors)
    assert all(error["model_type"] == "content" for error in errors)
    timing = [run for run in done.json["training_runs"] if run["model_type"] == "timing"]
    assert [run["outcome"] for run in timing] == ["promoted"] * len(streams)


def test_a_budget_is_never_exceeded_by_reservations_at_the_same_time(folder: Path) -> None:
    budget = SharedBudget.create(open_project(folder).registry.database, 1.0, NOW)
    granted: list[bool] = []

    def spend() -> None:
        project = open_project(folder)
        own = SharedBudget(project.registry.database, budget.budget_id)
        for _ in range(8):
            granted.append(own.reserve(0.125))
            if granted[-1] and len(granted) % 2:
                own.settle(0.125, 0.0625)
        project.close()

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    limit, used = budget.limit_and_use()
    assert used <= limit == 1.0
    assert not budget.reserve(1.0 - used + 0.01)
    assert budget.reserve(1.0 - used)
