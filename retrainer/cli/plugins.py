"""The commands about plugins: the list of those installed, and a new one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrainer import console
from retrainer.algorithms import events, manager, scaffold
from retrainer.cli import groups
from retrainer.cli.options import AsJson
from retrainer.posts.sources import manager as sources
from retrainer.render import documents, tables

app = typer.Typer(rich_markup_mode=None)
plugins_app = typer.Typer(cls=groups.SuggestingGroup, rich_markup_mode=None, invoke_without_command=True)
app.add_typer(plugins_app, name="plugins")


@plugins_app.callback()
def plugins(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List installed algorithms, observers and types of sources, or write one.

    Broken ones are listed too, with the reason.

    Example: retrainer plugins
    """
    if context.invoked_subcommand is not None:
        return
    with console.working():  # a plugin may print when it is imported
        found = [*manager.list_algorithms(), *events.list_observers()]
        types = sources.list_types()
    document = documents.project.PluginDocument
    rows = [*map(document.from_status, found), *map(document.from_source_type, types)]
    if as_json:
        console.document(rows)
    else:
        tables.show_plugins(rows)


@plugins_app.command("new")
def plugins_new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the algorithm, such as last_gap.")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The folder to create. By default, retrainer-NAME here.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Write the package of a new timing algorithm, with tests.

    It works as it is; change it as you like.

    Example: retrainer plugins new last_gap
    """
    folder = folder or Path(f"retrainer-{name.replace('_', '-')}")
    written = scaffold.write_plugin(name, folder)
    lines = [
        *(f"Wrote {path}" for path in written),
        f"Install it with `pip install --editable {folder} pytest`, test it with `python -m pytest {folder}`,",
        f"and train with it: `retrainer train timing --algorithm {name}`",
    ]
    document = {"name": name, "folder": str(folder), "files": [str(path) for path in written]}
    console.result(document, *lines, as_json=as_json)
