"""The commands for posts: import, fetch, count, sample."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from retrainer import console
from retrainer.cli.context import open_project
from retrainer.cli.options import AsJson, time_option
from retrainer.posts import importer, sample
from retrainer.posts.sources import fetching
from retrainer.render import documents, tables

app = typer.Typer(rich_markup_mode=None)
posts_app = typer.Typer(rich_markup_mode=None, help="Import, fetch and count posts.")
app.add_typer(posts_app, name="posts")


@posts_app.command("import")
def posts_import(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", readable=False, help="CSV, TSV, JSON, JSON Lines or Parquet.")
    ],
    *,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=NAME", help="Map a column, as in content=message. Repeatable."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse the file if any row is rejected.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import posts from a file.

    Posts that exist already are left unchanged.

    Example: retrainer posts import posts.csv --column content=message
    """
    with open_project(context) as (project, _):
        columns = importer.parse_columns(column or [])
        result = importer.import_posts(project.posts, file, columns, datetime.now(UTC), strict=strict)
    if as_json:
        console.document(documents.project.ImportDocument.from_result(result))
    else:
        tables.show_import(result)


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

    A fetch goes on where the last one ended, and updates posts that were edited since. A source that fails does not keep
    the others from being fetched.

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
