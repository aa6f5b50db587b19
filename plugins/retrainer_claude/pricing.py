"""What a call took, or may take: tokens, and dollars by the prices in the options."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, NamedTuple

from retrainer.algorithms import CostEstimate

if TYPE_CHECKING:
    from anthropic.types import Usage

    from retrainer_claude import ClaudeOptions, Prices
    from retrainer_claude.prompt import Request

_TOKENS_A_PRICE = 1_000_000
_BYTES_A_TOKEN = 2.0  # English has about four; a text of links or names, or in another script, may come near this


class Spent(NamedTuple):
    """The tokens read, those of the prompt cache included; those written; what the cache gave and took; the cost."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd: float


def spent_on(usage: Usage | None, prices: Prices | None) -> Spent:
    """Return what a call took; a figure that the API left out counts as 0, as does a price not set."""
    fresh, written = _count(usage, "input_tokens"), _count(usage, "output_tokens")
    to_cache, from_cache = _count(usage, "cache_creation_input_tokens"), _count(usage, "cache_read_input_tokens")
    cost = 0.0
    if prices is not None:
        cost = (
            fresh * prices.input
            + to_cache * prices.cache_write
            + from_cache * prices.cache_read
            + written * prices.output
        ) / _TOKENS_A_PRICE
    return Spent(fresh + to_cache + from_cache, written, from_cache, to_cache, cost)


def estimated(request: Request, options: ClaudeOptions) -> CostEstimate:
    """Return the most that one attempt should take, without network.

    Two bytes of the request, as it is sent, count as a token, none of them comes from the cache, and the answer is as
    long as `max_tokens` allows.
    """
    sent = json.dumps([request["system"], request["messages"]], ensure_ascii=False).encode("utf-8", "replace")
    tokens = math.ceil(len(sent) / _BYTES_A_TOKEN)
    prices = options.prices.get(options.model)
    cost = 0.0
    if prices is not None:
        dearest = max(prices.input, prices.cache_write)
        cost = (tokens * dearest + options.max_tokens * prices.output) / _TOKENS_A_PRICE
    return CostEstimate(calls=1, input_tokens=tokens, output_tokens=options.max_tokens, cost_usd=cost)


def _count(usage: object, name: str) -> int:
    """Return one figure; the SDK checks no answer, so the whole of it may be something else."""
    tokens = getattr(usage, name, None)
    return tokens if isinstance(tokens, int) and tokens > 0 else 0
