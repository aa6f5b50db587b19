"""What the commands share: the application, its groups, their options, and how a project is opened."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from retrainer import __version__, console
from retrainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrainer.console import Document
    from retrainer.notify import Attempt
    from retrainer.project import Project

SIX = "The six commands"
TRY = "Try a policy on the past"
LOOK = "See what there is"
STEER = "Steer automatic promotion"
KEEP = "Keep the versions"
SET_UP = "Set up"

NONE_PROMOTED = 10
NONE_DUE = 11


class PanelGroup(TyperGroup):
    """Lists commands under the headings of their panels, as Typer does by means of rich, but without importing it."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section a panel, in the order in which the panels first appear."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panel = getattr(command, "rich_help_panel", None)
                heading = panel if isinstance(panel, str) else "Commands"
                panels.setdefault(heading, []).append((name, command.get_short_help_str(limit=formatter.width - 18)))
        for heading, rows in panels.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


app = typer.Typer(
    cls=PanelGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
TypeArgument = Annotated[str, typer.Argument(metavar="TYPE", help="timing or content.")]
TypeOption = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Only timing or only content.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why, for the record.")]
Limit = Annotated[int, typer.Option(metavar="N", min=1, max=1_000_000, help="How many at most.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="A version id, as `versions` lists them.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        console.text(f"retrainer {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    *,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The settings file; otherwise found from this folder upward."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Say more on stderr.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say only what is wrong on stderr.")] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show the traceback of an error.")] = False,
    log_format: Annotated[
        str, typer.Option("--log-format", metavar="text|json", help="Log lines for people, or JSON objects.")
    ] = "text",
    log_file: Annotated[
        Path | None,
        typer.Option("--log-file", metavar="FILE", help="Append the log lines to this file too; kept to 5 MiB."),
    ] = None,
    version: Annotated[  # noqa: ARG001  its callback does it
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Keep a prediction model fresh: train, evaluate honestly, promote safely, roll back."""
    if log_format not in {"text", "json"}:
        raise UsageError(f"--log-format: '{log_format}' is none", hint="It is text or json")
    console.configure_logging(
        logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO,
        tracebacks=traceback,
        kind="json" if log_format == "json" else "text",
        file=log_file,
    )
    context.obj = config


@contextmanager
def open_project(
    context: typer.Context, *, recovering: bool = True, attempt: Attempt | None = None
) -> Iterator[Project]:
    """Find the project, put right what a dead process left, and give its connections back at the end.

    Args:
        attempt: a call of `train` that is told of from its start to its end.
    """
    from retrainer.notify import observing  # noqa: PLC0415
    from retrainer.project import Project  # noqa: PLC0415  settings need pydantic and YAML, `--help` does not

    project = Project.find(Path.cwd(), os.environ, context.obj)
    try:
        with console.working(), observing(project, os.environ, attempt):
            if recovering:
                from retrainer.pipeline.recovery import recover  # noqa: PLC0415

                recover(project)
            yield project
    finally:
        project.close()


def moment(option: str, text: str) -> datetime:
    """Parse a moment: ISO-8601, UTC where it names no zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option}: '{text}' is not a time", hint="Write it like 2024-10-31T12:00:00Z") from None
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise UsageError(f"{option}: '{text}' is beyond the times that there are") from None


def parse_past_time(option: str, text: str) -> datetime:
    """Parse a past moment, as `moment` does."""
    parsed = moment(option, text)
    if parsed > datetime.now(UTC):
        raise UsageError(f"{option}: '{text}' lies in the future", hint="Name a past moment")
    return parsed


def say(document: Document, message: str, *, as_json: bool) -> None:
    if as_json:
        console.document(document)
    else:
        console.text(message)
