"""Policies: when to retrain and when to promote, as the project's settings with some keys changed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from retrainer.config import RetrainingSettings
from retrainer.errors import UsageError, did_you_mean, invalid_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.config import Settings
    from retrainer.model_types import ModelTypeName
    from retrainer.runtime import Runtime

CONFIGURED, NEVER, ALWAYS = "configured", "never", "always"

_KEYS = (
    "schedule_days",
    "test_split",
    "min_training_samples",
    "evaluation_max_predictions",
    "min_improvement_threshold",
    "min_confidence",
    "refit",
)
_TUNING_KEYS = ("tuned", "tune_every", "tune_trials")
_KEYS_BY_TYPE = {"timing": ("origin",), "content": ("max_cost_increase",)}
MAX_COUNT = 10_000  # of trials, and of steps between studies
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class PolicyTuning:
    """How a policy tunes the options of its algorithm, as `retrainer tune --apply` does.

    Attributes:
        every: it tunes at its first step, and at each of so many after it.
        trials: of each study.
    """

    every: int = 4
    trials: int = 10


@dataclass(frozen=True)
class Policy:
    """When to retrain and when to promote.

    Attributes:
        name: unique within a replay.
        settings: the project's settings with its changes.
        algorithm: the algorithm that it trains.
        retrains: whether it trains again after the first promotion.
        promotes_all: whether it promotes every version, whatever the comparison says.
        tuning: how it tunes; None if its options stay as configured.
        changes: the changed settings, by key.
    """

    name: str
    settings: Settings
    algorithm: str
    retrains: bool = True
    promotes_all: bool = False
    tuning: PolicyTuning | None = None
    changes: dict[str, Any] = field(default_factory=dict)


def build_policies(
    settings: Settings, runtime: Runtime, model_type: ModelTypeName, given: Sequence[str]
) -> list[Policy]:
    """Return the three policies that every replay has, and the given ones.

    Args:
        given: each like `daily: schedule_days=1, min_confidence=0.95`.

    Raises:
        UsageError: a policy has a wrong format, a duplicate name, an unknown key or an invalid value, or is to tune an
            algorithm that cannot be tuned.
        UnknownName, ConfigError: an algorithm is not installed, or its options are invalid.
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
            raise UsageError(f"--policy: the name '{policy.name}' is already used", hint="Choose another name")
        policies.append(policy)
    for policy in policies:
        _require_tunable(policy, runtime.algorithms(policy.algorithm, model_type))
    return policies


def _require_tunable(policy: Policy, algorithm: LoadedAlgorithm) -> None:
    if policy.tuning is None:
        return
    if "search_space" not in algorithm.hook_names:
        raise UsageError(
            f"--policy '{policy.name}': the algorithm '{algorithm.name}' has no search space",
            hint="Omit tuned, or choose another algorithm",
        )
    if algorithm.description.paid:
        raise UsageError(
            f"--policy '{policy.name}': the forecasts of '{algorithm.name}' cost money, so it is not tuned in a replay",
            hint="Omit tuned, or choose another algorithm",
        )


def policy_keys(model_type: ModelTypeName) -> list[str]:
    """Return the keys that a policy of a model type may set."""
    return [*_KEYS, *_KEYS_BY_TYPE[model_type], "algorithm", *_TUNING_KEYS]


def parse_policy(text: str, settings: Settings, model_type: ModelTypeName) -> Policy:
    """Parse a policy like `name: key=value, key=value`.

    Raises:
        UsageError: the format is wrong, or a key is unknown or its value invalid.
    """
    name, colon, rest = (part.strip() for part in text.partition(":"))
    if not colon or not NAME_PATTERN.fullmatch(name):
        raise UsageError(
            f"--policy: invalid policy '{text}'",
            hint="Write it like 'daily: schedule_days=1, min_confidence=0.95'; names consist of letters, digits, _ . -",
        )
    changes: dict[str, Any] = {}
    for part in filter(None, (piece.strip() for piece in rest.split(","))):
        key, value = _key_and_value(part, name, model_type)
        if key in changes:
            raise UsageError(f"--policy '{name}': '{key}' is given twice", hint="Keep one of them")
        changes[key] = value
    algorithm = str(changes.get("algorithm", settings.model(model_type).algorithm))
    tuning = _tuning(name, changes)
    return Policy(name, _changed(settings, model_type, name, changes), algorithm, tuning=tuning, changes=changes)


def _tuning(name: str, changes: dict[str, Any]) -> PolicyTuning | None:
    """Return how a policy tunes, or None."""
    tuned = changes.get("tuned", False)
    if not isinstance(tuned, bool):
        raise UsageError(f"--policy '{name}': {invalid_value('tuned', tuned, 'must be yes or no')}")
    counts = {key.removeprefix("tune_"): changes[key] for key in _TUNING_KEYS[1:] if key in changes}
    for key, count in counts.items():
        if not tuned:
            raise UsageError(f"--policy '{name}': 'tune_{key}' is for a policy that tunes", hint="Add tuned=yes")
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_COUNT:
            problem = invalid_value(f"tune_{key}", count, f"must be a whole number from 1 to {MAX_COUNT}")
            raise UsageError(f"--policy '{name}': {problem}")
    return PolicyTuning(**counts) if tuned else None


def _key_and_value(part: str, name: str, model_type: ModelTypeName) -> tuple[str, Any]:
    key, equals, value = (piece.strip() for piece in part.partition("="))
    known = policy_keys(model_type)
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
    """Return the settings with keys of `retraining` changed; keys that the model type overrides are changed there."""
    tree = settings.retraining.model_dump()
    overrides = tree[f"{model_type}_model"]
    for key, value in changes.items():
        if key in _KEYS:
            tree[key] = value
        if key in overrides:
            overrides[key] = value
    try:
        retraining = RetrainingSettings.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        problem = invalid_value(str(first["loc"][-1]), first["input"], first["msg"])
        raise UsageError(f"--policy '{name}': {problem}") from None
    return settings.model_copy(update={"retraining": retraining})
