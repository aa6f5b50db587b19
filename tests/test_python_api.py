"""The Python API: what `import retrainer` offers."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

import retrainer
from retrainer import Project, compare, evaluate, explain, history, predict, report, retrain, tune
from retrainer.errors import UnknownName, UsageError
from retrainer.posts.sample import sample_posts
from tests.conftest import NOW, regular_posts
from tests.tuning.tunable import tunable_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from tests.plugins_for_tests import Plugins


def test_importing_the_package_imports_nothing_slow() -> None:
    slow = {"numpy", "pandas", "pydantic", "retrainer.config", "sqlalchemy"}
    code = f"import retrainer, sys; print({slow} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_every_exported_name_is_documented_and_no_other_is_there() -> None:
    for name in set(retrainer.__all__) - {"__version__"}:
        assert inspect.getdoc(getattr(retrainer, name))
    with pytest.raises(AttributeError, match="has no attribute 'retrian'"):
        _ = retrainer.retrian


def test_the_commands_are_functions(folder: Path) -> None:
    with Project.open(folder) as project:
        project.posts.add(sample_posts(), NOW)
        first = retrain(project, "timing", as_of=NOW)
        second = retrain(project, "timing", algorithm="baseline")
        assert first.run is not None
        assert second.run is not None
        ids = [str(result.run.model_version_id) for result in (first, second) if result.run]
        assert [run.model_version_id for run in history(project, "timing")] == ids[::-1]
        assert evaluate(project, ids[0]).num_predictions == 20
        assert explain(project, ids[0], posts=5).num_predictions == 5
        assert compare(project, *ids).winner is None
        assert predict(project, "timing", interval_level=0.5).version_id == ids[0]
        assert ids[0] in report(project, model_type="timing")


@pytest.mark.slow
def test_tuning_returns_the_study_and_applies_what_it_found(
    folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.add("tunable", tunable_algorithm())
    monkeypatch.syspath_prepend(str(plugins.site))
    with Project.open(folder) as project:
        project.posts.add(regular_posts(200), NOW)
        result = tune(project, "timing", algorithms=["tunable"], trials=5, apply=True)
        assert result.promoted
        assert result.winner is not None
        assert result.report.summary.finished_trials == 5
    with Project.open(folder) as project:
        assert project.settings.timing_model.algorithm == "tunable"
        assert project.settings.timing_model.options("tunable") == {"hours": result.winner.options["hours"]}


def test_a_function_about_a_model_takes_its_stream(folder: Path) -> None:
    with Project.open(folder) as project:
        for name in ("news", "garden"):
            project.posts.for_stream(name).add(regular_posts(120), NOW)
        for call in (retrain, predict):
            with pytest.raises(UsageError, match="2 streams"):
                call(project, "timing")
            with pytest.raises(UnknownName, match="unknown stream 'new'"):
                call(project, "timing", stream="new")
        ids = [str(run.model_version_id) for _ in range(2) if (run := retrain(project, "timing", stream="news").run)]
        assert predict(project, "timing", stream="news").version_id == ids[0]
        assert predict(project.for_stream("news"), "timing").version_id == ids[0]
        with pytest.raises(UsageError, match="2 streams"):
            evaluate(project, "timing@production")
        assert evaluate(project, "timing@production", stream="news").num_predictions == 20
        assert compare(project, *ids).winner is None
        with pytest.raises(UnknownName, match="not 'garden'"):
            compare(project, *ids, stream="garden")
        retrain(project.for_stream("garden"), "timing")
        assert len(history(project)) == 3
        assert [run.model_version_id for run in history(project, stream="n*")] == ids[::-1]
        assert len(history(project.for_stream("garden"))) == 1


def test_the_example_of_the_package_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Project.open(folder) as project:
        project.posts.add(sample_posts(), NOW)
    folder.rename(folder.parent / "my-project")
    monkeypatch.chdir(folder.parent)
    _, _, example = str(retrainer.__doc__).partition("is used.\n\n")
    exec(textwrap.dedent(example), {})  # noqa: S102  the example in the package's docstring
