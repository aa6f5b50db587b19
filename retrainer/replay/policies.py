"""Policies: when to retrain, and when to promote, as the project's settings with a few keys changed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from retrainer.algorithms.manager import load_algorithm
from retrainer.config import RetrainingSettings
from retrainer.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.config import Settings
    from retrainer.model_types import ModelTypeName

CONFIGURED, NEVER, ALWAYS = "configured", "never", "always"

_KEYS = (
    "schedule_days",
    "test_split",
    "min_training_samples",
    "evaluation_max_predictions",
    "min_improvement_threshold",
    "min_confidence",
)
_KEYS_OF_A_TYPE = {"timing": ("origin",), "content": ("max_cost_increase",)}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Policy:
    """When to retrain, and when to promote.

    Attributes:
        name: by which it is told apart.
        settings: the project's settings under it.
        algorithm: what it trains.
        retrains: whether it trains again once a first version is live.
        promotes_all: whether every version goes live, whatever the comparison says.
        changes: what was changed of the project's settings, by key.
    """

    name: str
    settings: Settings
    algorithm: str
    retrains: bool = True
    promotes_all: bool = False
    changes: dict[str, Any] = field(default_factory=dict)


def build_policies(settings: Settings, model_type: ModelTypeName, given: Sequence[str]) -> list[Policy]:
    """Return the three policies that every replay has, and those given.

    Args:
        given: each like `daily: schedule_days=1, min_confidence=0.95`.

    Raises:
        UsageError: a policy is not written so, has a name that is taken, or an unknown key or a wrong value.
        UnknownName, ConfigError: an algorithm is not installed, or its options are wrong.
    """
    algorithm = settings.model(model_type).algorithm
    policies = [
        Policy(CONFIGURED, settings, algorithm),
        Policy(NEVER, settings, algorithm, retrains=False),
        Policy(ALWAYS, settings, algorithm, promotes_all=True),
    ]
    for text in given:
        policy = parse_policy(text, settings, model_type)
        if policy.name in {other.name for other in policies}:
            raise UsageError(f"--policy: the name '{policy.name}' is taken", hint="Give it another name")
        policies.append(policy)
    for policy in policies:
        load_algorithm(policy.algorithm, model_type)
    return policies


def parse_policy(text: str, settings: Settings, model_type: ModelTypeName) -> Policy:
    """Return the policy that is written as `name: key=value, key=value`.

    Raises:
        UsageError: it is not written so, or a key is unknown or its value wrong.
    """
    name, colon, rest = (part.strip() for part in text.partition(":"))
    if not colon or not _NAME.fullmatch(name):
        raise UsageError(
            f"--policy: '{text}' is no policy",
            hint="Write it like 'daily: schedule_days=1, min_confidence=0.95', the name of letters and digits",
        )
    changes: dict[str, Any] = {}
    for part in filter(None, (piece.strip() for piece in rest.split(","))):
        key, value = _key_and_value(part, name, model_type)
        if key in changes:
            raise UsageError(f"--policy '{name}': '{key}' is given twice", hint="Keep one of them")
        changes[key] = value
    algorithm = str(changes.get("algorithm", settings.model(model_type).algorithm))
    return Policy(name, _changed(settings, model_type, name, changes), algorithm, changes=changes)


def _key_and_value(part: str, name: str, model_type: ModelTypeName) -> tuple[str, Any]:
    key, equals, value = (piece.strip() for piece in part.partition("="))
    known = [*_KEYS, *_KEYS_OF_A_TYPE[model_type], "algorithm"]
    if not equals or not value:
        raise UsageError(f"--policy '{name}': '{part}' is not of the form key=value")
    if key not in known:
        hint = did_you_mean(key, known) or f"Allowed here: {', '.join(known)}"
        raise UsageError(f"--policy '{name}': unknown key '{key}'", hint=hint)
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        return key, value


def _changed(settings: Settings, model_type: ModelTypeName, name: str, changes: dict[str, Any]) -> Settings:
    """Return the settings with the keys of `retraining` changed; what a type overrides is changed there."""
    tree = settings.retraining.model_dump()
    of_type = tree[f"{model_type}_model"]
    for key, value in changes.items():
        if key in _KEYS:
            tree[key] = value
        if key in of_type:
            of_type[key] = value
    try:
        retraining = RetrainingSettings.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        allowed = first["msg"].removeprefix("Input ").replace("should be", "it must be", 1)
        raise UsageError(
            f"--policy '{name}': {first['loc'][-1]}: '{first['input']}' is not allowed: {allowed}"
        ) from None
    return settings.model_copy(update={"retraining": retraining})
