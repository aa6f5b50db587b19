"""The documents of A/B tests."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field

from retrainer.model_types import ModelTypeName
from retrainer.registry.ledger import TestOutcome
from retrainer.render.documents.base import PREVIOUS_VERSION_ID, Document, StreamName, Timestamp, VersionId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.live.ab_tests import ABTestState


class ErrorReductionDocument(Document):
    """By how much the challenger's error is smaller, as a share of production's: 0.1 is 10% smaller, -0.1 is larger."""

    low: float | None = Field(examples=[0.04], description="Null if it may be below -0.6.")
    high: float | None = Field(examples=[0.17], description="Null if it may be above 0.6.")
    estimate: float | None = Field(examples=[0.1], description="Null without posts.")


class ABTestCostsDocument(Document):
    """What the paid forecasts of a test have cost, in US dollars."""

    production: float = Field(examples=[0.0])
    challenger: float = Field(examples=[0.0])


class ABTestDocument(Document):
    """An A/B test, and what it has found so far."""

    test_id: str = Field(examples=["ab_timing_20251106_121000_5c1e"])
    stream: StreamName
    model_type: ModelTypeName
    version_id: VersionId = Field(examples=[PREVIOUS_VERSION_ID], description="Production at the start.")
    challenger_id: VersionId
    status: Literal["running", "ended"]
    started_at: Timestamp
    actor: str = Field(examples=["ada@server"])
    share: float = Field(examples=[20.0], description="The percentage of subjects that the challenger answers.")
    max_posts: int = Field(examples=[2000], description="After how many live posts the test ends undecided.")
    level: float = Field(examples=[0.05], description="The maximum probability of a wrong decision.")
    max_cost: float | None = Field(
        examples=[None], description="The maximum cost of each side's paid forecasts, in US dollars."
    )
    cost_usd: ABTestCostsDocument | None = Field(description="Null if no side is paid.")
    num_posts: int = Field(examples=[212], description="The number of live posts on which both sides were scored.")
    score: float | None = Field(examples=[0.6312], description="The overall score of production on them.")
    challenger_score: float | None = Field(examples=[0.6721])
    interval: ErrorReductionDocument
    evidence_for_challenger: float = Field(examples=[11.6], description="Decides at `threshold`.")
    evidence_for_production: float = Field(examples=[0.04])
    threshold: float = Field(examples=[40.0], description="2 / level.")
    sentence: str = Field(
        examples=[
            "So far the challenger's error is 4% to 17% smaller (estimate 10%); this holds however often you look."
        ]
    )
    problem: str | None = Field(
        examples=[None], description="Why new posts are not scored, or the challenger is not promoted."
    )
    ended_at: Timestamp | None = Field(examples=[None])
    outcome: TestOutcome | None = Field(
        examples=[None],
        description="`promotion` and `rollback`: these ended it. `stopped`: ended without a decision.",
    )
    reason: str | None = Field(examples=[None], description="Why it ended.")

    @classmethod
    def from_state(cls, state: "ABTestState") -> Self:
        names = ("num_posts", "score", "challenger_score", "interval", "evidence_for_challenger")
        more = ("evidence_for_production", "threshold", "cost_usd", "sentence", "problem")
        return cls.build(state.test, **{name: getattr(state, name) for name in (*names, *more)})


class ABTestsDocument(Document):
    """The running A/B test of each model type or, if none is running, its last one."""

    tests: list[ABTestDocument]
    count: Annotated[int, Field(examples=[1])]

    @classmethod
    def from_states(cls, states: "Sequence[ABTestState]") -> Self:
        return cls(tests=[ABTestDocument.from_state(state) for state in states], count=len(states))
