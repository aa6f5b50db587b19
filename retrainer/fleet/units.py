"""What is handed to the workers of a fleet and what they hand back: small values, never posts or models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from retrainer.errors import DatabaseError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from retrainer.errors import RetrainerError
    from retrainer.model_types import ModelTypeName

OutcomeKind = Literal["promoted", "not_promoted", "failed", "skipped", "reviewed"]


class Unit(NamedTuple):
    """One run to make; the live scores of the model are brought up to date before it.

    Attributes:
        last_run_id: the last completed run of the model when the unit was selected; if there is a later one by the
            time a worker starts the unit, another process made it, and the unit is skipped.
        last_run_at: the time that this run counts from.
        is_retry: whether its worker was lost before. The run of that worker may still count as in progress for a
            while, if it was on another machine.
        started_at: the time by the clock of the fleet; None for that of the worker.
        only_reviews: whether only the live scores are brought up to date, since the model is not due or is disabled.
    """

    stream: str
    model_type: ModelTypeName
    last_run_id: str | None = None
    last_run_at: datetime | None = None
    is_retry: bool = False
    started_at: datetime | None = None
    only_reviews: bool = False


@dataclass(frozen=True)
class WorkerSpec:
    """What all units of a fleet share.

    Attributes:
        config_file: the settings file of the project, absolute, by which a worker opens it.
        algorithm: overrides the configured algorithm.
        auto_promote: overrides `retraining.auto_promote`.
        as_of: the past time that the runs are for; None for now.
        budget_id: the budget of the fleet's paid calls; None without one.
        settings: for workers that may be on another machine, the settings without secrets, as YAML.
    """

    config_file: Path
    algorithm: str | None = None
    auto_promote: bool | None = None
    as_of: datetime | None = None
    budget_id: str | None = None
    settings: str | None = None


@dataclass(frozen=True)
class UnitError:
    """Why a unit failed: the attributes of a `RetrainerError`."""

    code: str
    message: str
    hint: str
    exit_code: int

    @classmethod
    def of(cls, error: RetrainerError) -> UnitError:
        """Return what is reported of an error."""
        return cls(error.code, error.message, error.hint, error.exit_code)

    def __str__(self) -> str:
        end = "" if self.message.endswith((".", "?", "!")) else "."
        return f"{self.message}{end} {self.hint}" if self.hint else self.message


@dataclass(frozen=True)
class Outcome:
    """What came of a unit; one that only reviews comes to nothing, `reviewed`, which is not reported.

    Attributes:
        run_id: the recorded run; None if there was none.
        version_id: the version that it trained, if any.
        score, skill: of that version.
        reason: why it was promoted or not, or why the unit was skipped.
        needs_attention: whether somebody should look at it although the run completed.
        error: why it failed.
        stale: how it is known that posts have stopped arriving, if that is noticed for the first time.
    """

    stream: str
    model_type: ModelTypeName
    kind: OutcomeKind
    run_id: str | None = None
    version_id: str | None = None
    algorithm: str | None = None
    score: float | None = None
    skill: float | None = None
    seconds: float | None = None
    cost_usd: float | None = None
    reason: str | None = None
    needs_attention: bool = False
    error: UnitError | None = None
    stale: str | None = None

    @property
    def must_end_worker(self) -> bool:
        """Whether its run may not be closed, so that the process of the worker has to end, which closes it."""
        return self.error is not None and self.error.code == DatabaseError.code
