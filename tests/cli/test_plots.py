"""The option --plot: each command that has it writes a picture of its result, and nothing else changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from retrainer.pipeline.run import retrain
from tests.cli.test_live import let_posts_come
from tests.conftest import NOW, open_project, runtime_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Runner
    from tests.conftest import Prepare

COMMANDS = (
    "evaluate {0}",
    "compare {0} {1}",
    "show {0}",
    "predict timing --at last --until 2d",
    "history",
    "live timing",
)


def let_a_second_version_be_trained(folder: Path) -> tuple[str, str]:
    """Train a timing version, let posts come, train another one; return both."""
    first = let_posts_come(folder)
    project = open_project(folder)
    run = retrain(project, runtime_of(project), "timing", NOW).run
    project.close()
    assert run
    return first, str(run.model_version_id)


@pytest.fixture
def folder(sqlite_folder: Path) -> Path:
    return sqlite_folder


@pytest.fixture
def versions(folder: Path, prepare: Prepare) -> tuple[str, str]:
    return prepare(folder, let_a_second_version_be_trained)


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS)
def test_a_plot_leaves_the_output_as_it_is(
    line: str, folder: Path, versions: tuple[str, str], retrainer: Runner
) -> None:
    arguments = line.format(*versions).split()
    done = retrainer(*arguments, "--plot", "plot.svg")
    assert done.code == 0, done.err
    assert done.out == retrainer(*arguments).out
    svg = (folder / "plot.svg").read_bytes()
    assert svg.startswith(b"<?xml")
    assert b"style=" not in svg


@pytest.mark.parametrize("line", ["evaluate x", "compare x y", "show x", "predict timing", "history", "live"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_done(
    line: str, folder: Path, retrainer: Runner
) -> None:
    (folder / "models" / "timing").mkdir(exist_ok=True)
    for name, message in (
        ("plot.gif", "--plot: unsupported format 'plot.gif'. Choose a name that ends in .png or .svg"),
        ("no/plot.svg", "--plot: folder 'no' does not exist. Create it, or choose another"),
        ("models/timing/plot.svg", "--plot: 'models/timing/plot.svg' belongs to the project. Choose another file"),
    ):
        done = retrainer(*line.split(), "--plot", name)
        assert (done.code, message in done.err, done.out) == (2, True, ""), done.err
    assert not (folder / "models" / "timing" / "plot.svg").exists()


def test_without_a_result_there_is_nothing_to_plot(folder: Path, retrainer: Runner) -> None:
    done = retrainer("history", "--plot", "plot.svg")
    assert (done.code, "--plot: no run has scored a version. Run `retrainer train`" in done.err) == (2, True)
    assert not (folder / "plot.svg").exists()


@pytest.mark.usefixtures("folder")
def test_the_plot_of_a_forecast_is_of_timing(retrainer: Runner) -> None:
    done = retrainer("predict", "content", "--plot", "plot.svg")
    assert (done.code, "--plot applies to timing only" in done.err) == (2, True)


@pytest.mark.slow
def test_the_plot_of_show_is_of_a_version(folder: Path, versions: tuple[str, str], retrainer: Runner) -> None:
    assert versions
    run = retrainer("history", "--json").json["training_runs"][0]["run_id"]
    done = retrainer("show", run, "--plot", "plot.svg")
    assert (done.code, "--plot requires a version, not a run" in done.err) == (2, True)
    assert not (folder / "plot.svg").exists()
