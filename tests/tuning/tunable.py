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
    return SPACE

@hookimpl
def train(posts, config):
    hours = config.hours
    TRAIN
    return {"hours": hours}

@hookimpl
def predict(model, posts, origins):
    from retrainer.model_types.timing import TimingForecasts

    wait = np.full(len(origins), model["hours"])
    return TimingForecasts(np.repeat(wait[:, None], 99, axis=1), wait)
"""


SPACE = '{"hours": trial.suggest_float("hours", 1.0, 40.0)}'


def tunable_algorithm(name: str = "tunable", *, space: str = SPACE, train: str = "pass") -> str:
    """Return its code.

    Args:
        name: of the algorithm.
        space: an expression of what that returns; it may use `trial` and `config`.
        train: a statement of its training; it may use `posts` and `config`, and change `hours`.
    """
    code = TUNABLE.replace("NAME", name)
    return code.replace("return SPACE", f"return {space}").replace("TRAIN", train)


def paid_algorithm(name: str, cost: str, *, train: str = "pass") -> str:
    """Return the code of an algorithm whose forecasts cost money.

    Args:
        name: of the algorithm.
        cost: of the forecasts of a window in US dollars, an expression that may use `count`, the posts trained on.
        train: as in `tunable_algorithm`.
    """
    code = tunable_algorithm(name, train=train).replace("summary=", "paid=True, summary=")
    code = code.replace('return {"hours": hours}', 'return {"hours": hours, "count": len(posts)}')
    pay = f"count = model['count']\n    cost = {cost}\n"
    pay += "    budget.reserve(cost, max_calls=None, max_cost=None)\n    budget.settle(cost, cost)\n"
    return code.replace("predict(model, posts, origins):\n", f"predict(model, posts, origins, budget):\n    {pay}")
