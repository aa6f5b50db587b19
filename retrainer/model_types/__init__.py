"""The model types: their forecasts, targets and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from retrainer.errors import UnknownName, did_you_mean

if TYPE_CHECKING:
    from retrainer.model_types.base import ModelType

ModelTypeName = Literal["timing", "content"]
MODEL_TYPE_NAMES: tuple[ModelTypeName, ...] = get_args(ModelTypeName)

# The origins of an evaluation: right after the post before each test post, or at evenly spaced wall-clock times.
OriginRule = Literal["post", "clock"]
ORIGIN_RULES: tuple[OriginRule, ...] = get_args(OriginRule)


def parse_model_type(name: str) -> ModelTypeName:
    """Check the name of a model type.

    Raises:
        UnknownName: there is no such model type.
    """
    for known in MODEL_TYPE_NAMES:
        if name == known:
            return known
    hint = did_you_mean(name, MODEL_TYPE_NAMES) or "Use 'timing' or 'content'"
    raise UnknownName(f"unknown model type '{name}'", hint=hint)


def get_model_type(name: ModelTypeName) -> ModelType[Any, Any]:
    """Return the model type with this name."""
    if name == "timing":
        from retrainer.model_types.timing import Timing  # noqa: PLC0415  numpy and pandas are slow to import

        return Timing()
    from retrainer.model_types.content import Content  # noqa: PLC0415

    return Content()
