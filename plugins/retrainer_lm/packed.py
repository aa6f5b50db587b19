"""Weights in the layout that the processor multiplies fastest, for networks that are only read."""

from __future__ import annotations

from typing import Any

import torch
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from retrainer_lm.shared_prompt import attend

_ROWS = 16  # for which the layout is chosen


class PackedLinear(torch.nn.Module):  # type: ignore[misc]
    """A linear layer whose weights were packed once; torch packs those of an ordinary one at each multiplication.

    Several layers that read the same values become one, whose results are beside each other.
    """

    def __init__(self, *linears: torch.nn.Linear) -> None:
        super().__init__()
        weights = torch.cat([linear.weight.detach() for linear in linears])
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weights, _ROWS)  # noqa: SLF001
        biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
        self._bias = torch.cat(biases) if biases else None

    def forward(self, values: Any) -> Any:
        """Return the values multiplied by the weights."""
        return torch.ops.mkldnn._linear_pointwise(values, self._weight, self._bias, "none", [], "")  # noqa: SLF001


class PackedLayer(torch.nn.Module):  # type: ignore[misc]
    """A layer of Llama in bfloat16, with every bit of the result that the layer of transformers has.

    It calls torch half as often: for one token of a few texts, much of the time of a call is not arithmetic.
    """

    def __init__(self, layer: LlamaDecoderLayer) -> None:
        super().__init__()
        self._attention, mlp = layer.self_attn, layer.mlp
        norms = (layer.input_layernorm, layer.post_attention_layernorm)
        self._norms = [(norm.weight.detach(), norm.variance_epsilon) for norm in norms]
        self._heads = PackedLinear(self._attention.q_proj, self._attention.k_proj, self._attention.v_proj)
        self._output = PackedLinear(self._attention.o_proj)
        self._inner = PackedLinear(mlp.gate_proj, mlp.up_proj)
        self._outer = PackedLinear(mlp.down_proj)
        self._activate = mlp.act_fn
        del self._attention.q_proj, self._attention.k_proj, self._attention.v_proj, self._attention.o_proj

    def forward(
        self, values: Any, attention_mask: Any, position_embeddings: Any, cache: Any, prompt: Any = None, **_: Any
    ) -> Any:
        """Return the values (texts, tokens, width) after the layer; see `attend` for the prompt."""
        heads = self._heads(self._normalized(values, 0)).unflatten(-1, (-1, self._attention.head_dim)).transpose(1, 2)
        key_heads = self._attention.config.num_key_value_heads
        turned, value = heads.split([heads.shape[1] - key_heads, key_heads], dim=1)
        turned = _turn(turned, *position_embeddings)
        query, key = turned.split([turned.shape[1] - key_heads, key_heads], dim=1)
        if cache is not None:
            key, value = cache.update(key, value, self._attention.layer_idx)
        scaling = self._attention.scaling
        attended = attend(self._attention, query, key, value, attention_mask, scaling=scaling, prompt=prompt)[0]
        values = self._output(attended.flatten(2)).add_(values)
        gate, inner = self._inner(self._normalized(values, 1)).chunk(2, dim=-1)
        return self._outer(self._activate(gate).mul_(inner)).add_(values)

    def _normalized(self, values: Any, number: int) -> Any:
        weight, epsilon = self._norms[number]
        exact = values.float()
        exact.mul_(exact.pow(2).mean(-1, keepdim=True).add_(epsilon).rsqrt_())
        return weight * exact.to(values.dtype)


def _turn(heads: Any, cosine: Any, sine: Any) -> Any:
    """Return heads (texts, heads, tokens, size) turned by the angles of their positions (1, tokens, size)."""
    first, second = heads.chunk(2, dim=-1)
    crossed = torch.cat([second.neg(), first], dim=-1)
    return (heads * cosine[:, None]).add_(crossed.mul_(sine[:, None]))


def pack(network: torch.nn.Module) -> None:
    """Pack the layers of a network in bfloat16 on the processor, where torch can."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return
    for name, child in network.named_children():
        if type(child) is LlamaDecoderLayer:
            setattr(network, name, PackedLayer(child))
        elif type(child) is torch.nn.Linear:
            setattr(network, name, PackedLinear(child))
        else:
            pack(child)
