"""The files of an ensemble: its weights, and a folder for each member that the member's own hooks write and read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.algorithms import PointRule
from retrainer_ensemble.hedge import HedgeState
from retrainer_ensemble.known_waits import Spacing
from retrainer_ensemble.member_options import load_member
from retrainer_ensemble.model import EnsembleModel

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS_FILE = "ensemble.json"  # no name of an algorithm holds a dot


def save_model(model: EnsembleModel, directory: Path) -> list[str]:
    """Write the files and return their names.

    Raises:
        AlgorithmError: a member cannot be saved.
    """
    names = [WEIGHTS_FILE]
    for name, trained in model.members.items():
        folder = directory / name
        folder.mkdir()
        names += [f"{name}/{file}" for file in load_member(name).save(trained, folder)]
    content = {
        "members": list(model.members),
        "trained_through": str(model.trained_through),
        "spacing_posts": model.spacing.posts,
        "spacing_us": int(model.spacing.time.astype("timedelta64[us]").astype(int)),
        "states": [_to_dict(state) for state in model.states],
        "rules": [[rule.kind, rule.constant_hours, rule.max_silence_hours] for rule in model.rules],
        "crps_hours": model.crps_hours,
    }
    (directory / WEIGHTS_FILE).write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    return names


def load_model(directory: Path) -> EnsembleModel:
    """Read the files.

    Raises:
        ConfigError: a member is not installed any more.
        AlgorithmError: a member is broken or cannot be loaded.
    """
    content = json.loads((directory / WEIGHTS_FILE).read_text(encoding="utf-8"))
    members = {}
    for name in content["members"]:
        folder = directory / name
        paths = [path for path in folder.rglob("*") if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        members[name] = load_member(name).load(files)
    states = [_from_dict(state) for state in content["states"]]
    rules = [PointRule(*rule) for rule in content["rules"]]
    return EnsembleModel(
        members=members,
        trained_through=np.datetime64(content["trained_through"], "us"),
        spacing=Spacing(content["spacing_posts"], np.timedelta64(content["spacing_us"], "us")),
        states=(states[0], states[1]),
        rules=(rules[0], rules[1]),
        crps_hours=content["crps_hours"],
    )


def _to_dict(state: HedgeState) -> dict[str, Any]:
    """Return the state of one learner as plain data."""
    return {"losses_hours": state.losses[0].tolist(), "gap_hours": float(state.gap[0]), "waits": int(state.count[0])}


def _from_dict(stored: dict[str, Any]) -> HedgeState:
    return HedgeState(np.array([stored["losses_hours"]]), np.array([stored["gap_hours"]]), np.array([stored["waits"]]))
