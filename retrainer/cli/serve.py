"""The command that serves the REST API."""

from __future__ import annotations

import getpass
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrainer import console
from retrainer.cli.app import SET_UP, app
from retrainer.errors import ConfigError, RetrainerError, UsageError

if TYPE_CHECKING:
    from retrainer.project import Project
    from retrainer.runtime import Runtime

LOG_FILE = Path("logs") / "server.log"
ANSWER_SECONDS = 60


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
    answer_seconds: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="How long an algorithm may take to answer before the caller gets a 503."),
    ] = ANSWER_SECONDS,
    systemd: Annotated[
        bool, typer.Option("--systemd", help="Print a systemd unit that keeps this server running, instead of serving.")
    ] = False,
    env_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --systemd: a file of NAME=value lines, such as RETRAINER_API_TOKEN."),
    ] = None,
) -> None:
    """Serve the REST API.

    What changes something needs the bearer token; without one, only this machine can call.

    Example: retrainer serve --port 8000 --token-file /etc/retrainer/token
    """
    from retrainer.project import Project  # noqa: PLC0415  settings need pydantic and YAML, `--help` does not

    project = Project.find(Path.cwd(), os.environ, context.obj)
    if env_file is not None and not systemd:
        raise UsageError("--env-file is for --systemd", hint="Read it by the shell: set -a; . FILE; set +a")
    if systemd:
        if token_file is not None and not token_file.is_file():
            raise UsageError(f"--token-file: there is no file '{token_file}'", hint="Make it, with the token in it")
        console.text(
            _unit(project, _arguments(host, port, token_file, answer_seconds, protect_reads=protect_reads), env_file)
        )
        return
    try:
        from retrainer.api.app import create_app  # noqa: PLC0415  FastAPI is an extra, and slow to import
        from retrainer.api.auth import load_auth  # noqa: PLC0415
        from retrainer.api.server import serve as run  # noqa: PLC0415
        from retrainer.api.threads import Work  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name not in {"fastapi", "uvicorn", "starlette", "prometheus_client"}:
            raise
        raise ConfigError(
            f"`retrainer serve` needs a package that is not installed: '{error.name}'",
            hint="Install it with: pip install 'retrainer[api]'",
        ) from None
    from retrainer.notify import open_runtime  # noqa: PLC0415

    access = load_auth(os.environ, token_file, host, protect_reads=protect_reads)
    try:
        with open_runtime(project, os.environ) as runtime:
            _prepare(project, runtime)
            work = Work(answer_seconds)
            run(create_app(project, runtime, access, work), work, host, port)
    finally:
        project.close()


def _arguments(
    host: str, port: int, token_file: Path | None, answer_seconds: int, *, protect_reads: bool
) -> tuple[str, ...]:
    """Return the command that serves as asked, with absolute paths."""
    words = ["serve", "--host", host, "--port", str(port)]
    if token_file is not None:
        words += ["--token-file", str(token_file.absolute())]
    if protect_reads:
        words.append("--protect-reads")
    if answer_seconds != ANSWER_SECONDS:
        words += ["--answer-seconds", str(answer_seconds)]
    return tuple(words)


def _unit(project: Project, arguments: tuple[str, ...], env_file: Path | None) -> str:
    from retrainer.schedule import systemd  # noqa: PLC0415
    from retrainer.schedule.command import ScheduledCommand  # noqa: PLC0415

    command = ScheduledCommand.of(project, None, env_file, arguments=arguments, usual_log=LOG_FILE)
    return f"# {systemd.FOLDER}/{systemd.SERVER}\n{systemd.server(command, getpass.getuser())}".rstrip("\n")


def _prepare(project: Project, runtime: Runtime) -> None:
    """Open what the requests will need, before there is more than one thread."""
    from retrainer.pipeline.recovery import recover  # noqa: PLC0415

    recover(project, runtime)
    try:
        _ = project.posts
    except RetrainerError as error:  # posts of another database: they are needed for forecasts alone
        logging.getLogger(__name__).warning("Serving without posts for now: %s", error)
