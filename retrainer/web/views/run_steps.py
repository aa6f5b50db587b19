"""The seven steps of a run, by what is recorded of it: nothing else is written down while it goes on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from retrainer.times import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from retrainer.registry.tables import LedgerEntry, ModelEvaluation, ModelVersion, TrainingRun

_SHORT, _MINUTE = 0.1, 60
State = Literal["done", "running", "waiting", "failed", "skipped"]


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        number: from 1 to 7.
        name: what is done.
        state: `skipped` if the run did not need it, `waiting` if it has not begun.
        seconds: how long it took, or has taken so far; None if that is not known.
        ended: when it was over, by the clock of the run; None if it is not, or if that is not known.
        detail: its result.
    """

    number: int
    name: str
    state: State = "waiting"
    seconds: float | None = None
    ended: datetime | None = None
    detail: str = ""

    @property
    def took(self) -> str:
        """How long it took, in words; empty if that is not known."""
        if self.seconds is None:
            return ""
        seconds = max(self.seconds, 0.0)
        if seconds < _SHORT:
            return f"under {_SHORT} s"
        return f"{seconds:.1f} s" if seconds < _MINUTE else format_duration(seconds)


@dataclass(frozen=True)
class RunRecord:
    """What is recorded of a run.

    Attributes:
        version: the new version; None before it is registered.
        evaluations: those made in the run, of both versions, the oldest first.
        decision: the entry of the ledger that the run ended with; None before.
        archived: the versions that it archived.
    """

    run: TrainingRun
    version: ModelVersion | None
    evaluations: Sequence[ModelEvaluation]
    decision: LedgerEntry | None
    archived: Sequence[str] = ()


_NAMES = (
    "Load the posts",
    "Split them by time",
    "Train a new version",
    "Evaluate it",
    "Compare it with production",
    "Decide",
    "Archive old versions",
)


def trace_steps(record: RunRecord, now: datetime) -> list[Step]:
    """Return the steps of a run.

    Loading and splitting have one time. Of a run that goes on, the first step without a record is the present one.

    Args:
        now: the time, UTC, for the step that is running.
    """
    run = record.run
    steps = [Step(number, name) for number, name in enumerate(_NAMES, 1)]
    done = [*_split_steps(record), _training(record), *_scoring_steps(record), _decision(record), _archiving(record)]
    for index, step in enumerate(done):
        if step is not None:
            steps[index] = replace(step, number=index + 1, name=steps[index].name)
    if run.status == "completed":
        return [replace(step, state="skipped") if step.state == "waiting" else step for step in steps]
    present = next((index for index, step in enumerate(steps) if step.state == "waiting"), None)
    if present is None:
        return steps
    ends = [step.ended for step in steps[:present] if step.ended]
    began = max(ends) if ends else run.started_at if present == 0 else None
    until = now if run.status == "running" else run.completed_at
    seconds = (until - began).total_seconds() if began and until and run.as_of is None else None
    state: State = "running" if run.status == "running" else "failed"
    detail = "" if run.status == "running" else run.error or ""
    steps[present] = replace(steps[present], state=state, seconds=seconds, detail=detail)
    return steps


def _split_steps(record: RunRecord) -> tuple[Step | None, Step | None]:
    run, version = record.run, record.version
    if run.num_training_samples is None or run.num_test_samples is None:
        return None, None
    total = run.num_training_samples + run.num_test_samples
    ended = None if version is None else max(version.training_began_at, run.started_at)
    seconds = (ended - run.started_at).total_seconds() if ended else None
    loaded = Step(1, "", "done", detail=f"{total:,} posts")
    split = f"{run.num_training_samples:,} to train, {run.num_test_samples:,} to test"
    return loaded, Step(2, "", "done", seconds, ended, split)


def _training(record: RunRecord) -> Step | None:
    version = record.version
    if version is None:
        return None
    start = "" if version.started_from is None else f", starting from {version.started_from}"
    detail = f"{version.version_id}{start}"
    return Step(3, "", "done", version.training_duration_seconds, version.trained_at, detail)


def _scoring_steps(record: RunRecord) -> tuple[Step | None, Step | None]:
    version, run = record.version, record.run
    if version is None:
        return None, None
    own = [row for row in record.evaluations if row.model_version_id == version.version_id]
    others = [row for row in record.evaluations if row.model_version_id != version.version_id]
    if not own:
        return None, None
    first = own[0]
    seconds = (first.evaluated_at - version.trained_at).total_seconds()
    naive = first.baseline_metrics.get("overall_score")
    against = "" if naive is None else f", naive {naive:.4f}"
    detail = f"score {first.overall_score:.4f}{against} on {first.num_predictions} forecasts"
    evaluated = Step(4, "", "done", seconds, first.evaluated_at, detail)
    if not others:
        is_over = run.status == "completed"
        why = "nothing could be compared" if run.compared_with else "there was no production version"
        return evaluated, Step(5, "", "skipped", detail=why) if is_over else None
    last = max(row.evaluated_at for row in [*others, *own[1:]])
    production = others[-1]
    detail = f"{production.model_version_id} scores {production.overall_score:.4f} on the same posts"
    return evaluated, Step(5, "", "done", (last - first.evaluated_at).total_seconds(), last, detail)


def _decision(record: RunRecord) -> Step | None:
    run = record.run
    if run.status != "completed" or run.completed_at is None:
        return None
    times = [row.evaluated_at for row in record.evaluations]
    seconds = (run.completed_at - max(times)).total_seconds() if times else None
    detail = "promoted" if run.promoted_to_production else "not promoted"
    return Step(6, "", "done", seconds, run.completed_at, detail)


def _archiving(record: RunRecord) -> Step | None:
    if record.run.status != "completed":
        return None
    if not record.archived:
        return Step(7, "", "skipped", detail="none to archive")
    return Step(7, "", "done", detail=f"archived {', '.join(record.archived)}")
