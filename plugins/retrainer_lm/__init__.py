"""The algorithm `finetuned_lm`: content forecasts from a small language model, fine-tuned on this machine.

Needs the extra `lm`, and the weights of a base model. No key, and no post leaves the machine.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from retrainer.algorithms import Algorithm, ContextPart, hookimpl
from retrainer.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from optuna.trial import BaseTrial

    from retrainer.algorithms import ContentForecast, Likelihoods, Origins
    from retrainer_lm.storage import LanguageModel

KNOWN_POSTS = 20  # the last posts that may be copied, and are references for the expected score


class LmOptions(BaseModel):
    """The options of `finetuned_lm`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    # A folder, a .gguf file, or the id of a model on a hub; by default, an installed package with weights.
    base: str | None = None
    allow_download: bool = False  # of a base model from a hub
    max_train_minutes: Annotated[float, Field(gt=0, le=1440)] = 15.0
    max_steps: Annotated[int, Field(ge=1, le=100_000)] = 250  # of two windows of posts each
    rank: Annotated[int, Field(ge=1, le=256)] = 16  # of the adapter's matrices
    context_posts: Annotated[int, Field(ge=1, le=KNOWN_POSTS)] = 6  # the last posts in the prompt
    samples: Annotated[int, Field(ge=1, le=256)] = 16  # drawn for each forecast
    max_new_tokens: Annotated[int, Field(ge=1, le=1024)] = 120  # of a sample
    copies: Literal["allow", "avoid"] = "allow"  # whether one of the last posts may be the forecast
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0


@hookimpl
def algorithm() -> Algorithm:
    return Algorithm(
        name="finetuned_lm",
        model_types=("content",),
        summary="A small language model, fine-tuned on this machine. Needs the extra `lm` and a base model.",
        config=LmOptions,
        operational=("allow_download", "max_train_minutes"),
        context_posts={"content": KNOWN_POSTS + 1},  # the time before the oldest one
    )


@hookimpl
def check_ready(config: LmOptions) -> None:
    """Check that the packages of the extra are installed and the base model is there."""
    for package in ("torch", "transformers", "peft", "safetensors", "gguf"):
        if find_spec(package) is None:
            raise ConfigError(
                f"`finetuned_lm` needs the package '{package}', which is not installed",
                hint="Install a build of PyTorch for this machine, then: pip install 'retrainer[lm]'",
            )
    from retrainer_lm.base_model import find_base  # noqa: PLC0415

    find_base(config)


@hookimpl
def train(posts: pd.DataFrame, config: LmOptions) -> LanguageModel:
    """Train the adapter of the base model on the posts."""
    from retrainer_lm.training import train_model  # noqa: PLC0415  torch is slow to import

    return train_model(posts, config)


@hookimpl
def predict(
    model: LanguageModel, posts: pd.DataFrame, origins: Origins, config: LmOptions, without: frozenset[str]
) -> list[ContentForecast]:
    """Draw texts from each origin and return the most typical."""
    from retrainer_lm.forecast import predict_texts  # noqa: PLC0415

    return predict_texts(model, posts, origins, config, without)


@hookimpl
def context_parts() -> list[ContextPart]:
    """Return the parts of the prompt that may be left out."""
    return [ContextPart("last_posts", "the last posts"), ContextPart("moment", "the moment")]


@hookimpl
def likelihood(
    model: LanguageModel, posts: pd.DataFrame, origins: Origins, texts: list[str], config: LmOptions
) -> Likelihoods:
    """Return how likely each text is as the next post."""
    from retrainer_lm.likelihood import likelihoods_of_texts  # noqa: PLC0415

    return likelihoods_of_texts(model, posts, origins, texts, config)


@hookimpl
def search_space(trial: BaseTrial) -> dict[str, Any]:
    """Try smaller and larger adapters, and shorter and longer prompts. More samples only cost more time."""
    return {
        "rank": trial.suggest_int("rank", 4, 64, log=True),
        "context_posts": trial.suggest_int("context_posts", 2, 12),
    }


@hookimpl
def save(model: LanguageModel, directory: Path) -> list[str]:
    """Write the adapter's weights and what describes them."""
    from retrainer_lm.storage import save_model  # noqa: PLC0415

    return save_model(model, directory)


@hookimpl
def load(directory: Path) -> LanguageModel:
    """Read the model back."""
    from retrainer_lm.storage import load_model  # noqa: PLC0415

    return load_model(directory)
