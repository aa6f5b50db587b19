"""The commands for posts: import, fetch, count, sample."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from retrainer import console
from retrainer.cli.context import open_project
from retrainer.cli.options import AsJson, time_option
from retrainer.posts import columns, conversion, importer, sample
from retrainer.posts.sources import fetching
from retrainer.registry.tables import DEFAULT_STREAM
from retrainer.render import documents, imports, tables

app = typer.Typer(rich_markup_mode=None)
posts_app = typer.Typer(rich_markup_mode=None, help="Import, fetch and count posts.")
app.add_typer(posts_app, name="posts")


@posts_app.command("import")
def posts_import(
    context: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", readable=False, help="CSV, TSV, JSON, JSON Lines or Parquet.")
    ],
    *,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=NAME", help="Map a column, as in content=message. Repeatable."),
    ] = None,
    stream: Annotated[str, typer.Option(metavar="NAME", help="The stream that the posts belong to.")] = DEFAULT_STREAM,
    update: Annotated[bool, typer.Option("--update", help="Replace stored posts that differ.")] = False,
    time_format: Annotated[
        str | None,
        typer.Option(metavar="FORMAT", help="The order of dates, as in DMY, or a format, as in '%d/%m/%Y %H:%M'."),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(metavar="ZONE", help="The zone of times without one, as in Europe/Berlin. By default, UTC."),
    ] = None,
    allow_rejects: Annotated[
        bool, typer.Option("--allow-rejects", help="Import the other rows even if more than 10% are rejected.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse the files if any row is rejected.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import posts from files.

    Posts that exist already are left unchanged, except that missing texts are filled in.

    Example: retrainer posts import posts.csv --column content=message
    """
    options = importer.ImportOptions(
        conversion=conversion.ConversionOptions(columns.parse_columns(column or []), time_format, timezone),
        stream=stream,
        update=update,
        strict=strict,
        allow_rejects=allow_rejects,
    )
    with open_project(context) as (project, _):
        result = importer.import_posts(project.posts, files, options, datetime.now(UTC), progress=console.progress)
    if as_json:
        console.document(documents.project.ImportDocument.from_result(result))
    else:
        imports.show_import(result)


@posts_app.command("fetch")
def posts_fetch(
    context: typer.Context,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="[SOURCE]...", help="Only these sources. By default, all.")
    ] = None,
    *,
    full: Annotated[bool, typer.Option("--full", help="Read everything again, to notice edits of any age.")] = False,
    as_json: AsJson = False,
) -> int:
    """Fetch new posts from the sources in posts.sources.

    A fetch goes on where the last one ended, and updates edited posts. If a source fails, the others are fetched.

    Example: retrainer posts fetch
    """
    with open_project(context) as (project, _):
        selected = fetching.select_sources(project.settings.posts.sources, sources or [])
        now = datetime.now(UTC)
        results = fetching.fetch_sources(
            project.posts, project.registry.database, project.folder, selected, now, full=full
        )
    if as_json:
        console.document(documents.project.FetchDocument.from_results(results))
    else:
        console.text(*(result.sentence for result in results))
    return fetching.exit_code(results)


@posts_app.command("count")
def posts_count(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Count the posts.

    Example: retrainer posts count
    """
    with open_project(context) as (project, _):
        summary = project.posts.summary(datetime.now(UTC))
        location = project.posts.location
    if as_json:
        console.document(documents.project.PostsCountDocument.model_validate(summary))
    else:
        tables.show_posts(summary, location)


@posts_app.command("sample")
def posts_sample(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The CSV file to write.")],
    *,
    count: Annotated[int, typer.Option(metavar="N", min=1, max=1_000_000, help="The number of posts.")] = 400,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="The seed of the random numbers.")] = 20240601,
    before: Annotated[datetime | None, time_option("Write only posts before this time (UTC).", past=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Write a file of synthetic posts to try things out.

    Example: retrainer posts sample posts.csv
    """
    posts = sample.sample_posts(seed=seed, count=count)
    if before is not None:
        posts = posts[posts["created_at"] < before]
    sample.write_sample_csv(file, posts)
    console.success(f"Wrote {len(posts)} synthetic posts to {file}", as_json=as_json, count=len(posts))
