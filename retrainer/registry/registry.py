"""Every question to the database about versions, and every change of state as one transaction.

`now` is the moment that a change counts from; the clock is read only for heartbeats and for `recorded_at`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.registry.promotions import Promotions
from retrainer.registry.runs import Runs
from retrainer.registry.versions import Versions

if TYPE_CHECKING:
    from retrainer.registry.database import Database


class Registry(Versions, Runs, Promotions):
    """What is remembered, in three parts: versions, runs, and what is live."""

    def __init__(self, database: Database) -> None:
        self.database = database
