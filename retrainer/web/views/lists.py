"""The pages of a long list."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from retrainer.errors import UsageError, invalid_value
from retrainer.model_types import MODEL_TYPE_NAMES, parse_model_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retrainer.model_types import ModelTypeName

MAX_PAGE = 1_000_000
PER_PAGE = 50


def page_number(query: Mapping[str, str]) -> int:
    """Return the page that the address asks for; 1 is the first.

    Raises:
        UsageError: it is not a number of a page.
    """
    text = query.get("page", "1")
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_PAGE):
        raise UsageError(invalid_value("page", text, "must be 1 or more"))
    return int(text)


def count_pages(total: int) -> int:
    """Return the number of pages of a list."""
    return max(math.ceil(total / PER_PAGE), 1)


def chosen_type(query: Mapping[str, str]) -> ModelTypeName | None:
    """Return the model type that the address asks for; None for all.

    Raises:
        UsageError: there is no such type.
    """
    name = query.get("type")
    if name is not None and name not in MODEL_TYPE_NAMES:
        raise UsageError(invalid_value("type", name, f"choose {' or '.join(MODEL_TYPE_NAMES)}"))
    return None if name is None else parse_model_type(name)
