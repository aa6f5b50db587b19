"""The tokens and the cost of a call: as reported by its answer, or estimated beforehand."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from retrainer.algorithms import CostEstimate

if TYPE_CHECKING:
    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming as Request

    from retrainer_claude import ClaudeOptions

_TOKENS_PER_PRICE = 1_000_000
_BYTES_PER_TOKEN = 2.0  # English has about four; texts of links or names, or in another script, come close to two


def reported_usage(usage: object, options: ClaudeOptions, *, batch: bool = False) -> dict[str, Any]:
    """Return the token counts and the cost of an answer, as fields of `ContentForecast`.

    A missing figure counts as 0. A model without a price costs 0.

    Args:
        usage: as the API reports it.
        options: with the prices.
        batch: whether the answer came in a Message Batch.
    """

    def tokens(name: str) -> int:
        count = getattr(usage, name, None)  # the SDK does not validate answers
        return count if isinstance(count, int) and count > 0 else 0

    uncached, output = tokens("input_tokens"), tokens("output_tokens")
    cache_write, cache_read = tokens("cache_creation_input_tokens"), tokens("cache_read_input_tokens")
    cost = 0.0
    if prices := options.prices.get(options.model):
        cost = (
            uncached * prices.input
            + cache_write * prices.cache_write
            + cache_read * prices.cache_read
            + output * prices.output
        ) / _TOKENS_PER_PRICE
        cost *= prices.batch if batch else 1.0
    return {
        "input_tokens": uncached + cache_write + cache_read,
        "output_tokens": output,
        "cache_read_tokens": cache_read,
        "cache_write_tokens": cache_write,
        "cost_usd": cost,
    }


def estimate_request(request: Request, options: ClaudeOptions, *, batch: bool = False) -> CostEstimate:
    """Return an upper bound on the cost of one request, without network.

    Counts one token per two bytes of the request, none of them from the cache, and an answer of `max_tokens`.
    """
    body = json.dumps([request["system"], request["messages"]], ensure_ascii=False).encode("utf-8", "replace")
    tokens = math.ceil(len(body) / _BYTES_PER_TOKEN)
    cost = 0.0
    if prices := options.prices.get(options.model):
        highest = max(prices.input, prices.cache_write)
        cost = (tokens * highest + options.max_tokens * prices.output) / _TOKENS_PER_PRICE
        cost *= prices.batch if batch else 1.0
    return CostEstimate(calls=1, input_tokens=tokens, output_tokens=options.max_tokens, cost_usd=cost)
