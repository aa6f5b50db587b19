"""The posts that an SQL query returns, in read-only transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, model_validator

from retrainer.config import Text, VariableName
from retrainer.export_format import CleanUp, PostColumn
from retrainer.posts.sources.hookspecs import Page, SourceType, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrainer.posts.sources.hookspecs import Since


class SqlOptions(BaseModel, extra="forbid", frozen=True, strict=True):
    """The settings of a source of type `sql`.

    Attributes:
        url: of the database; or url_variable, if it holds a password.
        query: one SELECT. Where it has `:since`, that is the last value of the cursor column, and `start` at first.
        columns: column of posts -> column of the result, where their names differ.
        clean_ups: what is done to the texts.
        cursor: the column of the result by which the query sorts and continues.
        start: the first value of `:since`.
    """

    url: Text | None = None
    url_variable: VariableName | None = None
    query: Text
    columns: dict[PostColumn, Text] = {}
    clean_ups: list[CleanUp] = []
    cursor: Text = "created_at"
    start: str | int = "1970-01-01"

    @model_validator(mode="after")
    def _check(self) -> SqlOptions:
        if (self.url is None) == (self.url_variable is None):
            raise ValueError("must have either url or url_variable")
        return self


@hookimpl
def source() -> SourceType:
    return SourceType("sql", "An SQL query", SqlOptions)


@hookimpl
def fetch(config: SqlOptions, since: Since) -> Iterator[Page]:
    """Yield the rows of the query, from the last value of its cursor column on."""
    from retrainer.posts.sources.query import read_pages  # noqa: PLC0415  SQLAlchemy is slow to import

    return read_pages(config, since)
