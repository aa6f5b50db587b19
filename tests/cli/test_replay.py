"""The command `replay`: its output and plots, invalid input, interrupts, prefetching and cost limits."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.api.conftest import WAITING, Turnstile
from tests.conftest import configure, import_sample
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.claude_server import ClaudeServer
    from tests.command_line import Runner
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins

FROM, TO = ("--from", "2024-03-01"), ("--to", "2024-03-22")
DAILY = ("--policy", "daily: schedule_days=1, min_improvement_threshold=5, min_confidence=0.95")


@pytest.fixture(autouse=True)
def _posts(folder: Path, prepare: Prepare) -> None:
    prepare(folder, import_sample)


@pytest.mark.slow
def test_verbose_logs_one_line_per_step(retrainer: Runner) -> None:
    done = retrainer("replay", *FROM, "--to", "2024-03-09", "--verbose")
    steps = re.findall(r"^2024-0\d-\d\d 00:00 (configured|never|always): ", done.err, re.MULTILINE)
    assert len(steps) == 6
    assert "MODEL RETRAINING" not in done.err


def test_a_plot_that_cannot_be_written_does_not_lose_the_report(retrainer: Runner, folder: Path) -> None:
    (folder / "plot.svg").symlink_to("/dev/full")
    done = retrainer("replay", *FROM, "--to", "2024-03-09", "--plot", "plot.svg")
    assert done.code == 1
    assert "plot.svg" in done.err
    assert done.out.startswith("Timing, live from 2024-03-01")


@pytest.mark.slow
def test_a_replay_is_shown_as_json_and_as_a_table(retrainer: Runner) -> None:
    replay = ("replay", "timing", *FROM, "--to", "2024-04-05", *DAILY)
    done = retrainer(*replay, "--json")
    assert done.err == "Replaying 50 steps of 4 policies\n", "no progress in a pipe"
    document = done.json
    assert set(document["policies"]) == {"configured", "never", "always", "daily"}
    daily = document["policies"]["daily"]
    assert daily["changes"] == {"schedule_days": 1, "min_improvement_threshold": 5, "min_confidence": 0.95}
    assert (daily["trainings"], len(daily["steps"])) == (35, 35)
    assert daily["live"]["overall_score"]["interval"][0] <= daily["live"]["overall_score"]["value"]
    assert set(daily["live"]["parts"]) == {"within_6h_accuracy", "mae_hours"}
    assert document["complete"]
    assert document["from"] == "2024-03-01T00:00:00Z"
    assert document["conclusion"]
    for policy in document["policies"].values():
        assert_live_score_follows_from_steps(policy)

    table = retrainer(*replay, "--resume")
    assert table.code == 0, table.err
    first = [line.split()[0] for line in table.out.splitlines() if line and not line.startswith(("─", " "))]
    assert first == ["Timing,", *3 * ["Policy", "configured", "never", "always", "daily"], "On"]
    assert table.out.splitlines()[-1].endswith(".")


def assert_live_score_follows_from_steps(policy: dict[str, Any]) -> None:
    steps = [step for step in policy["steps"] if step["num_predictions"]]
    assert len(steps) < len(policy["steps"]) or policy["schedule_days"] > 1, "on some days no post comes"
    total = sum(step["num_predictions"] for step in steps)
    assert total == policy["live"]["num_predictions"]
    for parts, expected in (("live_parts", policy["live"]), ("baseline_parts", policy["live"]["baseline"])):
        within, error = (
            sum(step[parts][key] * step["num_predictions"] for step in steps) / total
            for key in ("within_6h_accuracy", "mae_hours")
        )
        score = 0.7 * within + 0.3 * (1 - min(error / 24, 1))
        assert score == pytest.approx(expected["overall_score"]["value"])


@pytest.mark.slow
def test_the_file_name_determines_the_format_of_a_plot(folder: Path, retrainer: Runner) -> None:
    done = retrainer("replay", *FROM, *TO, "--plot", "plot.png")
    assert (done.code, done.err) == (0, "Replaying 9 steps of 3 policies\n"), "no progress in a pipe"
    assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert retrainer("replay", *FROM, *TO, "--plot", "plot.svg", "--resume").code == 0
    assert (folder / "plot.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--from", "2024-04-01", "--to", "2024-03-01"), 2, "--from '2024-04-01' is not before --to '2024-03-01'"),
        (("--from", "2024-04-01", "--to", "2024-04-01"), 2, "--from '2024-04-01' is not before --to '2024-04-01'"),
        (("--from", "2012-01-01"), 2, "--from: '2012-01-01' lies outside the posts (2022-02-25 to"),
        ((*FROM, "--to", "2025-01-01"), 2, "--to: '2025-01-01' lies outside the posts"),
        (("--from", "soon"), 2, "--from: 'soon' is not a time"),
        ((), 2, "Missing option '--from'"),
        (("sentiment", *FROM), 2, "unknown model type 'sentiment'"),
        ((*FROM, "--policy", "d: schedule_dayz=1"), 2, "unknown key 'schedule_dayz'. Did you mean 'schedule_days'?"),
        (
            (*FROM, "--plot", "plot.gif"),
            2,
            "--plot: unsupported format 'plot.gif'. Choose a name that ends in .png or .svg",
        ),
        ((*FROM, "--plot", "none/plot.svg"), 2, "--plot: folder 'none' does not exist"),
        ((*FROM, "--jobs", "0"), 2, "--jobs"),
        (
            ("--from", "2022-02-25", "--to", "2022-03-03"),
            3,
            "takes no step before 2022-03-03: fewer than 50 posts",
        ),
    ],
)
def test_bad_input_is_one_line(retrainer: Runner, arguments: tuple[str, ...], code: int, message: str) -> None:
    done = retrainer("replay", *arguments)
    assert done.code == code, done.err
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert done.out == ""


def test_replay_creates_no_project_database(tmp_path: Path, retrainer: Runner) -> None:
    (tmp_path / "fresh").mkdir()
    assert retrainer("init", ".", cwd=tmp_path / "fresh").code == 0
    done = retrainer("replay", *FROM, cwd=tmp_path / "fresh")
    assert done.code == 3
    assert done.err.startswith("Error: there are no posts in '")
    assert list((tmp_path / "fresh/data").iterdir()) == []


def test_replay_warns_if_it_starts_later_for_lack_of_posts(retrainer: Runner) -> None:
    done = retrainer("replay", "--from", "2022-02-26", "--to", "2022-07-01", "--json")
    assert done.code == 0, done.err
    assert "WARNING: 'configured' starts on 2022-" in done.err
    assert "before that there are fewer than 50 posts" in done.err


@pytest.fixture
def turnstile(tmp_path: Path) -> Iterator[Turnstile]:
    made = Turnstile.at(tmp_path / "turnstile")
    yield made
    made.close()


@pytest.fixture
def waiting(plugins: Plugins, turnstile: Turnstile) -> dict[str, str]:
    """The environment of a replay whose algorithm waits at the turnstile whenever it trains."""
    plugins.add("waiting", WAITING)
    algorithm = {"RETRAINER_TIMING_MODEL__ALGORITHM": "waiting"}
    return {**plugins.environ, **algorithm, "WAIT_TO_TRAIN": str(turnstile.path)}


@pytest.mark.slow
def test_an_interrupted_replay_prints_its_results_and_can_be_resumed(
    folder: Path, retrainer: Runner, waiting: dict[str, str], turnstile: Turnstile
) -> None:
    command = [sys.executable, "-m", "retrainer", "replay", *FROM, *TO]
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **waiting},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        turnstile.await_arrival()
        turnstile.let_through()
        turnstile.await_arrival()  # at the second step, which never continues
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    assert process.returncode == 130, err
    assert out.startswith("Interrupted after 3 of 9 steps. Results so far:")
    assert "configured" in out
    assert err.splitlines()[-1] == "Error: interrupted"
    del waiting["WAIT_TO_TRAIN"]
    resumed = retrainer("replay", *FROM, *TO, "--json", "--resume", env=waiting)
    assert "Replaying 9 steps of 3 policies; 3 are done" in resumed.err
    whole = retrainer("replay", *FROM, *TO, "--json", "--workdir", "elsewhere", env=waiting)
    assert without_seconds(resumed.json) == without_seconds(whole.json)


def without_seconds(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document without the processor time."""
    for policy in document["policies"].values():
        del policy["cost"]["seconds"]
    return document


@pytest.mark.slow
def test_prefetched_work_is_not_repeated(retrainer: Runner, folder: Path) -> None:
    for jobs in ("1", "2"):
        assert retrainer("replay", *FROM, *TO, "--jobs", jobs, "--workdir", f"jobs{jobs}").code == 0
    assert kept_pieces(folder / "jobs2") == kept_pieces(folder / "jobs1")


def kept_pieces(workdir: Path) -> int:
    with closing(sqlite3.connect(workdir / "timing" / "work.db")) as work:
        (count,) = work.execute("SELECT count(*) FROM cache").fetchone()
    return int(count)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they end by themselves, some minutes later")
def test_prefetch_workers_end_when_a_replay_is_killed(
    folder: Path, waiting: dict[str, str], turnstile: Turnstile
) -> None:
    command = [sys.executable, "-m", "retrainer", "replay", *FROM, "--jobs", "2"]
    environ = {**os.environ, **waiting}
    with subprocess.Popen(command, cwd=folder, env=environ, stderr=subprocess.DEVNULL) as process:
        for _ in range(2):
            turnstile.await_arrival()  # both workers, neither of which continues
        helpers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert len(helpers) >= 2
    assert not psutil.wait_procs(helpers, timeout=600)[1]


@pytest.mark.slow
def test_the_cache_of_a_plugin_is_invalid_after_its_code_changes(retrainer: Runner, plugins: Plugins) -> None:
    plugins.add("mine", timing_algorithm("mine", 5.0))
    environ = {**plugins.environ, "RETRAINER_TIMING_MODEL__ALGORITHM": "mine"}
    span = ("replay", *FROM, "--to", "2024-03-09", "--json")
    first = retrainer(*span, env=environ)
    same = retrainer(*span, "--resume", env=environ)
    assert "6 are done" in same.err
    module = plugins.site / "retrainer_mine_module.py"
    module.write_text(module.read_text().replace("5.0", "30.0"))
    edited = retrainer(*span, "--resume", env=environ)
    assert "are done" not in edited.err
    fresh = retrainer(*span, "--workdir", "elsewhere", env=environ)
    error = [done.json["policies"]["never"]["live"]["parts"]["mae_hours"] for done in (first, same, edited, fresh)]
    assert error[0] == error[1] != error[2] == error[3]


@pytest.mark.slow
def test_paid_forecasts_require_and_respect_a_cost_limit(
    retrainer: Runner, paid_environ: dict[str, str], claude_server: ClaudeServer
) -> None:
    content = ("replay", "content", *FROM, "--to", "2024-03-09")
    refused = retrainer(*content, env=paid_environ)
    assert refused.code == 2
    assert re.search(r"forecasts of 'claude_api' cost money: this replay costs up to about \$\d", refused.err)
    assert "--max-cost" in refused.err
    assert claude_server.requests == []

    stopped = retrainer(*content, "--max-cost", "0.000001", env=paid_environ)
    assert stopped.code == 1
    assert "Stopped after 0 of 6 steps" in stopped.out
    assert claude_server.requests == []

    done = retrainer(*content, "--max-cost", "5", "--json", env=paid_environ)
    assert done.code == 0, done.err
    assert re.search(r"This replay costs up to about \$\d+\.\d\d \(\d+ calls of 'claude_api'\)", done.err)
    said = int(re.search(r"(\d+) calls of", done.err)[1])  # type: ignore[index]
    assert 0 < len(claude_server.requests) <= said
    assert done.json["spent_usd"] <= 5
    configured = done.json["policies"]["configured"]
    assert configured["cost"]["tokens"] > 0
    made = len(claude_server.requests)
    again = retrainer(*content, "--max-cost", "5", "--resume", env=paid_environ)
    assert again.code == 0
    assert len(claude_server.requests) == made, "what was paid for is not paid for again"


@pytest.mark.slow
def test_a_policy_may_choose_another_algorithm(folder: Path, retrainer: Runner, plugins: Plugins) -> None:
    configure(folder, min_improvement_threshold="0.0")
    plugins.add("mine", timing_algorithm("mine", 5.0))
    other = ("--policy", "p: algorithm=mine", "--json")
    done = retrainer("replay", *FROM, "--to", "2024-03-09", *other, env=plugins.environ)
    assert done.code == 0, done.err
    assert done.json["policies"]["p"]["algorithm"] == "mine"
    assert done.json["policies"]["p"]["steps"][0]["version_id"].startswith("mine_timing_20240301_")
