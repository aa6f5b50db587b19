"""Views of a trial that a plugin's `search_space` sees instead of the trial itself."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import BaseTrial
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from optuna.distributions import BaseDistribution


class OutsideOfSpace(Exception):
    """An option has no value in the search space."""


class _TrialView(BaseTrial):
    """Optuna's interface of a trial, with one method that all suggestions come to."""

    def __init__(self) -> None:
        self._params: dict[str, Any] = {}
        self._distributions: dict[str, BaseDistribution] = {}

    @abstractmethod
    def _choose(self, name: str, distribution: BaseDistribution) -> Any:
        """Return the value of a parameter that was not suggested before."""

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        if name not in self._params:
            self._params[name] = self._choose(name, distribution)
            self._distributions[name] = distribution
        return self._params[name]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Suggest a number; see `optuna.trial.Trial.suggest_float`."""
        value: float = self._suggest(name, FloatDistribution(low, high, log=log, step=step))
        return value

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Suggest a whole number; see `optuna.trial.Trial.suggest_int`."""
        value: int = self._suggest(name, IntDistribution(low, high, log=log, step=step))
        return value

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Suggest one of several values; see `optuna.trial.Trial.suggest_categorical`."""
        return self._suggest(name, CategoricalDistribution(choices))

    def suggest_uniform(self, name: str, low: float, high: float) -> float:
        """Suggest a number; deprecated by Optuna."""
        return self.suggest_float(name, low, high)

    def suggest_loguniform(self, name: str, low: float, high: float) -> float:
        """Suggest a number on a logarithmic scale; deprecated by Optuna."""
        return self.suggest_float(name, low, high, log=True)

    def suggest_discrete_uniform(self, name: str, low: float, high: float, q: float) -> float:
        """Suggest a multiple of a number; deprecated by Optuna."""
        return self.suggest_float(name, low, high, step=q)

    def report(self, value: float, step: int) -> None:
        """Do nothing: the folds report."""

    def should_prune(self) -> bool:
        """Return False: the folds prune."""
        return False

    def set_user_attr(self, key: str, value: Any) -> None:
        """Do nothing: the attributes are those of the study."""

    def set_constraint(self, key: str, value: float) -> None:
        """Do nothing: a study has no constraints."""

    @property
    def params(self) -> dict[str, Any]:
        """The parameters suggested so far, by the plugin's own names."""
        return dict(self._params)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        return dict(self._distributions)

    @property
    def user_attrs(self) -> dict[str, Any]:
        return {}

    @property
    def datetime_start(self) -> datetime | None:
        """None: options must not depend on the time."""
        return None

    @property
    def number(self) -> int:
        """0: options must not depend on the number of the trial."""
        return 0


class PrefixedTrial(_TrialView):
    """A trial whose parameters get a prefix, so that the names of several algorithms do not collide.

    For the `search_space` of an algorithm that calls others: it hands their hooks such a trial.
    """

    def __init__(self, trial: BaseTrial, prefix: str) -> None:
        super().__init__()
        self._trial, self._prefix = trial, prefix

    def _choose(self, name: str, distribution: BaseDistribution) -> Any:
        full = self._prefix + name
        match distribution:
            case FloatDistribution(low=low, high=high, log=log, step=step):
                return self._trial.suggest_float(full, low, high, step=step, log=log)
            case IntDistribution(low=low, high=high, log=log, step=step):
                return self._trial.suggest_int(full, low, high, step=step, log=log)
            case CategoricalDistribution(choices=choices):
                return self._trial.suggest_categorical(full, choices)
        raise TypeError(f"unknown distribution {distribution}")


class ConfiguredTrial(_TrialView):
    """A trial that suggests what is configured: the option with the name of the parameter, `a.b` for a nested one."""

    def __init__(self, options: BaseModel) -> None:
        super().__init__()
        self._options = options

    def _choose(self, name: str, distribution: BaseDistribution) -> Any:
        value: Any = self._options
        for part in name.split("."):
            if isinstance(value, BaseModel) and part in type(value).model_fields:
                value = getattr(value, part)
            elif isinstance(value, dict) and part in value:
                value = value[part]
            else:
                raise OutsideOfSpace(name)
        try:
            is_inside = distribution._contains(distribution.to_internal_repr(value))  # noqa: SLF001  no public one
        except (ValueError, TypeError):
            is_inside = False
        if not is_inside:
            raise OutsideOfSpace(name)
        return value
