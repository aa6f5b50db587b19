"""Rollback by evidence: return to the version before when live posts prove production worse than it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from retrainer.model_types import ModelTypeName
    from retrainer.registry.promotions import Change

ROLLBACK_THRESHOLD = 100  # of an e-value, level .01; several streams together go by their false-rollback rate


@dataclass(frozen=True)
class Review:
    """What the live posts say about a production version, and what was done.

    Attributes:
        outcome: `kept`; `rollback`: the version before is in production again; `degraded`: production is proved worse,
            but it was not rolled back.
        reason: why, one sentence with the figures; None if there is no evidence against production.
        evidence: the figures behind the reason, as in the ledger.
        change: the rollback; None if there was none, or it was only asked for what would happen.
        is_new: whether it is the first review that found production degraded for this reason.
    """

    model_type: ModelTypeName
    outcome: Literal["kept", "rollback", "degraded"]
    reason: str | None
    evidence: dict[str, Any]
    change: Change | None = None
    is_new: bool = False
