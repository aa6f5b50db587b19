"""The documents of studies."""

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from retrainer.model_types import ModelTypeName
from retrainer.render.documents.base import Document, RunId, StreamName, Timestamp
from retrainer.render.documents.runs import ScoredRunDocument, run_from_result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retrainer.config import Key
    from retrainer.tuning.results import StudyReport, StudySummary, TuningResult


class TrialDocument(Document):
    """One trial: an algorithm with options, scored on the folds."""

    number: int = Field(examples=[17])
    state: Literal["waiting", "running", "complete", "pruned", "failed", "lost"] = Field(
        examples=["complete"],
        description="`lost`: its process was interrupted; it does not count, and was tried once more.",
    )
    algorithm: str | None = Field(examples=["prophet"])
    options: dict[str, Any] = Field(examples=[{"weeks": 52, "trend": True}])
    params: dict[str, Any] = Field(examples=[{"prophet.weeks": 52, "prophet.trend": True}])
    value: float | None = Field(examples=[0.4417], description="The mean of the metric over the folds.")
    standard_error: float | None = Field(examples=[0.0121], description="Of the mean over the folds.")
    fold_values: list[float] = Field(examples=[[0.4302, 0.4651, 0.4298]])
    cost_usd: float = Field(examples=[0.0])
    seconds: float | None = Field(examples=[2.4])
    is_default: bool = Field(examples=[False], description="Whether these are the configured options.")
    error: str | None = Field(examples=[None], description="Why it failed.")


class GainDocument(Document):
    """How much better the winner is than the configured options on the same posts; positive is better."""

    value: float = Field(examples=[0.0148], description="The difference of the metric.")
    interval: list[float] = Field(examples=[[-0.0102, 0.0395]], description="95%, by a paired bootstrap of the posts.")
    probability_better: float = Field(examples=[0.88])
    score_a: float = Field(examples=[0.4102], description="The metric of the configured options.")
    score_b: float = Field(examples=[0.425], description="The metric of the winner.")
    num_predictions: int = Field(examples=[46])


class OutcomeDocument(Document):
    """How a study ended."""

    winner: int | None = Field(examples=[17], description="Null if no trial is better than the configured options.")
    gain_on_folds: float | None = Field(
        examples=[0.0287], description="On the folds. The winner was chosen by them, so this overestimates the gain."
    )
    held_back: GainDocument | None = Field(description="On the held-back fold, which took no part in the choice.")
    kept: bool = Field(examples=[True], description="Whether the winner is better there too, and was trained.")
    reason: str = Field(examples=["It is better on the held-back fold"])
    run_id: RunId | None
    promoted: bool = Field(examples=[True])


class StudyAlgorithmDocument(Document):
    """An algorithm of a study."""

    name: str = Field(examples=["prophet"])
    version: str = Field(examples=["0.1.0"])


class FoldDocument(Document):
    """A fold of the training posts."""

    training_samples: int = Field(examples=[149], description="The posts before it, from which it is forecast.")
    num_posts: int = Field(examples=[37])


class StudyDocument(Document):
    """A study."""

    name: str = Field(examples=["default_timing_20251106_120000_a3f2"])
    stream: StreamName
    model_type: ModelTypeName
    created_at: Timestamp
    finished: bool = Field(examples=[True])
    metric: Literal["overall_score", "crps"]
    seed: int = Field(examples=[0])
    algorithms: list[StudyAlgorithmDocument]
    num_training_samples: int = Field(examples=[298])
    folds: list[FoldDocument]
    held_back: FoldDocument
    num_trials: int = Field(examples=[30], description="Those that count: complete, pruned and failed.")
    trials_by_state: dict[str, int] = Field(examples=[{"complete": 22, "pruned": 7, "failed": 1}])
    default: TrialDocument | None = Field(description="Trial 0, the configured options.")
    best: TrialDocument | None
    outcome: OutcomeDocument | None = Field(description="Null while the study is unfinished.")

    @classmethod
    def from_summary(cls, summary: "StudySummary") -> Self:
        plan = summary.plan

        def fold(start: int, end: int) -> FoldDocument:
            return FoldDocument(training_samples=start, num_posts=end - start)

        return cls.build(
            summary,
            stream=plan.stream,
            finished=summary.outcome is not None,
            metric=plan.metric,
            seed=plan.seed,
            algorithms=[StudyAlgorithmDocument(name=one.name, version=one.version) for one in plan.algorithms],
            num_training_samples=plan.training_count,
            folds=[fold(bounds.start, bounds.end) for bounds in plan.folds],
            held_back=fold(plan.held_back.start, plan.held_back.end),
            num_trials=summary.finished_trials,
            trials_by_state={state: count for state, count in summary.counts.items() if count},
        )


class StudyReportDocument(Document):
    """A study with its trials."""

    study: StudyDocument
    trials: list[TrialDocument]
    importances: dict[str, float] = Field(
        examples=[{"prophet.weeks": 0.81, "prophet.trend": 0.19}], description="Of the parameters, by Optuna."
    )
    pareto: list[int] = Field(
        examples=[[]], description="The Pareto set, if cost is an objective: no other trial is both better and cheaper."
    )

    @classmethod
    def from_report(cls, report: "StudyReport", **more: object) -> Self:
        study = StudyDocument.from_summary(report.summary)
        fields = {"importances": report.importances, "pareto": list(report.pareto), **more}
        return cls.model_validate({"study": study, "trials": list(map(_trial, report.trials)), **fields})


class TuningDocument(StudyReportDocument):
    """What `tune` did."""

    interrupted: bool = Field(examples=[False], description="Whether it is unfinished; the next call resumes it.")
    resumed_trials: int = Field(examples=[0], description="The trials that were done before this call.")
    training_run: ScoredRunDocument | None = Field(description="The run that trained the winner.")
    settings: dict[str, Any] | None = Field(
        examples=[{"timing_model.prophet.weeks": 52}],
        description="The keys of the settings file by which `train` goes on with the winner; null without one.",
    )
    applied: bool = Field(examples=[False], description="Whether they were written to the settings file.")

    @classmethod
    def from_result(cls, result: "TuningResult", changes: "Mapping[Key, Any] | None", *, applied: bool) -> Self:
        """Build the document.

        Args:
            changes: the keys of the settings file to change; None without a winner that was kept.
            applied: whether they were written.
        """
        return cls.from_report(
            result.report,
            interrupted=result.interrupted,
            resumed_trials=result.resumed,
            training_run=None if result.run is None else run_from_result(result.run),
            settings=None if changes is None else {".".join(key): value for key, value in changes.items()},
            applied=applied,
        )


class StudiesDocument(Document):
    """The studies, newest first, and one of them with its trials."""

    studies: list[StudyDocument]
    count: int = Field(examples=[1])
    shown: StudyReportDocument | None = Field(description="The study chosen by `--study`, or else the newest one.")

    @classmethod
    def from_reports(cls, summaries: "Sequence[StudySummary]", shown: "StudyReport | None") -> Self:
        studies = [StudyDocument.from_summary(summary) for summary in summaries]
        report = None if shown is None else StudyReportDocument.from_report(shown)
        return cls(studies=studies, count=len(studies), shown=report)


def _trial(trial: object) -> TrialDocument:
    return TrialDocument.model_validate(trial)
