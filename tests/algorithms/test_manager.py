"""Third-party plugins: found by entry point, checked when selected, named when broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from retrainer.algorithms.hookspecs import AlgorithmHooks, ObserverHooks
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins


def without_predict(name: str, hooks: str = "") -> str:
    """Return the code of a timing algorithm that has these hooks in place of predict."""
    return f"""\
from retrainer.algorithms import Algorithm, hookimpl

@hookimpl
def algorithm():
    return Algorithm(name="{name}", model_types=("timing",), summary="For a test.")

@hookimpl
def train(posts):
    return {{}}

{hooks}
"""


ONE_FORECAST = """\
from retrainer.model_types.timing import TimingForecasts
    import numpy as np
    return TimingForecasts(np.zeros((1, 99)), np.zeros(1))"""

BROKEN = {
    "unimportable": ("import there_is_no_such_module", "ModuleNotFoundError"),
    "bare": ("raise BaseException('on import')", "BaseException: on import"),
    "syntax_error": ("def f(:", "SyntaxError"),
    "no_predict": (without_predict("no_predict"), "does not implement predict"),
    "wrong_signature": (
        without_predict("wrong_signature", "@hookimpl\ndef predict(model, postings):\n    return None"),
        "invalid hook",
    ),
    "misspelled": (
        timing_algorithm("misspelled", hooks="@hookimpl\ndef predcit(model):\n    return 1"),
        "invalid hook: unknown hook 'predcit'",
    ),
    "another_name": (
        timing_algorithm("some_other", 1),
        "the plugin registered as 'another_name' calls itself 'some_other'",
    ),
    "half_saved": (
        timing_algorithm("half_saved", hooks="@hookimpl\ndef save(model, directory):\n    return []"),
        "implements only one of save and load",
    ),
    "no_without": (
        timing_algorithm("no_without", hooks="@hookimpl\ndef context_parts(model):\n    return []"),
        "implements context_parts, but its predict has no argument 'without'",
    ),
    "no_state_in_simulate": (
        without_predict(
            "no_state_in_simulate",
            "@hookimpl\ndef predict(model, state):\n    return None\n"
            "@hookimpl\ndef condense(posts):\n    return None\n"
            "@hookimpl\ndef simulate(posts):\n    return None\n",
        ).replace('summary="For a test."', 'summary="For a test.", state_format=1'),
        "implements condense, but its simulate has no argument 'state'",
    ),
    "loose_options": (
        timing_algorithm(
            "loose_options",
            setup="from pydantic import BaseModel\nclass Options(BaseModel):\n    x: int = 1",
        ).replace("summary=", "config=Options, summary="),
        "not a pydantic class with extra='forbid'",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_listed_with_its_problem(
    name: str, retrainer: Runner, plugins: Plugins, folder: Path
) -> None:
    code, problem = BROKEN[name]
    plugins.add(name, code)
    listed = retrainer("plugins", "--json", env=plugins.environ)
    assert listed.code == 0
    (found,) = [plugin for plugin in listed.json if plugin["name"] == name]
    assert found["status"] == "broken"
    assert problem in found["problem"]
    usable = {plugin["name"] for plugin in listed.json if plugin["status"] == "ok" and plugin["kind"] == "algorithm"}
    assert usable == {"prophet", "neural_tpp", "ensemble", "claude_api", "finetuned_lm", "baseline"}


@pytest.mark.usefixtures("with_posts")
def test_a_broken_plugin_that_is_not_chosen_blocks_nothing(retrainer: Runner, plugins: Plugins) -> None:
    plugins.add("unimportable", "import there_is_no_such_module")
    assert retrainer("train", env=plugins.environ).code == 0


@pytest.mark.usefixtures("with_posts")
@pytest.mark.parametrize("name", ["unimportable", "no_predict", "wrong_signature"])
def test_a_broken_plugin_that_is_chosen_is_one_clear_line(name: str, retrainer: Runner, plugins: Plugins) -> None:
    code, problem = BROKEN[name]
    plugins.add(name, code)
    done = retrainer("train", "timing", "--algorithm", name, "--quiet", env=plugins.environ)
    assert done.code == 1
    *_, line = done.err.splitlines()  # the posts are stale too
    assert problem in line
    assert f"'{name}'" in line
    assert retrainer("history", "--json").json["training_runs"] == []


def test_the_traceback_of_a_broken_plugin_is_shown_when_asked_for(
    retrainer: Runner, plugins: Plugins, folder: Path
) -> None:
    plugins.add("unimportable", "import there_is_no_such_module")
    done = retrainer("train", "timing", "--algorithm", "unimportable", "--traceback", env=plugins.environ)
    assert done.code == 1
    assert "Traceback (most recent call last)" in done.err
    assert "ModuleNotFoundError" in done.err


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return None", "its hook predict returned None"),
        pytest.param(
            "return [1, 2]", "its hook predict returned a list instead of TimingForecasts", marks=pytest.mark.slow
        ),
        ("raise KeyError('oh')", "its hook predict failed: KeyError: 'oh'"),
        (
            ONE_FORECAST,
            "its hook predict returned quantiles of shape (1, 99) instead of (20, 99)",
        ),
    ],
)
@pytest.mark.usefixtures("with_posts")
def test_nonsense_from_a_hook_names_the_plugin_and_the_hook(
    body: str, problem: str, retrainer: Runner, plugins: Plugins
) -> None:
    plugins.add("nonsense", without_predict("nonsense", f"@hookimpl\ndef predict(model):\n    {body}"))
    done = retrainer("train", "timing", "--algorithm", "nonsense", env=plugins.environ)
    assert done.code == 1
    assert f"ERROR: Model training failed: the plugin 'nonsense': {problem}" in done.err
    history = retrainer("history", "--json").json
    assert history["training_runs"][0]["status"] == "failed"
    assert problem in history["training_runs"][0]["error"]
    (version,) = retrainer("versions", "--json").json["versions"]
    assert version["status"] == "failed"
    assert retrainer("production", "--json").json["timing_model"] is None
    refused = retrainer("promote", version["version_id"], env=plugins.environ)
    assert refused.code == 1


@pytest.mark.usefixtures("with_posts")
def test_a_model_that_looks_into_the_future_fails_at_run_time_too(retrainer: Runner, plugins: Plugins) -> None:
    setup = "from retrainer.model_types.base import hours_between, utc_times"
    look_ahead = """
        times = utc_times(posts)
        following = np.minimum(origins.position + 1, len(posts) - 1)
    """
    wait = "hours_between(times[origins.position], times[following])"
    code = timing_algorithm("clairvoyant", setup=setup, predict=look_ahead, wait=wait)
    plugins.add("clairvoyant", code)
    done = retrainer("train", "timing", "--algorithm", "clairvoyant", env=plugins.environ)
    assert done.code == 1
    assert "the plugin 'clairvoyant' looks into the future" in done.err
    assert retrainer("production", "--json").json["timing_model"] is None


@pytest.mark.slow
@pytest.mark.usefixtures("with_posts")
def test_a_thread_that_a_plugin_leaves_does_not_keep_the_program_from_ending(
    retrainer_process: Runner, plugins: Plugins
) -> None:
    leave = """
        import threading
        threading.Thread(target=threading.Event().wait, name="left for good").start()
    """
    plugins.add("leaving", timing_algorithm("leaving", train=leave))
    done = retrainer_process("train", "timing", "--algorithm", "leaving", "--exit-code", "--json", env=plugins.environ)
    assert done.code == 0
    assert done.json["count"] == 1
    assert done.err.splitlines()[-1].startswith("WARNING: Exiting although threads are still running")
    assert done.err.splitlines()[-1].endswith(": 'left for good'")
    refused = retrainer_process(
        "train", "timing", "--algorithm", "leaving", "--no-auto-promote", "--exit-code", env=plugins.environ
    )
    assert refused.code == 10


@pytest.mark.slow
@pytest.mark.usefixtures("with_posts")
def test_a_pool_of_threads_that_a_plugin_leaves_ends_with_the_program(
    retrainer_process: Runner, plugins: Plugins
) -> None:
    leave = """
        import atexit, concurrent.futures, sys
        concurrent.futures.ThreadPoolExecutor().submit(int).result()
        atexit.register(print, "ended as usual", file=sys.stderr)
    """
    plugins.add("pooling", timing_algorithm("pooling", train=leave))
    done = retrainer_process("train", "timing", "--algorithm", "pooling", env=plugins.environ)
    assert done.code == 0
    assert "still running" not in done.err
    assert "ended as usual" in done.err


@pytest.mark.usefixtures("with_posts")
@pytest.mark.parametrize(
    "hours",
    [
        "np.random.default_rng().uniform(1, 2)",
        "model.setdefault('counts', []).append(1) or len(model['counts'])",
        "float(not model.__setitem__('odd', not model.get('odd')) and model['odd'])",  # two answers, in turn
        "1.0 if 'seen' in model else model.__setitem__('seen', 1) or 2.0",  # another one the first time
    ],
)
@pytest.mark.parametrize(
    "command",
    [("train", "timing"), pytest.param(("replay", "timing", "--from", "2024-10-30"), marks=pytest.mark.slow)],
)
def test_a_model_that_gives_two_answers_is_told_so_at_run_time_too(
    command: tuple[str, ...], hours: str, retrainer: Runner, plugins: Plugins
) -> None:
    plugins.add("moody", timing_algorithm("moody", wait=hours))
    done = retrainer(*command, env={**plugins.environ, "RETRAINER_TIMING_MODEL__ALGORITHM": "moody"})
    assert "the plugin 'moody' is not deterministic: seed all randomness" in done.err
    assert "looks into the future" not in done.err


def test_two_packages_of_one_name_are_both_named(retrainer: Runner, plugins: Plugins, folder: Path) -> None:
    plugins.add("twice", timing_algorithm("twice", 1), distribution="first-package")
    plugins.add("twice", timing_algorithm("twice", 2), distribution="second-package")
    done = retrainer("train", "timing", "--algorithm", "twice", "--quiet", env=plugins.environ)
    assert done.code == 1
    assert "two packages provide the algorithm 'twice': first-package 1.0 and second-package 1.0" in done.err


def test_an_unknown_algorithm_is_refused_with_a_near_match(retrainer: Runner, folder: Path) -> None:
    done = retrainer("train", "timing", "--algorithm", "prohpet", "--quiet")
    assert done.code == 2
    assert "unknown algorithm 'prohpet'. Did you mean 'prophet'?" in done.err


def test_an_algorithm_of_the_other_type_is_refused(retrainer: Runner, folder: Path) -> None:
    done = retrainer("train", "content", "--algorithm", "prophet", "--quiet")
    assert done.code == 2
    assert "the algorithm 'prophet' forecasts timing, not content" in done.err


@pytest.mark.usefixtures("with_posts")
def test_a_hook_that_returns_none_is_an_error_that_names_plugin_and_hook(retrainer: Runner, plugins: Plugins) -> None:
    plugins.add("silent", without_predict("silent", "@hookimpl\ndef predict():\n    return None"))
    done = retrainer("train", "timing", "--algorithm", "silent", env=plugins.environ)
    assert done.code == 1
    assert "the plugin 'silent': its hook predict returned None" in done.err


def test_what_a_plugin_prints_when_it_is_imported_is_not_in_the_list(retrainer: Runner, plugins: Plugins) -> None:
    plugins.add("noisy", timing_algorithm("noisy", setup="print('noise')"))
    plugins.add_observer("loud", "print('more noise')\n")
    listed = retrainer("plugins", "--json", cwd=plugins.site, env=plugins.environ)
    assert {"noisy", "loud"} <= {one["name"] for one in listed.json}
    assert "more noise" in listed.err


@pytest.mark.usefixtures("with_posts")
@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("import sys; sys.exit(0)", "its hook train failed: SystemExit: 0"),
        ("raise BaseException('bare')", "its hook train failed: BaseException: bare"),
        ("import asyncio; raise asyncio.CancelledError", "its hook train failed: CancelledError"),
        ("raise OSError('odd')", "its hook train failed: OSError: odd"),
    ],
)
def test_a_plugin_that_stops_the_program_is_an_error_like_any_other(
    body: str, problem: str, retrainer: Runner, plugins: Plugins
) -> None:
    plugins.add("stopper", timing_algorithm("stopper", train=body))
    done = retrainer("train", "--json", env={**plugins.environ, "RETRAINER_TIMING_MODEL__ALGORITHM": "stopper"})
    assert done.code == 1
    message = done.json["errors"][0]["message"]
    assert problem in message
    file, line = message.removesuffix(")").rpartition("(")[2].split(":")
    assert Path(file) == plugins.site / "retrainer_stopper_module.py"
    assert body in Path(file).read_text().splitlines()[int(line) - 1]
    assert [run["status"] for run in done.json["training_runs"]] == ["failed", "completed"]


@pytest.mark.usefixtures("with_posts")
def test_what_a_plugin_prints_does_not_reach_the_document(retrainer: Runner, plugins: Plugins) -> None:
    plugins.add("noisy", timing_algorithm("noisy", train="print('noise'); os.write(1, b'more noise')"))
    done = retrainer("train", "timing", "--algorithm", "noisy", "--json", env=plugins.environ)
    assert done.json["count"] == 1
    assert "noise" in done.err


@pytest.mark.usefixtures("with_posts")
def test_metrics_of_a_plugin_cannot_take_the_place_of_others(retrainer: Runner, plugins: Plugins) -> None:
    score = "@hookimpl\ndef score(forecasts):\n    return {'window': 1.0, 'metrics': 2.0, 'skill': 9.0}"
    plugins.add("boaster", timing_algorithm("boaster", hooks=score))
    done = retrainer("train", "timing", "--algorithm", "boaster", "--json", env=plugins.environ)
    assert done.code == 0
    metrics = done.json["training_runs"][0]["evaluation"]["metrics"]
    assert metrics["window"] == 1.0
    assert metrics["skill"] < 1
    endless = score.replace("9.0", "float('nan')")
    plugins.add("endless", timing_algorithm("endless", hooks=endless))
    done = retrainer("train", "timing", "--algorithm", "endless", env=plugins.environ)
    assert done.code == 1
    assert "its hook score returned nan for 'skill'" in done.err


@pytest.mark.usefixtures("with_posts")
def test_a_production_version_that_cannot_forecast_is_told_and_does_not_stop_the_training(
    retrainer: Runner, plugins: Plugins
) -> None:
    plugins.add("gone", timing_algorithm("gone", 1))
    assert retrainer("train", "timing", "--algorithm", "gone", env=plugins.environ).code == 0
    done = retrainer("train", "timing", "--json")
    assert done.code == 1
    (run,) = done.json["training_runs"]
    assert run["status"] == "completed"
    assert not run["promoted_to_production"]
    assert "production 'gone_timing_" in run["promotion_reason"]
    assert "cannot forecast: unknown algorithm 'gone'" in run["promotion_reason"]
    assert retrainer("promote", run["model_version_id"]).code == 0


def test_every_hook_is_documented() -> None:
    for hooks in (AlgorithmHooks, ObserverHooks):
        for name, hook in vars(hooks).items():
            if not name.startswith("_"):
                assert hook.__doc__, name


@pytest.mark.slow
@pytest.mark.usefixtures("with_posts")
def test_a_strangers_package_installs_and_trains(retrainer: Runner, folder: Path, tmp_path: Path) -> None:
    """A package with its own pyproject.toml, installed by pip."""
    source = tmp_path / "stranger"
    (source / "retrainer_weekly").mkdir(parents=True)
    (source / "pyproject.toml").write_text(
        """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "retrainer-weekly"
version = "0.3"

[project.entry-points."retrainer.algorithms"]
weekly = "retrainer_weekly"
"""
    )
    (source / "retrainer_weekly" / "__init__.py").write_text(
        '''
"""The wait is what it usually was after posts of the same weekday."""

import numpy as np
from pydantic import BaseModel, ConfigDict

from retrainer.algorithms import Algorithm, hookimpl


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    factor: float = 1.0


@hookimpl
def algorithm():
    return Algorithm(name="weekly", model_types=("timing",), summary="By weekday.", config=Options)


@hookimpl
def train(posts, config):
    hours = posts["created_at"].diff().shift(-1).dt.total_seconds() / 3600
    usual = hours.groupby(posts["created_at"].dt.day_of_week).median()
    return {"usual": {str(day): float(wait) * config.factor for day, wait in usual.dropna().items()}}


@hookimpl
def predict(model, posts, origins):
    from retrainer.model_types.timing import TimingForecasts

    days = posts["created_at"].dt.day_of_week.to_numpy()[origins.position]
    wait = np.array([model["usual"].get(str(day), 24.0) for day in days])
    return TimingForecasts(np.repeat(wait[:, None], 99, axis=1), wait)


@hookimpl
def score(forecasts, targets):
    return {"mean_wait_hours": float(targets.wait_hours.mean()), "overall_score": 99.0}
'''
    )
    site = tmp_path / "installed"
    command = [
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--target",
        str(site),
        str(source),
    ]
    subprocess.run([sys.executable, "-m", "pip", *command], check=True, timeout=600)
    environ = {
        "PYTHONPATH": str(site),
        "RETRAINER_TIMING_MODEL__ALGORITHM": "weekly",
        "RETRAINER_TIMING_MODEL__WEEKLY__FACTOR": "1.1",
    }
    trained = retrainer("train", "timing", "--json", env=environ)
    assert trained.code == 0
    (run,) = trained.json["training_runs"]
    assert run["algorithm"] == "weekly"
    assert run["promoted_to_production"]
    metrics = run["evaluation"]["metrics"]
    assert metrics["mean_wait_hours"] == pytest.approx(5.0)
    assert metrics["overall_score"] <= 1, "a plugin's score replaces none of the deciding ones"
    assert retrainer("predict", "timing", env=environ).code == 0
    shown = retrainer("show", run["model_version_id"], "--json", env=environ).json
    assert shown["hyperparameters"] == {"factor": 1.1}
