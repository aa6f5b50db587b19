"""The command that serves the pages and the REST API."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import retrainer
from retrainer import config, console, notify
from retrainer.errors import ConfigError, RetrainerError, UsageError, invalid_value
from retrainer.registry import liveness
from retrainer.schedule import systemd as units
from retrainer.schedule.command import ScheduledCommand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer import Project

LOG_FILE = Path("logs") / "server.log"
ANSWER_SECONDS = 60
API_PACKAGES = {"anyio", "cachetools", "fastapi", "prometheus_client", "starlette", "uvicorn"}

log = logging.getLogger(__name__)
app = typer.Typer(rich_markup_mode=None)


@app.command()
def serve(
    context: typer.Context,
    *,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65_535, help="The port; 0 picks a free one.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", readable=False, help="The file with the bearer token; replaces RETRAINER_API_TOKEN."
        ),
    ] = None,
    protect_reads: Annotated[
        bool, typer.Option("--protect-reads", help="Require the token for read requests too.")
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also answer requests to this host name; repeatable."),
    ] = None,
    answer_seconds: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="How long an algorithm may take before the client gets a 503."),
    ] = ANSWER_SECONDS,
    systemd: Annotated[
        bool, typer.Option("--systemd", help="Print a systemd unit that keeps this server running, instead of serving.")
    ] = False,
    env_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --systemd: a file of NAME=value lines, such as RETRAINER_API_TOKEN."),
    ] = None,
) -> None:
    """Serve the pages and the REST API.

    Requests that change something need the bearer token. Without a token, only this machine has access. Requests
    without the token must name an allowed host: localhost, a loopback address, api.allowed_hosts or --allowed-host.

    Example: retrainer serve --port 8000 --token-file /etc/retrainer/token
    """
    project = retrainer.Project.find(Path.cwd(), os.environ, context.obj)
    extra_hosts = [_check_host(name) for name in allowed_host or []]
    if env_file is not None and not systemd:
        raise UsageError("--env-file requires --systemd", hint="Load it in the shell: set -a; . FILE; set +a")
    if systemd:
        if token_file is not None and not token_file.is_file():
            raise UsageError(f"--token-file: no file '{token_file}'", hint="Create it and write the token to it")
        arguments = _serve_arguments(host, port, token_file, extra_hosts, answer_seconds, protect_reads=protect_reads)
        command = ScheduledCommand.for_project(project, None, env_file, arguments=arguments, default_log_file=LOG_FILE)
        unit = units.server(command, liveness.current_user()).rstrip("\n")
        console.text(f"# {units.FOLDER}/{units.SERVER}", *unit.split("\n"))
        return
    try:
        from retrainer.api import server  # noqa: PLC0415  FastAPI is an extra
        from retrainer.api.app import create_app  # noqa: PLC0415
        from retrainer.serving import auth, threads  # noqa: PLC0415
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in API_PACKAGES:
            raise
        raise ConfigError(
            f"`retrainer serve` requires a package that is not installed: '{package}'",
            hint="Install it with: pip install 'retrainer[api]'",
        ) from None
    allowed_hosts = [*project.settings.api.allowed_hosts, *extra_hosts]
    access = auth.load_auth(os.environ, token_file, host, protect_reads=protect_reads, allowed_hosts=allowed_hosts)
    try:
        with notify.open_runtime(project, os.environ) as runtime:
            _open_connections(project)
            server.serve(create_app(project, runtime, access, threads.Threads(answer_seconds)), host, port)
    finally:
        project.close()


def _check_host(name: str) -> str:
    try:
        return config.host_name(name)
    except ValueError as error:
        raise UsageError(invalid_value("--allowed-host", name, str(error))) from None


def _serve_arguments(
    host: str,
    port: int,
    token_file: Path | None,
    allowed_hosts: Sequence[str],
    answer_seconds: int,
    *,
    protect_reads: bool,
) -> tuple[str, ...]:
    """Return the command line that serves with these options, with absolute paths."""
    words = ["serve", "--host", host, "--port", str(port)]
    if token_file is not None:
        words += ["--token-file", str(token_file.absolute())]
    if protect_reads:
        words.append("--protect-reads")
    for name in allowed_hosts:
        words += ["--allowed-host", name]
    if answer_seconds != ANSWER_SECONDS:
        words += ["--answer-seconds", str(answer_seconds)]
    return tuple(words)


def _open_connections(project: Project) -> None:
    """Open what the requests need while there is only one thread."""
    _ = project.registry
    try:
        _ = project.posts
    except RetrainerError as error:  # the posts' own database: only forecasts need it
        log.warning("Serving without posts for now: %s", error)
