"""The commands that set a project up: its folder, its posts, its database."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from retrainer import console
from retrainer.cli.app import (
    SET_UP,
    AsJson,
    PanelGroup,
    app,
    open_project,
    parse_past_time,
    say,
)
from retrainer.render import tables

posts_app = typer.Typer(cls=PanelGroup, rich_markup_mode=None, help="Import and count posts.")
db_app = typer.Typer(cls=PanelGroup, rich_markup_mode=None, help="Look after the database.")
app.add_typer(posts_app, name="posts", rich_help_panel=SET_UP)
app.add_typer(db_app, name="db", rich_help_panel=SET_UP)


@app.command(rich_help_panel=SET_UP)
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The project folder; this one by default.")] = Path(),
    *,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Also deploy/: files for cron, systemd, Docker, Render and GitHub.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Lay out a project folder.

    It gets config/config.yaml, data/ and models/. What is there already is kept.

    Example: retrainer init my-project
    """
    from retrainer.project import create_project  # noqa: PLC0415

    made, kept = create_project(folder.absolute(), deploy=deploy)
    lines = [*(f"made {path}" for path in made), *(f"kept {path}" for path in kept)]
    document = {"folder": str(folder.absolute()), "made": list(map(str, made)), "kept": list(map(str, kept))}
    say(document, "\n".join(lines), as_json=as_json)


@posts_app.command("import")
def posts_import(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", readable=False, help="CSV, TSV, JSON, JSON Lines or Parquet.")
    ],
    *,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="OURS=THEIRS", help="Which column holds what: content=message."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse the file if any row is rejected.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import posts from a file; posts that are there already are left as they are.

    Example: retrainer posts import posts.csv --column content=message
    """
    with open_project(context) as project:
        from retrainer.posts.importer import import_posts, parse_columns  # noqa: PLC0415

        result = import_posts(project.posts, file, parse_columns(column or []), datetime.now(UTC), strict=strict)
    if as_json:
        from retrainer.render.documents.posts import Import  # noqa: PLC0415

        console.document(Import.from_result(result))
    else:
        tables.imported(result)


@posts_app.command("count")
def posts_count(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Count the posts.

    Example: retrainer posts count
    """
    with open_project(context) as project:
        summary = project.posts.summary(datetime.now(UTC))
        place = project.posts.location
    if as_json:
        from retrainer.render.documents.posts import PostsCount  # noqa: PLC0415

        console.document(PostsCount.model_validate(summary))
    else:
        tables.posts(summary, place)


@posts_app.command("sample")
def posts_sample(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The CSV file to write.")],
    *,
    count: Annotated[int, typer.Option(metavar="N", min=1, max=1_000_000, help="How many posts.")] = 400,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Another seed gives another stream.")] = 20240601,
    before: Annotated[str | None, typer.Option(metavar="TIME", help="Write only the posts before then (UTC).")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a file of synthetic posts, made up from a seed, to try things on.

    Example: retrainer posts sample posts.csv
    """
    from retrainer.posts.sample import sample_posts, write_sample_csv  # noqa: PLC0415

    posts = sample_posts(seed=seed, count=count)
    if before is not None:
        posts = posts[posts["created_at"] < parse_past_time("--before", before)]
    write_sample_csv(file, posts)
    message = f"Wrote {len(posts)} synthetic posts to {file}"
    say({"status": "success", "message": message, "count": len(posts)}, message, as_json=as_json)


@db_app.command("upgrade")
def db_upgrade(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Bring the database to the newest schema; every command does so by itself on first use.

    Example: retrainer db upgrade
    """
    from retrainer.registry.migrations import HEAD  # noqa: PLC0415

    with open_project(context) as project:
        place = project.registry.database.location  # opening it upgrades it
    say(
        {"database": place.strip("'"), "revision": HEAD},
        f"The database {place} has the newest schema, {HEAD}",
        as_json=as_json,
    )


@app.command("notify-test", rich_help_panel=SET_UP)
def notify_test(context: typer.Context, *, as_json: AsJson = False) -> int:
    """Send a test message to all that the settings name under notifications.

    Exits with 1 if one of them does not take it.

    Example: retrainer notify-test
    """
    from retrainer.notify.notifier import Notifier  # noqa: PLC0415

    with open_project(context, recovering=False) as project:
        results = Notifier(project.settings.notifications, os.environ, project.folder.name).test()
    lines = [f"{name}: {problem or 'sent'}" for name, problem in results.items()]
    rows = [{"to": name, "problem": problem} for name, problem in results.items()]
    say({"notifications": rows}, "\n".join(lines) or "Nobody is named under notifications", as_json=as_json)
    return int(any(results.values()))
