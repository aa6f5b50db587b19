"""Studies: started, resumed, read, finished and deleted. Their trials are in `trials`."""

from __future__ import annotations

import logging
import math
import warnings
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import MedianPruner
from optuna.study import StudyDirection
from optuna.trial import TrialState as OptunaState

from retrainer.errors import UnknownName, UsageError, did_you_mean
from retrainer.times import format_time
from retrainer.tuning.leases import explain_end
from retrainer.tuning.plan import StudyPlan
from retrainer.tuning.results import Gain, StudyOutcome, StudyReport, StudySummary, TrialResult
from retrainer.tuning.sampler import TrialSeededSampler
from retrainer.tuning.storage import close_storage, open_storage, storage_errors, storage_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.tuning.results import TrialState

PLAN, CREATED_AT, OUTCOME = "plan", "created_at", "outcome"  # attributes of a study
# Attributes of a trial.
ALGORITHM, OPTIONS, FOLD_VALUES, STANDARD_ERROR = "algorithm", "options", "fold_values", "standard_error"
COST, ERROR, DEFAULT_OF, GIVEN = "cost_usd", "error", "default_of", "given"
SAME_AS = "same_as"  # the number of an earlier trial with the same options, whose values it has
LEASE, LOSSES = "lease", "losses"  # the process that runs it, and how many were lost

PRUNING_STARTUP_TRIALS = 5  # complete trials, before which none is pruned
PRUNING_WARMUP_FOLDS = 1  # after which a trial is not pruned yet
MIN_TRIALS_FOR_IMPORTANCES = 4

_STATES: dict[OptunaState, TrialState] = {
    OptunaState.WAITING: "waiting",
    OptunaState.RUNNING: "running",
    OptunaState.COMPLETE: "complete",
    OptunaState.PRUNED: "pruned",
    OptunaState.FAIL: "failed",
}


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenStudy:
    """A study whose storage is open.

    Attributes:
        optuna: the study itself.
        plan: what it was made for.
        storage: where it is kept.
    """

    optuna: optuna.Study
    plan: StudyPlan
    storage: RDBStorage

    @property
    def name(self) -> str:
        """Its name in the storage."""
        return self.optuna.study_name

    @property
    def budget_id(self) -> str:
        """The id of the budget of its paid forecasts; another study of this name, after this one, has another."""
        created = datetime.fromisoformat(self.optuna.user_attrs[CREATED_AT])
        return f"{self.name}_{created:%Y%m%d%H%M%S}"

    def trials(self) -> tuple[TrialResult, ...]:
        """Return the trials as they are now, in the order of their numbers."""
        return tuple(trial_result(trial) for trial in self.optuna.get_trials(deepcopy=False))

    def outcome(self) -> StudyOutcome | None:
        """Return how the study ended; None if it is unfinished."""
        document = self.optuna.user_attrs.get(OUTCOME)
        return None if document is None else _outcome(document)

    def finish(self, outcome: StudyOutcome) -> None:
        """Record how the study ended; it is not resumed any more."""
        self.optuna.set_user_attr(OUTCOME, asdict(outcome))


@contextmanager
def opened_storage(project: Project) -> Iterator[RDBStorage]:
    """Open the storage of a project's studies, and close it at the end.

    Raises:
        ConfigError: its URL is invalid.
        DatabaseError: it cannot be opened, or fails in the block.
    """
    storage = open_storage(project)
    try:
        with storage_errors(storage.engine.url):
            yield storage
    finally:
        close_storage(storage)


def start_or_resume(storage: RDBStorage, plan: StudyPlan, now: datetime, *, is_paid: bool) -> OpenStudy:
    """Return the unfinished study of a plan, or a new one.

    A study's name ends with the start of the hash of its plan, and with a number from the second such study on. So two
    commands that start at once, each within the lock of the studies, work on the same one.

    Args:
        is_paid: whether the trials cost money.

    Raises:
        UsageError: an ended study has the same trials, and they would be paid for again.
    """
    stem = f"{plan.stream}_{plan.model_type}_{plan.key[:8]}"
    known = {study.study_name: study.user_attrs for study in storage.get_all_studies()}
    numbered = chain([stem], (f"{stem}_{number}" for number in count(2)))
    name = next(name for name in numbered if OUTCOME not in known.get(name, {}))
    if name not in known:
        ended = next((one for one in known if one == stem or one.startswith(f"{stem}_")), None)
        if ended is not None:
            _report_repetition(ended, name, is_paid=is_paid)
        directions = [StudyDirection.MINIMIZE if plan.is_minimised else StudyDirection.MAXIMIZE]
        directions += [StudyDirection.MINIMIZE] * plan.cost_objective
        optuna.create_study(storage=storage, study_name=name, directions=directions)
    study = optuna.load_study(storage=storage, study_name=name)
    if CREATED_AT not in study.user_attrs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([plan.metric, *(["cost_usd"] if plan.cost_objective else [])])
        study.set_user_attr(PLAN, plan.document())
        study.set_user_attr(CREATED_AT, format_time(now))
    return _open(storage, name, plan)


def _report_repetition(ended: str, name: str, *, is_paid: bool) -> None:
    """Say that a new study has the trials of one that has ended, since the sampler has the same seed.

    Raises:
        UsageError: they would be paid for again.
    """
    if is_paid:
        raise UsageError(
            f"the study '{ended}' has ended, and the same command would pay for its trials again",
            hint="Choose another --seed",
        )
    log.warning("Study '%s' has ended; '%s' repeats its trials. Choose another --seed for new trials", ended, name)


def load_study(storage: RDBStorage, name: str) -> OpenStudy:
    """Return a study by its name.

    Raises:
        UnknownName: there is none.
    """
    known = _names(storage)
    if name not in known:
        raise UnknownName(
            f"unknown study '{name}'", hint=did_you_mean(name, known) or "`retrainer tune --show` lists them"
        )
    document = optuna.load_study(storage=storage, study_name=name).user_attrs[PLAN]
    return _open(storage, name, StudyPlan.from_document(document))


def list_studies(project: Project, model_type: ModelTypeName | None = None) -> list[StudySummary]:
    """Return the studies of the project's stream, newest first; empty if none was ever started."""
    file = storage_file(project)
    if file is not None and not file.exists():
        return []
    with opened_storage(project) as storage:
        found = [summarize(load_study(storage, name)) for name in _names(storage)]
    found.reverse()  # of two that were created at once, the later one is newer
    chosen = [
        study for study in found if study.plan.stream == project.stream and model_type in {None, study.model_type}
    ]
    return sorted(chosen, key=lambda study: study.created_at, reverse=True)


def read_study(project: Project, name: str) -> StudyReport:
    """Return a study with its trials.

    Raises:
        UnknownName: there is none of this name.
    """
    file = storage_file(project)
    if file is not None and not file.exists():
        raise UnknownName(f"unknown study '{name}'", hint="This project has no studies yet")
    with opened_storage(project) as storage:
        return report_study(load_study(storage, name))


def summarize(study: OpenStudy) -> StudySummary:
    """Return a study as it is listed."""
    trials = study.trials()
    counts: dict[TrialState, int] = {}
    for trial in trials:
        counts[trial.state] = counts.get(trial.state, 0) + 1
    return StudySummary(
        name=study.name,
        created_at=datetime.fromisoformat(study.optuna.user_attrs[CREATED_AT]).astimezone(UTC),
        plan=study.plan,
        counts=counts,
        default=default_trial(study.plan, trials),
        best=best_trial(study.plan, trials),
        outcome=study.outcome(),
    )


def report_study(study: OpenStudy) -> StudyReport:
    """Return a study with its trials."""
    complete = [trial for trial in study.optuna.get_trials(deepcopy=False) if trial.state == OptunaState.COMPLETE]
    importances: dict[str, float] = {}
    names = {name for trial in complete for name in trial.params}
    if len(complete) >= MIN_TRIALS_FOR_IMPORTANCES and names:
        # The only one has all of it. Optuna would say so, too, but imports scikit-learn, which takes seconds.
        found = _importances(study) if len(names) > 1 else dict.fromkeys(names, 1.0)
        importances = {name: value for name, value in found.items() if math.isfinite(value)}
    pareto = tuple(trial.number for trial in study.optuna.best_trials) if study.plan.cost_objective and complete else ()
    return StudyReport(summarize(study), study.trials(), importances, pareto)


def best_trial(plan: StudyPlan, trials: Sequence[TrialResult]) -> TrialResult | None:
    """Return the complete trial with the best value, the first of equal ones; None if there is none.

    If the cost is an objective, it is the best of those that cost no more than the configured options.
    """
    # The values of an earlier trial come at no cost, which says nothing of what they would cost.
    complete = [trial for trial in trials if trial.state == "complete" and trial.same_as is None]
    default = default_trial(plan, trials)
    if plan.cost_objective and default is not None:
        complete = [trial for trial in complete if trial.cost_usd <= default.cost_usd]
    return max(complete, key=lambda trial: plan.improvement(0.0, trial.value or 0.0), default=None)


def default_trial(plan: StudyPlan, trials: Sequence[TrialResult]) -> TrialResult | None:
    """Return the complete trial of the configured options of the first algorithm; None if there is none yet."""
    first = plan.algorithms[0].name
    complete = (trial for trial in trials if trial.state == "complete")
    return next((trial for trial in complete if trial.is_default and trial.algorithm == first), None)


def open_pruner() -> MedianPruner:
    return MedianPruner(n_startup_trials=PRUNING_STARTUP_TRIALS, n_warmup_steps=PRUNING_WARMUP_FOLDS)


def delete_old_studies(storage: RDBStorage, current: OpenStudy, keep: int) -> list[str]:
    """Delete the oldest finished studies of a stream and type beyond a number; return their names.

    Args:
        current: a study of the stream and type that is never deleted; it counts.
        keep: the number.
    """
    of = (current.plan.stream, current.plan.model_type)
    studies = [summarize(load_study(storage, name)) for name in reversed(_names(storage))]
    finished = [study for study in studies if study.outcome is not None and (study.plan.stream, study.model_type) == of]
    finished.sort(key=lambda study: (study.name == current.name, study.created_at), reverse=True)
    for study in finished[keep:]:
        optuna.delete_study(storage=storage, study_name=study.name)
    return [study.name for study in finished[keep:]]


def trial_result(trial: FrozenTrial) -> TrialResult:
    """Return a trial as plain data."""
    attributes = trial.user_attrs
    state = _STATES[trial.state]
    is_gone = state == "running" and explain_end(attributes.get(LEASE)) is not None
    if is_gone or (state == "waiting" and LEASE in attributes):
        state = "lost"
    duration = trial.duration
    return TrialResult(
        number=trial.number,
        state=state,
        algorithm=attributes.get(ALGORITHM),
        options=attributes.get(OPTIONS, {}),
        params=trial.params,
        value=trial.values[0] if state == "complete" and trial.values else None,
        standard_error=attributes.get(STANDARD_ERROR),
        fold_values=tuple(attributes.get(FOLD_VALUES, ())),
        cost_usd=attributes.get(COST, 0.0),
        seconds=None if duration is None else duration.total_seconds(),
        is_default=attributes.get(DEFAULT_OF) is not None,
        error=attributes.get(ERROR),
        same_as=attributes.get(SAME_AS),
    )


def _importances(study: OpenStudy) -> dict[str, float]:
    """Return the importance of each parameter for a good value, largest first; they add up to 1."""
    target: Callable[[FrozenTrial], float] | None = None
    if study.plan.cost_objective:
        sign = 1 if study.plan.is_minimised else -1  # Optuna asks which parameters lead to small targets

        def target(trial: FrozenTrial) -> float:
            return sign * float(trial.values[0])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a parameter is in few trials
        return optuna.importance.get_param_importances(study.optuna, target=target)


def _names(storage: RDBStorage) -> list[str]:
    """Return the names of our studies, in the order of their creation; the storage may hold those of others."""
    return [study.study_name for study in storage.get_all_studies() if CREATED_AT in study.user_attrs]


def _open(storage: RDBStorage, name: str, plan: StudyPlan) -> OpenStudy:
    sampler = TrialSeededSampler(plan.seed)
    study = optuna.load_study(storage=storage, study_name=name, sampler=sampler, pruner=open_pruner())
    return OpenStudy(study, plan, storage)


def _outcome(document: dict[str, Any]) -> StudyOutcome:
    gain = document["held_back"]
    if gain is not None:
        gain = Gain(**{**gain, "interval": tuple(gain["interval"])})
    return StudyOutcome(**{**document, "held_back": gain})
