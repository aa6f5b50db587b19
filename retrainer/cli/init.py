"""The command that creates a project folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrainer import console
from retrainer.cli.options import AsJson
from retrainer.project import create_project

app = typer.Typer(rich_markup_mode=None)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The project folder.")] = Path(),
    *,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Also create deploy/: files for cron, systemd, Docker, Render and GitHub.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create a project folder.

    It gets config/config.yaml, data/ and models/. Existing files are left unchanged.

    Example: retrainer init my-project
    """
    made, kept = create_project(folder.absolute(), deploy=deploy)
    lines = [*(f"made {path}" for path in made), *(f"kept {path}" for path in kept)]
    document = {"folder": str(folder.absolute()), "made": list(map(str, made)), "kept": list(map(str, kept))}
    console.result(document, "\n".join(lines), as_json=as_json)
