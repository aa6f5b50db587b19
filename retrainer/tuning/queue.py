"""The trials of a study as a queue that several processes and machines work on.

Each trial is claimed by one process, and ends once. If its process is gone, the same trial waits again, with the
parameters that it has: so none is lost, and none is counted twice.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from retrainer.tuning.leases import explain_end, is_same, keep_renewing, new_lease, renewed
from retrainer.tuning.locks import hold_lock
from retrainer.tuning.sampler import TrialSeededSampler
from retrainer.tuning.study import ALGORITHM, COST, ERROR, FOLD_VALUES, LEASE, LOSSES, OPTIONS, open_pruner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from optuna.trial import FrozenTrial, Trial
    from sqlalchemy import URL

    from retrainer.tuning.leases import Lease
    from retrainer.tuning.study import OpenStudy

FINALIZER = "finalizer"  # of a study
MAX_LOSSES = 2  # of a trial, such as one that needs more memory than there is; then it has failed
POLL_SECONDS = 0.5  # while other processes work on the last trials

log = logging.getLogger(__name__)


class TrialQueue:
    """The trials of a study, up to a number that is wanted.

    Attributes:
        study_name: Optuna's name of the study.
        total: the number of trials wanted.
    """

    def __init__(self, study: OpenStudy, total: int) -> None:
        """Open the queue of a study.

        Args:
            study: the study.
            total: the number of trials wanted.
        """
        self.study_name = study.name
        self.total = total
        self._study = study
        self._storage = study.storage
        self._cache = optuna.storages.get_storage(study.storage)
        self._study_id = study.storage.get_study_id_from_name(study.name)
        self._leases: dict[int, Lease] = {}

    @property
    def url(self) -> URL:
        return self._storage.engine.url

    def claim(self) -> Trial | None:
        """Claim a trial to run; None if none is left that no living process works on.

        A trial whose process is gone comes before those that wait, and these before a new one.
        """
        with self._lock():
            trials = self._trials()
            for trial in trials:
                if trial.state == TrialState.RUNNING:
                    self._recover(trial)
            waiting = next((trial for trial in self._trials() if trial.state == TrialState.WAITING), None)
            if waiting is not None:
                trial_id = waiting._trial_id  # noqa: SLF001  the storage's calls take no other
                self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
            elif len(trials) < self.total:
                trial_id = self._cache.create_new_trial(self._study_id)
            else:
                return None
            self._leases[trial_id] = new_lease()
            self._storage.set_trial_user_attr(trial_id, LEASE, self._leases[trial_id])
        # An object of its own for each trial: Optuna's keeps the trials that it has read.
        study = optuna.load_study(
            study_name=self.study_name,
            storage=self._cache,
            sampler=TrialSeededSampler(self._study.plan.seed),
            pruner=open_pruner(),
        )
        return optuna.Trial(study, trial_id)

    def claim_all(self, is_stopping: Callable[[], bool]) -> Iterator[Trial]:
        """Yield a claimed trial after another, until all are finished; wait for those that other processes run."""
        while not is_stopping():
            if (trial := self.claim()) is not None:
                yield trial
            elif self.is_finished():
                return
            else:
                time.sleep(POLL_SECONDS)

    @contextmanager
    def keep_alive(self, trial: Trial) -> Iterator[None]:
        """Renew the lease of a claimed trial for the length of the block."""

        def renew() -> None:
            with self._lock():
                if self._owns(trial):
                    self._storage.set_trial_user_attr(_id(trial), LEASE, renewed(self._leases[_id(trial)]))

        with keep_renewing(renew):
            yield

    def complete(self, trial: Trial, values: Sequence[float]) -> bool:
        """Record the values of a claimed trial; return False if it was reassigned meanwhile."""
        return self._tell(trial, TrialState.COMPLETE, values)

    def prune(self, trial: Trial) -> bool:
        """Record that a claimed trial was pruned; see `complete`."""
        return self._tell(trial, TrialState.PRUNED)

    def fail(self, trial: Trial, error: str) -> bool:
        """Record that a claimed trial failed, and why in one line; see `complete`."""
        return self._tell(trial, TrialState.FAIL, error=error)

    def release(self, trial: Trial) -> None:
        """Let a claimed trial, which was interrupted, wait for another process."""
        with self._lock():
            if self._owns(trial):
                self._set_waiting(_id(trial))

    def read(self, trial: Trial) -> FrozenTrial:
        """Return a trial as it is now."""
        return self._storage.get_trial(_id(trial))

    def find_equal(self, algorithm: str, options: dict[str, Any]) -> FrozenTrial | None:
        """Return a complete trial with the same algorithm and options; None if there is none."""
        complete = (trial for trial in self._trials() if trial.state == TrialState.COMPLETE)
        wanted = (algorithm, options)
        return next(
            (trial for trial in complete if (trial.user_attrs[ALGORITHM], trial.user_attrs[OPTIONS]) == wanted), None
        )

    def max_fold_cost(self) -> float:
        """Return the cost of the most expensive fold so far, as the mean of its trial, in US dollars."""
        return max((_cost_per_fold(trial) for trial in self._trials()), default=0.0)

    def is_finished(self) -> bool:
        """Whether as many trials as are wanted are finished, and none waits or runs."""
        trials = self._trials()
        return len(trials) >= self.total and all(trial.state.is_finished() for trial in trials)

    def has_work(self) -> bool:
        """Whether there is a trial to claim, unless the process of one that runs is gone."""
        trials = self._trials()
        return len(trials) < self.total or any(trial.state == TrialState.WAITING for trial in trials)

    def recover(self) -> None:
        """Let the trials wait again whose processes are gone."""
        with self._lock():
            for trial in self._trials():
                if trial.state == TrialState.RUNNING:
                    self._recover(trial)

    @contextmanager
    def finalize(self, is_done: Callable[[], bool]) -> Iterator[bool]:
        """Let one process end a study; yield whether it is this one.

        Waits while another process does, until that is done or gone.

        Args:
            is_done: whether the study has been ended.
        """
        lease = new_lease()
        while True:
            with self._lock():
                if is_done():
                    break
                current = self._storage.get_study_user_attrs(self._study_id).get(FINALIZER)
                if explain_end(current) is not None:
                    self._storage.set_study_user_attr(self._study_id, FINALIZER, lease)
                    break
            time.sleep(POLL_SECONDS)
        if is_done():
            yield False
            return

        def renew() -> None:
            with self._lock():
                if is_same(self._storage.get_study_user_attrs(self._study_id).get(FINALIZER), lease):
                    self._storage.set_study_user_attr(self._study_id, FINALIZER, renewed(lease))

        try:
            with keep_renewing(renew):
                yield True
        finally:
            with self._lock():
                if is_same(self._storage.get_study_user_attrs(self._study_id).get(FINALIZER), lease):
                    self._storage.set_study_user_attr(self._study_id, FINALIZER, None)

    def _tell(
        self, trial: Trial, state: TrialState, values: Sequence[float] | None = None, error: str | None = None
    ) -> bool:
        with self._lock():
            if not self._owns(trial):
                log.warning("Trial %d was marked as lost; discarding its result", trial.number)
                return False
            if error is not None:
                trial.set_user_attr(ERROR, error)
            trial.study.tell(trial, values, state)
            return True

    def _recover(self, trial: FrozenTrial) -> None:
        reason = explain_end(trial.user_attrs.get(LEASE))
        if reason is None:
            return
        trial_id = trial._trial_id  # noqa: SLF001
        losses = trial.user_attrs.get(LOSSES, 0) + 1
        self._storage.set_trial_user_attr(trial_id, LOSSES, losses)
        if losses < MAX_LOSSES:
            log.warning("Trial %d: %s. Trying again", trial.number, reason)
            self._set_waiting(trial_id)
        else:
            log.warning("Trial %d failed: %s", trial.number, reason)
            self._storage.set_trial_user_attr(trial_id, ERROR, f"lost {losses} times: {reason}")
            self._storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def _set_waiting(self, trial_id: int) -> None:
        self._storage.set_trial_user_attr(trial_id, LEASE, None)
        self._storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def _owns(self, trial: Trial) -> bool:
        stored = self.read(trial)
        lease = stored.user_attrs.get(LEASE)
        return stored.state == TrialState.RUNNING and is_same(lease, self._leases[_id(trial)])

    def _trials(self) -> list[FrozenTrial]:
        return self._cache.get_all_trials(self._study_id, deepcopy=False)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with hold_lock(self._storage.engine, self.study_name):
            yield


def _id(trial: Trial) -> int:
    return trial._trial_id  # noqa: SLF001  the storage's calls take no other


def _cost_per_fold(trial: FrozenTrial) -> float:
    folds = len(trial.user_attrs.get(FOLD_VALUES, ()))
    cost: float = trial.user_attrs.get(COST, 0.0)
    return cost / folds if folds else 0.0
