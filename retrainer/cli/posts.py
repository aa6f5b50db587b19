"""The commands for posts: import, fetch, count, list, show, delete, sample."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from retrainer import console
from retrainer.cli import groups
from retrainer.cli.context import open_project, open_stream
from retrainer.cli.options import AsJson, Limit, StreamOption, stream_option, time_option
from retrainer.posts import columns, conversion, importer, readers, sample
from retrainer.posts.sources import fetching
from retrainer.posts.validation import number
from retrainer.render import documents, imports, tables
from retrainer.render import posts as posts_output

app = typer.Typer(rich_markup_mode=None)
posts_app = typer.Typer(cls=groups.SuggestingGroup, rich_markup_mode=None, help="Import, fetch, list and delete posts.")
app.add_typer(posts_app, name="posts")


@posts_app.command("import")
def posts_import(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", readable=False, help="Files, folders or archives; - is standard input."),
    ],
    *,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=NAME",
            help="Map a column, as in content=message or stream=account, or ignore it, as in post_id=. Repeatable.",
        ),
    ] = None,
    stream: Annotated[str | None, stream_option("The stream of the posts. By default, `default`.")] = None,
    update: Annotated[bool, typer.Option("--update", help="Replace stored posts that differ.")] = False,
    records: Annotated[
        str | None, typer.Option(metavar="PATH", help="Where the posts are in a JSON document, as in data.posts.")
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(metavar="CHARACTER", help="The separator of a CSV file. By default, it is detected.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(metavar="NAME", help="The encoding of a text file. By default, it is detected.")
    ] = None,
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
        readers.ReadOptions(delimiter, encoding, records),
        conversion.ConversionOptions(columns.parse_columns(column or []), time_format, timezone),
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
        list[str] | None, typer.Argument(metavar="SOURCE", help="Only these sources. By default, all.")
    ] = None,
    *,
    full: Annotated[bool, typer.Option("--full", help="Read everything again, to notice edits of any age.")] = False,
    as_json: AsJson = False,
) -> int:
    """Fetch new posts from the sources in posts.sources.

    It continues where the last fetch ended, and updates edited posts. If a source fails, the others are still fetched.

    Example: retrainer posts fetch
    """
    with open_project(context) as (project, _):
        selected = fetching.select_sources(project.settings.posts.sources, sources or [])
        results = fetching.fetch_sources(project.posts, project.registry.database, project.folder, selected, full=full)
    if as_json:
        console.document(documents.project.FetchDocument.from_results(results))
    else:
        console.text(*(result.sentence for result in results))
    return fetching.exit_code(results)


@posts_app.command("count")
def posts_count(context: typer.Context, *, stream: StreamOption = None, as_json: AsJson = False) -> None:
    """Count the posts.

    Example: retrainer posts count
    """
    with open_stream(context, stream) as (project, _):
        summary = project.posts.summary(datetime.now(UTC))
        location = project.posts.location
    if as_json:
        console.document(documents.project.PostsCountDocument.model_validate(summary))
    else:
        tables.show_posts(summary, location)


@posts_app.command("list")
def posts_list(
    context: typer.Context,
    *,
    since: Annotated[datetime | None, time_option("Only posts at this time or later (UTC).", "--from")] = None,
    until: Annotated[datetime | None, time_option("Only posts up to this time (UTC). By default, now.", "--to")] = None,
    limit: Limit = 20,
    stream: StreamOption = None,
    as_json: AsJson = False,
) -> None:
    """List the latest posts, newest last.

    Example: retrainer posts list --from 2024-10-01 --limit 50
    """
    with open_stream(context, stream) as (project, _):
        rows, total = project.posts.list_posts(since, until or datetime.now(UTC), limit)
    if as_json:
        console.document(documents.posts.PostsDocument.from_rows(rows, total))
    else:
        posts_output.show_post_list(rows, total)


@posts_app.command("show")
def posts_show(
    context: typer.Context,
    post_id: Annotated[str, typer.Argument(metavar="ID", help="The post's ID.")],
    *,
    stream: StreamOption = None,
    as_json: AsJson = False,
) -> None:
    """Show one post, and the versions that were trained on it.

    Example: retrainer posts show 115026551
    """
    with open_stream(context, stream) as (project, _):
        post = project.posts.get_post(post_id)
        versions = project.registry.list_versions_trained_on([post])[post.post_id]
    if as_json:
        console.document(documents.posts.ShownPostDocument.from_rows(post, versions))
    else:
        posts_output.show_post(post, versions)


@posts_app.command("delete")
def posts_delete(
    context: typer.Context,
    post_ids: Annotated[list[str], typer.Argument(metavar="ID", help="The posts' IDs.")],
    *,
    stream: StreamOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete posts permanently.

    It lists the versions that were trained on them, and does not change those. Importing a file that still has
    the posts adds them again.

    Example: retrainer posts delete 115026551
    """
    wanted = list(dict.fromkeys(post_ids))
    with open_stream(context, stream) as (project, _):
        project.posts.require_writable("delete posts")
        found = [project.posts.get_post(post_id) for post_id in wanted]
        trained = project.registry.list_versions_trained_on(found)
    if not as_json:
        posts_output.show_trained_on(trained)
    if not yes and not console.confirmed(f"Delete {number(len(wanted), 'post')} permanently?", hint="Add --yes"):
        return
    with open_project(context) as (opened, _):
        opened.posts.for_stream(project.stream).delete(wanted)
    if as_json:
        console.document(documents.posts.DeletedPostsDocument.from_versions(trained))
    else:
        console.text(f"Deleted {number(len(wanted), 'post')}")


@posts_app.command("sample")
def posts_sample(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The CSV file to write.")],
    *,
    count: Annotated[int, typer.Option(metavar="N", min=1, max=1_000_000, help="The number of posts.")] = 400,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="The seed of the random numbers.")] = 20240601,
    working_week: Annotated[
        bool,
        typer.Option("--working-week", help="Posts on working days, at noon and in the evening: easier to predict."),
    ] = False,
    before: Annotated[datetime | None, time_option("Write only posts before this time (UTC).", past=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Write a file of synthetic posts to try things out.

    Example: retrainer posts sample posts.csv
    """
    with console.working():
        posts = sample.sample_posts(seed=seed, count=count, working_week=working_week)
    if before is not None:
        posts = posts[posts["created_at"] < before]
    sample.write_sample_csv(file, posts)
    console.success(f"Wrote {len(posts)} synthetic posts to {file}", as_json=as_json, count=len(posts))
