"""The posts that an HTTP endpoint returns as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, model_validator

from retrainer.config import Text, VariableName
from retrainer.errors import SourceError
from retrainer.export_format import ALTERNATIVE, CleanUp, ExportFormat, Expression, PostColumn
from retrainer.posts.records import find_value
from retrainer.posts.sources.hookspecs import SourceType, hookimpl
from retrainer.posts.sources.secrets import read_secret
from retrainer.posts.sources.walk import Listing, parse_time, walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from retrainer.posts.sources.hookspecs import Page, Since
    from retrainer.posts.sources.http import HttpClient


class JsonOptions(BaseModel, extra="forbid", frozen=True, strict=True):
    """The settings of a source of type `json`.

    Attributes:
        url: of the endpoint; or url_variable, if the URL is a secret.
        records: the dotted path of the array of posts in the answer; empty if the answer is the array.
        columns: column of posts -> dotted path in a post.
        clean_ups: what is done to the texts.
        headers: of every request.
        secret_headers: name of a header -> environment variable with its value.
        next: the dotted path in the answer of the next page: a URL, or the value of `cursor_param`. By default the
            header Link names the next page, if there is one.
        cursor_param: the parameter of the query that names the page.
    """

    url: Text | None = None
    url_variable: VariableName | None = None
    records: str = ""
    columns: dict[PostColumn, Expression]
    clean_ups: list[CleanUp] = []
    headers: dict[Text, str] = {}
    secret_headers: dict[Text, VariableName] = {}
    next: Text | None = None
    cursor_param: Text | None = None

    @model_validator(mode="after")
    def _check(self) -> JsonOptions:
        if (self.url is None) == (self.url_variable is None):
            raise ValueError("must have either url or url_variable")
        if "created_at" not in self.columns:
            raise ValueError("columns must include created_at")
        if self.cursor_param is not None and self.next is None:
            raise ValueError("cursor_param needs next")
        return self


@hookimpl
def source() -> SourceType:
    return SourceType("json", "An HTTP endpoint that returns JSON", JsonOptions)


@hookimpl
def fetch(config: JsonOptions, since: Since, http: HttpClient) -> Iterator[Page]:
    """Yield the posts of the endpoint, page by page."""
    url = config.url or read_secret(config.url_variable or "")
    headers = {**config.headers, **{name: read_secret(variable) for name, variable in config.secret_headers.items()}}
    export = ExportFormat(requires=[config.columns["created_at"]], columns=config.columns, clean_ups=config.clean_ups)

    validators: dict[str, str] = dict(since.state.get("validators", {}))

    def read(cursor: str | None) -> Listing | None:
        is_top = cursor is None
        params = {config.cursor_param: cursor} if config.cursor_param and cursor else None
        target = url if is_top or config.cursor_param else str(cursor)
        known = validators if is_top else None
        response = http.get(target, params=params, headers=headers, headers_for=url, validators=known)
        if response.is_unmodified:
            return None
        if is_top:
            validators.clear()
            validators.update(response.validators)
        document = response.json()
        records = find_value(document, config.records)
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            where = f"at '{config.records}'" if config.records else "at the top level"
            raise SourceError(
                f"the endpoint did not return a list of posts {where}", hint="Check `records` of the source"
            )
        following = find_value(document, config.next) if config.next is not None else response.linked_next
        next_cursor = str(following) if records and isinstance(following, str | int) and following else None
        if next_cursor is not None and config.cursor_param is None:
            next_cursor = response.page_url(next_cursor)
        times = [_time(record, config.columns["created_at"]) for record in records]
        return Listing(records, times, next_cursor, {"validators": dict(validators)}, export)

    yield from walk(since, read)


def _time(record: dict[str, Any], expression: str) -> datetime | None:
    """Return the time of a post; None where only its whole column could say."""
    return next(filter(None, (parse_time(find_value(record, path)) for path in expression.split(ALTERNATIVE))), None)
