"""Weights in the layout that the processor multiplies fastest, for networks that are only read."""

from __future__ import annotations

from typing import Any

import torch

_ROWS = 16  # for which the layout is chosen


class PackedLinear(torch.nn.Module):  # type: ignore[misc]
    """A linear layer whose weights were packed once; torch packs those of an ordinary one at each multiplication."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)  # noqa: SLF001
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, values: Any) -> Any:
        """Return the values multiplied by the weights."""
        return torch.ops.mkldnn._linear_pointwise(values, self._weight, self._bias, "none", [], "")  # noqa: SLF001


def pack(network: torch.nn.Module) -> None:
    """Pack the linear layers of a network in bfloat16 on the processor, where torch can."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is torch.nn.Linear:
                setattr(module, name, PackedLinear(child))
