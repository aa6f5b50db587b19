"""Fixtures of the tuning tests: an algorithm whose one option matters, and a call of `tune`."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from retrainer.tuning.request import TuningRequest
from retrainer.tuning.run import tune
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from retrainer.tuning.results import TuningResult
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins

_TUNABLE = """
    from pydantic import BaseModel, ConfigDict

    from retrainer.algorithms import Algorithm, hookimpl


    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)

        hours: float = 20.0


    @hookimpl
    def algorithm():
        return Algorithm(name="{name}", model_types=("timing",), summary="Always the same wait.", config=Options)


    @hookimpl
    def train(posts, config):
        hours = config.hours
        {train}
        return {{"hours": hours}}


    @hookimpl
    def predict(model, posts, origins):
        import numpy as np
        from retrainer.algorithms import TimingForecasts

        {predict}
        wait = np.full(len(origins), model["hours"])
        return TimingForecasts(np.repeat(wait[:, None], 99, axis=1), wait)


    @hookimpl
    def search_space(trial, config):
        {space}
"""
SPACE = 'return {"hours": trial.suggest_float("hours", 1, 30)}'


def tunable_algorithm(name: str = "tunable", *, train: str = "pass", predict: str = "pass", space: str = SPACE) -> str:
    """Return the code of an algorithm that always forecasts `hours`, an option that can be tuned.

    Args:
        name: of the algorithm.
        train: a statement when it is trained; it may use `posts` and `config`, and change `hours`.
        predict: a statement when it forecasts; it may use `model`, `posts` and `origins`.
        space: the statement of its search space; it may use `trial` and `config`.
    """
    return textwrap.dedent(_TUNABLE).format(name=name, train=train, predict=predict, space=space)


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
    """A project with 200 posts five hours apart, of which 160 are for training; `tunable` forecasts 20 hours."""
    prepare(folder, import_posts_five_hours_apart)
    configure(folder)
    config = folder / "config" / "config.yaml"
    config.write_text(config.read_text().replace("algorithm: baseline ", "algorithm: tunable ", 1))
    return open_project(folder)


def tuned(project: Project, **given: Any) -> TuningResult:
    """Tune the timing model with six trials, or as `given` says."""
    on_progress = given.pop("on_progress", lambda _: None)
    request = TuningRequest(**{"model_type": "timing", "trials": 6, **given})
    return tune(project, runtime_of(project), request, NOW, on_progress=on_progress)
