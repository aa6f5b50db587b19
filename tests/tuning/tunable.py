"""An algorithm for the tests of tuning, whose options matter: it always forecasts the same wait, which is an option."""

from __future__ import annotations

TUNABLE = """
import numpy as np
from pydantic import BaseModel, ConfigDict
from retrainer.algorithms import Algorithm, hookimpl


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    hours: float = 30.0
    label: str = "none"


@hookimpl
def algorithm():
    return Algorithm(name="NAME", model_types=("timing",), summary="A wait of so many hours.", config=Options)

@hookimpl
def search_space(trial, config):
    SUGGEST
    return {"hours": trial.suggest_float("hours", 1.0, 40.0)}

@hookimpl
def train(posts, config):
    TRAIN
    return {"hours": config.hours}

@hookimpl
def predict(model, posts, origins):
    from retrainer.model_types.timing import TimingForecasts

    wait = np.full(len(origins), model["hours"])
    return TimingForecasts(np.repeat(wait[:, None], 99, axis=1), wait)
"""


def tunable_algorithm(name: str = "tunable", *, suggest: str = "pass", train: str = "pass") -> str:
    """Return its code.

    Args:
        name: of the algorithm.
        suggest: a statement of its search space.
        train: a statement of its training.
    """
    return TUNABLE.replace("NAME", name).replace("SUGGEST", suggest).replace("TRAIN", train)
