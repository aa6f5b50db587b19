"""The sampler of a study: TPE, reseeded for each trial."""

from __future__ import annotations

import hashlib
import warnings
from typing import TYPE_CHECKING, Any

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, TrialState

STARTUP_TRIALS = 10  # drawn at random before TPE has enough to learn from


class TrialSeededSampler(BaseSampler):
    """TPE (Bergstra et al. 2011) whose random numbers depend on the seed and the number of the trial alone.

    So a study that is resumed after its process was killed goes on with the trials that it would have had, and the
    workers of a study do not draw the same ones.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._of_trial: tuple[int, TPESampler] | None = None

    def _sampler(self, trial: FrozenTrial) -> TPESampler:
        if self._of_trial is None or self._of_trial[0] != trial.number:
            digest = hashlib.sha256(f"{self._seed} {trial.number}".encode()).digest()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                # `group`: several algorithms have spaces of their own
                # `constant_liar`: workers keep away from what the others try at the same time
                sampler = TPESampler(
                    seed=int.from_bytes(digest[:4]),
                    n_startup_trials=STARTUP_TRIALS,
                    multivariate=True,
                    group=True,
                    constant_liar=True,
                )
            self._of_trial = (trial.number, sampler)
        return self._of_trial[1]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler(trial).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler(trial).before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._sampler(trial).after_trial(study, trial, state, values)
