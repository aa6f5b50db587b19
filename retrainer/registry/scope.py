"""The streams that a registry is about."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sqlalchemy import ARRAY, Text, any_, func, literal, select, true

from retrainer.streams import DEFAULT_STREAM, ModelKey

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.database import Database
    from retrainer.registry.live_tables import ABTest, LiveComparison
    from retrainer.registry.tables import Hold, LedgerEntry, ModelVersion, TrainingRun


class Scope:
    """The part of the registry that knows its streams: one for what concerns a model, any number for lists.

    Attributes:
        database: the open database.
        streams: the names of the streams; None for all.
    """

    database: Database
    streams: tuple[str, ...] | None

    @property
    def stream(self) -> str:
        """The only stream.

        Raises:
            ValueError: there are several; a model is of one.
        """
        if self.streams is None or len(self.streams) != 1:
            raise ValueError(f"a registry of one stream is needed, not of {self.streams or 'all'}")
        return self.streams[0]

    @property
    def id_digits(self) -> int:
        """How many random digits an id ends in: many streams may be trained in the same second."""
        return 4 if self.stream == DEFAULT_STREAM else 8

    def key(self, model_type: ModelTypeName) -> ModelKey:
        return ModelKey(self.stream, model_type)

    def is_within(
        self, table: type[ModelVersion | TrainingRun | LedgerEntry | Hold | LiveComparison | ABTest]
    ) -> ColumnElement[bool]:
        """Return the condition that a row is of one of the streams."""
        if self.streams is None:
            return true()
        if len(self.streams) == 1:
            return table.stream == self.streams[0]
        # One parameter: a statement may have some 30,000 at most.
        if self.database.engine.dialect.name == "sqlite":
            names = func.json_each(json.dumps(self.streams)).table_valued("value")
            return table.stream.in_(select(names.c.value))
        return table.stream == any_(literal(list(self.streams), ARRAY(Text)))
