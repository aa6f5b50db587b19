"""The algorithm `neural_tpp`: timing forecasts from a neural temporal point process. Needs the extra `neural`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from retrainer.algorithms import Algorithm, hookimpl
from retrainer.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from optuna.trial import BaseTrial

    from retrainer.algorithms import Origins, TimingForecasts
    from retrainer_neural.storage import NeuralModel


class NeuralOptions(BaseModel):
    """The options of `neural_tpp`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    networks: Annotated[int, Field(ge=1, le=20)] = 3  # trained from different seeds; their distributions are averaged
    units: Annotated[int, Field(ge=2, le=512)] = 32  # of the recurrent encoder
    components: Annotated[int, Field(ge=1, le=64)] = 8  # log-normal distributions, in hours and as many by the clock
    max_posts: Annotated[int, Field(ge=100, le=200_000)] = 12_000  # the last training posts, from which to learn
    max_epochs: Annotated[int, Field(ge=1, le=1000)] = 60  # passes over the posts; training usually stops earlier


@hookimpl
def algorithm() -> Algorithm:
    return Algorithm(
        name="neural_tpp",
        model_types=("timing",),
        summary="A neural point process: log-normal mixtures on a recurrent network. Needs the extra `neural`.",
        config=NeuralOptions,
    )


@hookimpl
def check_ready() -> None:
    """Check that the packages of the extra are installed."""
    for package in ("torch", "safetensors"):
        if find_spec(package) is None:
            raise ConfigError(
                f"`neural_tpp` needs the package '{package}', which is not installed",
                hint="Install the extra: pip install 'retrainer[neural]'",
            )


@hookimpl
def train(posts: pd.DataFrame, config: NeuralOptions, previous: NeuralModel | None) -> NeuralModel:
    """Train the networks, from the weights of production if there are any."""
    from retrainer_neural.model import train_model  # noqa: PLC0415  torch is slow to import

    return train_model(posts, config, previous)


@hookimpl
def predict(model: NeuralModel, posts: pd.DataFrame, origins: Origins) -> TimingForecasts:
    """Return the distribution of the wait from each origin."""
    from retrainer_neural.model import predict_waits  # noqa: PLC0415

    return predict_waits(model, posts, origins)


@hookimpl
def save(model: NeuralModel, directory: Path) -> list[str]:
    """Write the weights and what describes them."""
    from retrainer_neural.storage import save_model  # noqa: PLC0415  numpy is slow to import

    return save_model(model, directory)


@hookimpl
def load(directory: Path) -> NeuralModel:
    """Read the model back."""
    from retrainer_neural.storage import load_model  # noqa: PLC0415

    return load_model(directory)


@hookimpl
def search_space(trial: BaseTrial) -> dict[str, Any]:
    """Try smaller and larger networks, and more and fewer posts. More networks only cost more time."""
    return {
        "units": trial.suggest_int("units", 8, 128, log=True),
        "components": trial.suggest_int("components", 2, 16, log=True),
        "max_posts": trial.suggest_int("max_posts", 1_000, 50_000, log=True),
    }
