"""What a forecast of each model type is, how it is scored, and what the naive forecast is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrainer.config import ModelTypeName
    from retrainer.model_types.base import ModelType


def model_type(name: ModelTypeName) -> ModelType[Any, Any]:
    """Return the model type of this name."""
    if name == "timing":
        from retrainer.model_types.timing import Timing  # noqa: PLC0415  numpy and pandas are slow to import

        return Timing()
    from retrainer.model_types.content import Content  # noqa: PLC0415

    return Content()
