"""What a call took: tokens, and dollars by the prices in the options."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from anthropic.types import Usage

    from retrainer_claude import Prices

_TOKENS_A_PRICE = 1_000_000


class Spent(NamedTuple):
    """The tokens read, those that the prompt cache gave or took included; the tokens written; the cost."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_usd: float


def spent_on(usage: Usage | None, prices: Prices | None) -> Spent:
    """Return what a call took; a figure that the API left out counts as 0, as does a price not set."""
    if usage is None:
        return Spent(0, 0, 0, 0.0)
    fresh, written = _count(usage.input_tokens), _count(usage.output_tokens)
    to_cache, from_cache = _count(usage.cache_creation_input_tokens), _count(usage.cache_read_input_tokens)
    cost = 0.0
    if prices is not None:
        cost = (
            fresh * prices.input
            + to_cache * prices.cache_write
            + from_cache * prices.cache_read
            + written * prices.output
        ) / _TOKENS_A_PRICE
    return Spent(fresh + to_cache + from_cache, written, from_cache, cost)


def _count(tokens: object) -> int:
    return tokens if isinstance(tokens, int) else 0
