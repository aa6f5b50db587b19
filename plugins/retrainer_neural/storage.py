"""A stored model: `weights.safetensors`, and `model.json`, which describes it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetensors.numpy import load, save

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

Weights = dict[str, "NDArray[np.float32]"]

_WEIGHTS, _DESCRIPTION = "weights.safetensors", "model.json"


@dataclass(frozen=True)
class NeuralModel:
    """A trained model.

    Attributes:
        description: plain data; see `model.train_model`.
        networks: the weights of each network, by name.
        sha256: of the file of the weights, as in the manifest of the version; None before it is saved.
    """

    description: dict[str, Any]
    networks: list[Weights]
    sha256: str | None = None


def save_model(model: NeuralModel, directory: Path) -> list[str]:
    """Write the model's files and return their names."""
    tensors = {f"{number}.{name}": part for number, each in enumerate(model.networks) for name, part in each.items()}
    (directory / _WEIGHTS).write_bytes(save(tensors))  # `save_file` would make a file that only its owner may read
    (directory / _DESCRIPTION).write_text(json.dumps(model.description, indent=1), encoding="utf-8")
    return [_DESCRIPTION, _WEIGHTS]


def load_model(directory: Path) -> NeuralModel:
    """Read the model's files."""
    description = json.loads((directory / _DESCRIPTION).read_text(encoding="utf-8"))
    weights = (directory / _WEIGHTS).read_bytes()
    networks: list[Weights] = [{} for _ in range(description["networks"])]
    for key, part in load(weights).items():
        number, _, name = key.partition(".")
        networks[int(number)][name] = part
    return NeuralModel(description, networks, hashlib.sha256(weights).hexdigest())
