"""Attention of several texts to the one prompt that they follow, whose keys and values are stored once."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from retrainer_lm.devices import one_thread

NAME = "retrainer_shared_prompt"  # of the attention function, in the register of transformers


def attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    scaling: float,
    prompt: Any = None,
    **options: Any,
) -> tuple[Any, None]:
    """Attend to the prompt and to the tokens of the own text.

    With copies of the prompt for each text, most of the time of a forecast would go into copying it.

    Args:
        module: the attention of a layer.
        query: (texts, heads, new tokens, size).
        key: (texts, key heads, tokens so far and new, size): of the texts alone.
        value: as `key`.
        attention_mask: not used; a text sees its tokens so far.
        scaling: of the products.
        prompt: the cache of the prompt, of one row; None while the prompt itself is read.
        options: for the attention of transformers.
    """
    if prompt is None:
        with one_thread():  # by whose number torch may choose how it multiplies
            attended, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
        return attended, None
    texts, heads, new, size = query.shape
    key_heads, own = key.shape[1], key.shape[2]
    layer = prompt.layers[module.layer_idx]
    # Heads that share a key are beside each other.
    query = (query * scaling).reshape(texts, key_heads, -1, size)
    of_head = query.transpose(0, 1).reshape(key_heads, -1, size)
    to_prompt = (of_head @ layer.keys[0].mT).reshape(key_heads, texts, query.shape[2], -1).transpose(0, 1)
    to_own = query @ key.mT
    if new > 1:
        later = torch.ones(new, own, dtype=torch.bool, device=query.device).triu(own - new + 1)
        to_own = to_own.masked_fill(later.repeat(heads // key_heads, 1), float("-inf"))
    weights = torch.softmax(torch.cat([to_prompt, to_own], dim=-1), dim=-1, dtype=torch.float32).to(query.dtype)
    of_prompt, of_own = weights.split([to_prompt.shape[-1], own], dim=-1)
    read = (
        (of_prompt.transpose(0, 1).reshape(key_heads, -1, of_prompt.shape[-1]) @ layer.values[0])
        .reshape(key_heads, texts, -1, size)
        .transpose(0, 1)
    )
    attended = (read + of_own @ value).reshape(texts, heads, new, size)
    return attended.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attend)
