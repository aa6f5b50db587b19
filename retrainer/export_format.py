"""The declaration of an export: how it is recognised, and which of its values make a post.

The known exports, those in the settings and those of plugins are declared in the same way and checked by this class.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

PostColumn = Literal["post_id", "created_at", "content", "replies_count", "reblogs_count", "favourites_count"]
ImportColumn = Literal[PostColumn, "stream"]
Kind = Literal["service_messages", "reposts", "replies"]
CleanUp = Literal["html", "entities", "mojibake"]

ALTERNATIVE = " | "
JOIN = " + "


def _check_expression(expression: str) -> str:
    for alternative in expression.split(ALTERNATIVE):
        for path in alternative.split(JOIN):
            if not path or path != path.strip() or path in {"|", "+"}:
                raise ValueError("must be paths, with ' | ' between alternatives and ' + ' between parts to join")
    return expression


def _check_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"must be a regular expression: {error}") from error
    return pattern


Expression = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_check_expression)]
Pattern = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_check_pattern)]
Name = Annotated[str, Field(min_length=1, max_length=1000)]


class ExportFormat(BaseModel):
    """The declaration of one kind of export.

    A path is the name of a column, or names and numbers with dots between: `object.content`, `media.0.title`. An
    expression is one or more paths: of `a | b`, the first with a value counts; the values of `a + b` are joined.

    Attributes:
        requires: expressions; the export is recognised by them if each has a path that the records have.
        records: where its records are in a document: any of these paths, '' if they stand alone; anywhere if empty.
        members: glob patterns of the files wanted from an archive or a folder.
        archive_has: glob patterns; `members` counts only if a file of the archive or folder matches one of them.
        columns: column of posts -> expression. Without post_id, ids are made from time and text.
        clean_ups: what is done to the texts.
        kinds: kind -> path -> regular expression; a record is of the kind if the whole of one of the values matches.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    requires: Annotated[list[Expression], Field(min_length=1)]
    records: list[str] = []
    members: list[Name] = []
    archive_has: list[Name] = []
    columns: dict[PostColumn, Expression]
    clean_ups: list[CleanUp] = []
    kinds: dict[Kind, dict[Name, Pattern]] = {}

    @model_validator(mode="after")
    def _has_times(self) -> ExportFormat:
        if "created_at" not in self.columns:
            raise ValueError("columns must include created_at")
        return self
