"""A stored model: `adapter.safetensors`, and `model.json`, which describes it and its base model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetensors.numpy import load, save

from retrainer.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Weights = dict[str, NDArray[np.float32]]

FORMAT = 1
_WEIGHTS, _DESCRIPTION = "adapter.safetensors", "model.json"
_DIGEST = "adapter_sha256"


@dataclass(frozen=True)
class LanguageModel:
    """A trained adapter.

    Attributes:
        description: plain data; see `training.train_model`.
        weights: of the adapter, by name.
        sha256: of the weights.
    """

    description: dict[str, Any]
    weights: Weights
    sha256: str


def make_model(description: dict[str, Any], weights: Weights) -> LanguageModel:
    """Return a model with the digest of its weights."""
    return LanguageModel(description, weights, hashlib.sha256(save(weights)).hexdigest())


def save_model(model: LanguageModel, directory: Path) -> list[str]:
    """Write the model's files and return their names."""
    (directory / _WEIGHTS).write_bytes(save(model.weights))
    described = {**model.description, _DIGEST: model.sha256}
    (directory / _DESCRIPTION).write_text(json.dumps(described, indent=1), encoding="utf-8")
    return [_DESCRIPTION, _WEIGHTS]


def load_model(directory: Path) -> LanguageModel:
    """Read the model's files.

    Raises:
        ArtifactError: it was trained by another release, or the adapter is not the one that is described.
    """
    description = json.loads((directory / _DESCRIPTION).read_text(encoding="utf-8"))
    if description.get("format") != FORMAT or _DIGEST not in description:  # which the first adapters of it lack
        raise ArtifactError("this version was trained by another release of `finetuned_lm`", hint="Train a new version")
    data = (directory / _WEIGHTS).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if description.pop(_DIGEST) != digest:
        raise ArtifactError(
            f"the adapter of this version has changed: the SHA-256 of '{_WEIGHTS}' does not match the record",
            hint="Restore the version's files from a backup, or train a new version",
        )
    return LanguageModel(description, load(data), digest)
