"""The command that lists streams."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, cast

import typer

from retrainer import console, overview
from retrainer.cli.context import open_project
from retrainer.cli.options import AsJson, StreamsOption, TypeOption, choice
from retrainer.render import documents
from retrainer.render import streams as streams_text

SHOWN_STREAMS = 20
_SORT_KEYS = ("name", "posts", "newest", "score", "skill", "failure")

app = typer.Typer(rich_markup_mode=None)


@app.command()
def streams(
    context: typer.Context,
    *,
    stream: StreamsOption = None,
    model_type: TypeOption = None,
    due: Annotated[bool, typer.Option("--due", help="Only models that are due.")] = False,
    held: Annotated[bool, typer.Option("--held", help="Only models whose automatic promotion is on hold.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Only models whose latest run failed.")] = False,
    not_live: Annotated[
        bool, typer.Option("--not-live", help="Only models that are retrained but have no version in production.")
    ] = False,
    sort: Annotated[
        str,
        typer.Option(
            metavar="KEY",
            parser=choice(*_SORT_KEYS),
            help=f"Sort by {', '.join(_SORT_KEYS[:-1])} or {_SORT_KEYS[-1]}: the most posts, the newest, the latest "
            "failure, or the lowest score or skill first.",
        ),
    ] = "name",
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=1_000_000, help="The maximum number to show. By default, 20; with --json, all."
        ),
    ] = None,
    page: Annotated[int, typer.Option(metavar="N", min=1, max=1_000_000, help="The page to show.")] = 1,
    as_json: AsJson = False,
) -> None:
    """List streams: posts, production versions, what is due or failed.

    A score is that of the latest evaluation; skill compares it with the naive forecast.

    Example: retrainer streams --type timing --sort skill
    """
    only = overview.OverviewFilter(model_type, due=due, held=held, failed=failed, not_live=not_live)
    size = limit or (None if as_json else SHOWN_STREAMS)
    with open_project(context) as (project, _):
        found, total = overview.list_streams(
            project,
            datetime.now(UTC),
            project.select_streams(stream),
            only,
            sort=cast("overview.SortKey", sort),
            limit=size,
            offset=(page - 1) * (size or 0),
        )
        live = [model.live.version_id for one in found for model in one.models if model.live is not None]
        short_ids = {} if as_json else project.registry.short_ids(live)
    if as_json:
        console.document(documents.streams.StreamsDocument.from_overviews(found, total))
    else:
        streams_text.show_streams(found, total, short_ids)
