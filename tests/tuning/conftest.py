"""Fixtures of the tuning tests: an algorithm whose one option matters, and a call of `tune`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from retrainer.tuning.request import TuningRequest
from retrainer.tuning.run import tune
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of
from tests.tuning.tunable import tunable_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from retrainer.tuning.results import TuningResult
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins


@pytest.fixture
def tunable(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    """The algorithm `tunable` is installed, and whatever the test adds."""
    monkeypatch.delitem(sys.modules, "retrainer_tunable_module", raising=False)  # that of another test
    plugins.add("tunable", tunable_algorithm())
    monkeypatch.syspath_prepend(str(plugins.site))
    return plugins


def import_posts_five_hours_apart(folder: Path) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(200), NOW)
    project.close()


@pytest.fixture
def five_hours(folder: Path, prepare: Prepare, tunable: Plugins) -> Project:
    """A project with 200 posts five hours apart, of which 160 are for training; `tunable` forecasts 30 hours."""
    prepare(folder, import_posts_five_hours_apart)
    configure(folder)
    config = folder / "config" / "config.yaml"
    config.write_text(config.read_text().replace("algorithm: baseline ", "algorithm: tunable ", 1))
    return open_project(folder)


def tuned(project: Project, **given: Any) -> TuningResult:
    """Tune the timing model with six trials, or as `given` says."""
    runtime = given.pop("runtime", None) or runtime_of(project)
    of_call = {name: given.pop(name) for name in ("on_progress", "run_trials") if name in given}
    request = TuningRequest(**{"model_type": "timing", "trials": 6, **given})
    return tune(project, runtime, request, NOW, **of_call)
