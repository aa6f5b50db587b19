"""The command that serves the REST API."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrainer.cli.app import SET_UP, app
from retrainer.errors import ConfigError, RetrainerError

if TYPE_CHECKING:
    from retrainer.project import Project


@app.command(rich_help_panel=SET_UP)
def serve(
    context: typer.Context,
    *,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65_535, help="The port; 0 takes a free one.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", readable=False, help="Holds the bearer token; instead of RETRAINER_API_TOKEN."),
    ] = None,
    protect_reads: Annotated[bool, typer.Option("--protect-reads", help="Ask for the token to read, too.")] = False,
) -> None:
    """Serve the REST API.

    What changes something needs the bearer token; without one, only this machine can call.

    Example: retrainer serve --port 8000 --token-file /etc/retrainer/token
    """
    from retrainer.project import Project  # noqa: PLC0415  settings need pydantic and YAML, `--help` does not

    project = Project.find(Path.cwd(), os.environ, context.obj)
    try:
        from retrainer.api.access import access_from  # noqa: PLC0415
        from retrainer.api.app import create_app  # noqa: PLC0415  FastAPI is an extra, and slow to import
        from retrainer.api.server import serve as run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name not in {"fastapi", "uvicorn", "starlette", "prometheus_client"}:
            raise
        raise ConfigError(
            f"`retrainer serve` needs a package that is not installed: '{error.name}'",
            hint="Install it with: pip install 'retrainer[api]'",
        ) from None
    access = access_from(os.environ, token_file, host, protect_reads=protect_reads)
    try:
        _prepare(project)
        run(create_app(project, access), host, port)
    finally:
        project.close()


def _prepare(project: Project) -> None:
    """Open what the requests will need, before there is more than one thread."""
    from retrainer.pipeline.recovery import recover  # noqa: PLC0415

    recover(project)
    try:
        _ = project.posts
    except RetrainerError as error:  # posts of another database: they are needed for forecasts alone
        logging.getLogger(__name__).warning("Serving without posts for now: %s", error)
