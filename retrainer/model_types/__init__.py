"""What a forecast of each model type is, how it is scored, and what the naive forecast is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from retrainer.errors import UnknownName, did_you_mean

if TYPE_CHECKING:
    from retrainer.model_types.base import ModelType

ModelTypeName = Literal["timing", "content"]
MODEL_TYPE_NAMES: tuple[ModelTypeName, ...] = get_args(ModelTypeName)

# Where an evaluation forecasts from: right after the post before each test post, or at evenly spaced wall-clock times.
OriginRule = Literal["post", "clock"]
ORIGIN_RULES: tuple[OriginRule, ...] = get_args(OriginRule)


def parse_model_type(name: str) -> ModelTypeName:
    """Return the model type of this name.

    Raises:
        UnknownName: there is none.
    """
    for known in MODEL_TYPE_NAMES:
        if name == known:
            return known
    hint = did_you_mean(name, MODEL_TYPE_NAMES) or "It is 'timing' or 'content'"
    raise UnknownName(f"unknown model type '{name}'", hint=hint)


def get_model_type(name: ModelTypeName) -> ModelType[Any, Any]:
    """Return what is known of the model type: its forecasts, targets, metrics and files."""
    if name == "timing":
        from retrainer.model_types.timing import Timing  # noqa: PLC0415  numpy and pandas are slow to import

        return Timing()
    from retrainer.model_types.content import Content  # noqa: PLC0415

    return Content()
