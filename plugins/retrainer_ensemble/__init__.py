"""The algorithm `ensemble`: the averaged quantiles of other timing algorithms, with weights learnt online."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationInfo, field_validator

from retrainer.algorithms import Algorithm, Importance, hookimpl

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from optuna.trial import BaseTrial

    from retrainer.algorithms import Origins, TimingForecasts
    from retrainer_ensemble.model import EnsembleModel


class EnsembleOptions(BaseModel):
    """The options of `ensemble`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    # Two or more timing algorithms, each with its own options.
    members: dict[str, SerializeAsAny[BaseModel]] = Field({"prophet": {}, "baseline": {}}, validate_default=True)

    @field_validator("members", mode="before")
    @classmethod
    def _check_members(cls, members: Any, info: ValidationInfo) -> Any:
        from retrainer_ensemble.member_options import validate_members  # noqa: PLC0415  it imports this package's users

        return validate_members(members, recorded=info.mode == "json") if isinstance(members, dict) else members


@hookimpl
def algorithm() -> Algorithm:
    return Algorithm(
        name="ensemble",
        model_types=("timing",),
        summary="The average of other timing algorithms, weighted by their forecasts of the known gaps.",
        config=EnsembleOptions,
    )


@hookimpl
def members(config: EnsembleOptions) -> list[str]:
    """Return the names of the algorithms that are averaged."""
    return list(config.members)


@hookimpl
def check_ready(config: EnsembleOptions) -> None:
    """Let every member report that it could make no forecast."""
    from retrainer_ensemble.member_options import load_member  # noqa: PLC0415  numpy and pandas are slow to import

    for name, options in config.members.items():
        load_member(name).check_ready(options)


@hookimpl
def train(posts: pd.DataFrame, config: EnsembleOptions) -> EnsembleModel:
    """Train every member, and learn the first weights."""
    from retrainer_ensemble.model import train_model  # noqa: PLC0415

    return train_model(posts, config.members)


@hookimpl
def predict(model: EnsembleModel, posts: pd.DataFrame, origins: Origins, config: EnsembleOptions) -> TimingForecasts:
    """Return the weighted average of the members' quantiles."""
    from retrainer_ensemble.model import predict_waits  # noqa: PLC0415

    return predict_waits(model, posts, origins, config.members)


@hookimpl
def explain(model: EnsembleModel) -> list[Importance]:
    """Return the weight that each member had at the end of training."""
    from retrainer_ensemble.model import explain_weights  # noqa: PLC0415

    return explain_weights(model)


@hookimpl
def save(model: EnsembleModel, directory: Path) -> list[str]:
    """Write the weights, and the files of each member to a folder of its name."""
    from retrainer_ensemble.files import save_model  # noqa: PLC0415

    return save_model(model, directory)


@hookimpl
def load(directory: Path) -> EnsembleModel:
    """Read what `save` wrote, each member by its own hook."""
    from retrainer_ensemble.files import load_model  # noqa: PLC0415

    return load_model(directory)


@hookimpl
def search_space(trial: BaseTrial, config: EnsembleOptions) -> dict[str, Any]:
    """Try the options of those members that have a search space."""
    from retrainer_ensemble.member_options import suggest_members  # noqa: PLC0415

    return {"members": suggest_members(trial, config.members)}
