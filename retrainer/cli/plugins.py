"""The command that lists the installed plugins."""

from __future__ import annotations

import typer

from retrainer import console
from retrainer.algorithms.events import list_observers
from retrainer.algorithms.manager import list_algorithms
from retrainer.cli.options import AsJson
from retrainer.render import documents

app = typer.Typer(rich_markup_mode=None)


@app.command()
def plugins(*, as_json: AsJson = False) -> None:
    """List installed algorithms and observers as JSON.

    Broken ones are listed too, with the reason.

    Example: retrainer plugins
    """
    del as_json  # always JSON: short, complete, and drawn without a slow import
    with console.stdout_to_stderr():  # a plugin may print when it is imported
        found = [*list_algorithms(), *list_observers()]
    console.document([documents.project.PluginDocument.from_status(plugin) for plugin in found])
