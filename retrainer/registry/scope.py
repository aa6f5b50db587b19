"""The streams that a registry is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import true

from retrainer.streams import ModelKey

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.database import Database
    from retrainer.registry.tables import LedgerEntry, ModelVersion, TrainingRun


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

    def key(self, model_type: ModelTypeName) -> ModelKey:
        """Return the key of the model of a type."""
        return ModelKey(self.stream, model_type)

    def is_within(self, table: type[ModelVersion | TrainingRun | LedgerEntry]) -> ColumnElement[bool]:
        """Return the condition that a row is of one of the streams."""
        if self.streams is None:
            return true()
        return table.stream == self.streams[0] if len(self.streams) == 1 else table.stream.in_(self.streams)
