"""What an interrupted training has done so far, in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

if TYPE_CHECKING:
    from retrainer_lm import LmOptions
    from retrainer_lm.storage import Weights

log = logging.getLogger(__name__)

MAX_AGE_DAYS = 7
_OF_FORECASTS = {"context_posts", "samples", "max_new_tokens", "copies"}  # options that training does not use
_STATE, _OPTIMIZER, _WEIGHTS, _BEST = "state.json", "optimizer", "weights", "best"


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        steps: that were taken.
        held_out: the held-out loss at each evaluation, in nats per token, the first before training.
        evaluations_without_gain: the last evaluations at which it had not improved.
    """

    steps: int = 0
    held_out: list[float] = field(default_factory=list)
    evaluations_without_gain: int = 0


class Checkpoint:
    """The checkpoint of a training: of these posts, with these options, from this base model.

    It is a cache: one that cannot be read or written is ignored.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def of(cls, posts: pd.DataFrame, options: LmOptions, base_sha256: str) -> Checkpoint:
        """Return the checkpoint of a training, which may not exist yet."""
        digest = hashlib.sha256(pd.util.hash_pandas_object(posts[["created_at", "content"]]).to_numpy().tobytes())
        digest.update(options.model_dump_json(exclude=_OF_FORECASTS | {"max_train_minutes", "allow_download"}).encode())
        digest.update(base_sha256.encode())
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = cache / "retrainer" / "finetuned_lm"
        _delete_old(folder)
        return cls(folder / digest.hexdigest()[:32])

    def write(self, progress: Progress, weights: Weights, best: Weights, optimizer: dict[str, Any]) -> None:
        """Replace the checkpoint: until its state is written, after the tensors, the last one is whole."""
        tensors = {
            f"{number}.{name}": value.detach().float().cpu().numpy()
            for number, state in optimizer["state"].items()
            for name, value in state.items()
        }
        content = {
            f"{_WEIGHTS}.{progress.steps}": save(weights),
            f"{_BEST}.{progress.steps}": save(best),
            f"{_OPTIMIZER}.{progress.steps}": save(tensors),
        }
        state = {
            "progress": asdict(progress),
            "groups": optimizer["param_groups"],
            "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in content.items()},
        }
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name, data in {**content, _STATE: json.dumps(state).encode()}.items():
                new = self._folder / f"{name}.{os.getpid()}"
                new.write_bytes(data)
                new.replace(self._folder / name)
            for path in self._folder.iterdir():
                if path.name not in {*content, _STATE}:
                    path.unlink()
        except OSError as error:
            log.debug("Cannot write the checkpoint '%s': %s", self._folder, error)

    def read(self) -> tuple[Progress, Weights, Weights, dict[str, Any]] | None:
        """Return the progress, the weights, the best ones and the state of the optimizer; None if there are none."""
        try:
            state = json.loads((self._folder / _STATE).read_bytes())
            progress = Progress(**state["progress"])
            names = [f"{name}.{progress.steps}" for name in (_WEIGHTS, _BEST, _OPTIMIZER)]
            content = {name: (self._folder / name).read_bytes() for name in names}
            if state["sha256"] != {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}:
                return None  # as after a power failure
            weights, best, tensors = content.values()
            moments: dict[int, dict[str, Any]] = {}
            for key, value in load(tensors).items():
                number, _, name = key.partition(".")
                moments.setdefault(int(number), {})[name] = torch.from_numpy(np.array(value))
            optimizer = {"state": moments, "param_groups": state["groups"]}
            return progress, load(weights), load(best), optimizer
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            log.debug("Cannot read the checkpoint '%s': %s", self._folder, error)
            return None

    def delete(self) -> None:
        """Delete the checkpoint: the training has ended."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _delete_old(folder: Path) -> None:
    """Delete the checkpoints that were not written for a week: with other posts, their trainings never go on."""
    oldest = time.time() - MAX_AGE_DAYS * 86_400
    with suppress(OSError):
        for checkpoint in folder.iterdir():
            state = checkpoint / _STATE
            if (state if state.exists() else checkpoint).lstat().st_mtime < oldest:
                shutil.rmtree(checkpoint, ignore_errors=True)
