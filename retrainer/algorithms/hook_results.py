"""Checks of what the hooks of an algorithm return. What a message says comes after "its hook … returned"."""

from __future__ import annotations

import math
from typing import Any

from pydantic import BaseModel

from retrainer.algorithms.hookspecs import ALL_PARTS, Algorithm, ContextPart, Importance
from retrainer.entry_points import ALGORITHM_NAME
from retrainer.errors import AlgorithmError


def check_description(description: Any, name: str) -> None:
    """Check what the hook `algorithm` returned.

    Raises:
        AlgorithmError: it does not describe the algorithm of this name.
    """
    if not isinstance(description, Algorithm):
        raise AlgorithmError(
            f"the plugin '{name}': its hook algorithm returned {description!r} instead of an Algorithm"
        )
    if description.name != name or not ALGORITHM_NAME.fullmatch(name):
        raise AlgorithmError(
            f"the plugin registered as '{name}' calls itself '{description.name}'",
            hint="Both must be the same: lower-case letters, digits and underscores",
        )
    if not description.model_types or set(description.model_types) - {"timing", "content"}:
        raise AlgorithmError(
            f"the plugin '{name}' has invalid model types {description.model_types!r} (choose 'timing', 'content')"
        )
    config: Any = description.config
    if not (
        isinstance(config, type) and issubclass(config, BaseModel) and config.model_config.get("extra") == "forbid"
    ):
        raise AlgorithmError(f"the plugin '{name}': its config is not a pydantic class with extra='forbid'")


def check_metrics(metrics: Any) -> dict[str, float]:
    """Return metrics of a plugin's own as plain numbers.

    Raises:
        TypeError, ValueError: they are none.
    """
    try:
        checked = {str(key): float(value) for key, value in metrics.items()}
    except (ValueError, TypeError, AttributeError):
        raise TypeError(f"'{str(metrics)[:40]}' instead of a mapping of names to numbers") from None
    for key, value in checked.items():
        if not math.isfinite(value):
            raise ValueError(f"{value} for '{key}'")
    return checked


def check_importances(importances: Any) -> list[Importance]:
    """Return importances whose values are plain numbers.

    Raises:
        TypeError, ValueError: one cannot be shown.
    """
    if not isinstance(importances, list | tuple):
        raise TypeError(f"a {type(importances).__name__} instead of a list of Importance")
    return [_check_importance(importance) for importance in importances]


def check_context_parts(parts: Any) -> list[ContextPart]:
    """Return parts of the context that can be named and shown.

    Raises:
        TypeError, ValueError: one cannot, or two have the same name.
    """
    if not isinstance(parts, list | tuple):
        raise TypeError(f"a {type(parts).__name__} instead of a list of ContextPart")
    checked = [_check_part(part) for part in parts]
    if len({part.name for part in checked}) < len(checked):
        raise ValueError("two parts of the same name")
    return checked


def _check_importance(importance: Any) -> Importance:
    """Return an importance whose value is a plain number.

    Raises:
        TypeError, ValueError: it cannot be shown.
    """
    if not isinstance(importance, Importance):
        raise TypeError(f"a {type(importance).__name__} instead of an Importance")
    if not str(importance.label).strip():
        raise ValueError("an importance without a label")
    for name in ("label", "unit", "note"):
        text: Any = getattr(importance, name)
        if not isinstance(text, str):
            raise TypeError(f"an importance whose {name} is '{text}' instead of a string")
    value = float(importance.value)
    if not math.isfinite(value):
        raise ValueError(f"{value} for '{importance.label}' instead of a finite number")
    return Importance(importance.label, value, importance.unit, importance.note)


def _check_part(part: Any) -> ContextPart:
    """Return a part of the context that can be named and shown.

    Raises:
        TypeError, ValueError: it cannot.
    """
    if not isinstance(part, ContextPart):
        raise TypeError(f"a {type(part).__name__} instead of a ContextPart")
    if not ALGORITHM_NAME.fullmatch(part.name):
        raise ValueError(f"a part with the name {part.name!r}: use lower-case letters, digits and underscores")
    if part.name == ALL_PARTS.name:
        raise ValueError(f"a part with the reserved name '{part.name}'")
    if not part.label.strip():
        raise ValueError(f"the part '{part.name}' without a label")
    return part


def json_difference(original: Any, restored: Any, path: str = "model") -> str | None:
    """Describe the first part of a model that JSON changes; None if there is none. Tuples may become lists."""
    if original == restored:
        return None
    if isinstance(original, dict) and isinstance(restored, dict):
        for key in original:
            if not isinstance(key, str):
                return f"the key {key!r} of {path} comes back as a string. Use string keys, or add save and load"
        pairs = ((value, restored[key], f"{path}[{key!r}]") for key, value in original.items())
    elif type(original) in {list, tuple} and isinstance(restored, list):
        pairs = (
            (item, other, f"{path}[{index}]")
            for index, (item, other) in enumerate(zip(original, restored, strict=True))
        )
    else:
        was, now = type(original).__name__, type(restored).__name__
        return f"{path}, a {was}, comes back as a {now}. Return plain data, or add save and load"
    return next(filter(None, (json_difference(*pair) for pair in pairs)), None)
