"""The members of an ensemble: which algorithms can be one, and their options.

The module is not called `members`: as an attribute of the package it would replace the hook of that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrainer.algorithms import load_algorithm
from retrainer.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.trial import BaseTrial
    from pydantic import BaseModel

    from retrainer.algorithms import LoadedAlgorithm

OPTION = "timing_model.ensemble.members"
MIN_MEMBERS = 2


def load_member(name: str) -> LoadedAlgorithm:
    """Return the algorithm of a member.

    Raises:
        ConfigError: it is not installed, does not forecast timing, costs money, or is an ensemble.
        AlgorithmError: it is broken.
    """
    if name == "ensemble":
        raise ConfigError(f"{OPTION}: 'ensemble' cannot be a member of itself", hint="List its members instead")
    try:
        member = load_algorithm(name, "timing")
    except UsageError as error:
        raise ConfigError(f"{OPTION}: {error.message}", hint=error.hint) from None
    if member.description.paid:
        raise ConfigError(
            f"{OPTION}: forecasts of '{name}' cost money, and an ensemble makes hundreds to learn its weights",
            hint="Choose an algorithm that is free",
        )
    return member


def validate_members(given: Mapping[Any, Any], *, recorded: bool) -> dict[str, BaseModel]:
    """Return the members' options as instances of their classes.

    Args:
        given: the options by algorithm; None for no options.
        recorded: whether they are the JSON that a version recorded.

    Raises:
        ValueError: there are fewer than two members.
        ConfigError: a member cannot be one, or has an invalid option.
    """
    if len(given) < MIN_MEMBERS:
        raise ValueError("must name at least two algorithms")
    options = {}
    for name, own in given.items():
        member = load_member(str(name))
        if not isinstance(own, dict | None):
            raise ValueError(f"the options of '{name}' must be keys with values")  # noqa: TRY004  for pydantic
        read = member.recorded_options if recorded else member.options
        options[member.name] = read(own or {}, "timing", parents=("ensemble", "members"))
    return options


def suggest_members(trial: BaseTrial, members: Mapping[str, BaseModel]) -> dict[str, Any]:
    """Return the options of the members that a trial suggests; a member without a search space keeps its own."""
    from retrainer.algorithms import PrefixedTrial  # noqa: PLC0415  optuna is slow to import

    suggested = {}
    for name, options in members.items():
        member = load_member(name)
        if "search_space" in member.hook_names:
            own = PrefixedTrial(trial, f"members.{name}.")
            suggested[name] = member.search_space(own, options, "timing").model_dump()
    return suggested
