"""The command line: its global options and its commands, each imported when it is called."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import LazyLoader
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand
from typer.main import get_group

from retrainer import __version__, console
from retrainer.cli.groups import SuggestingGroup
from retrainer.cli.options import choice
from retrainer.signals import deferred_interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


class _Command(NamedTuple):
    """Where a command is defined, and its line in the help of the program: the first line of its own help."""

    module: str
    panel: str
    help: str


RETRAIN = "Retraining"
LIVE = "Live posts"
REPLAY = "Replay"
TUNING = "Tuning"
INSPECT = "Inspection"
CONTROL = "Automatic promotion"
MAINTAIN = "Version maintenance"
SET_UP = "Setup"

COMMANDS = {
    "train": _Command("train", RETRAIN, "Train a new version and promote it if it is better."),
    "evaluate": _Command("evaluate", RETRAIN, "Score a version on posts later than its training data."),
    "promote": _Command("versions", RETRAIN, "Promote a version to production."),
    "rollback": _Command("versions", RETRAIN, "Undo the latest promotion of a model type."),
    "compare": _Command("evaluate", RETRAIN, "Score two versions on the same posts."),
    "history": _Command("show", RETRAIN, "Show training runs and what was decided about each."),
    "live": _Command("live", LIVE, "Show how production does on new posts."),
    "ab": _Command("ab", LIVE, "Compare a version with production on new posts."),
    "replay": _Command("replay", REPLAY, "Test the retraining policy, and others, on past posts."),
    "tune": _Command("tune", TUNING, "Tune the options of an algorithm, and train with the best ones."),
    "status": _Command("project", INSPECT, "Show the state of the project, and what needs attention."),
    "streams": _Command("streams", INSPECT, "List streams: posts, production versions, what is due or failed."),
    "production": _Command("show", INSPECT, "Show the production versions, now or at a past time."),
    "versions": _Command("show", INSPECT, "List versions, newest first."),
    "show": _Command("show", INSPECT, "Show one version: training, scores, decisions."),
    "explain": _Command("explain", INSPECT, "Measure what the forecasts of a version depend on."),
    "predict": _Command("predict", INSPECT, "Forecast the next post, or the next days, with the production version."),
    "report": _Command("report", INSPECT, "Write the pages of `serve` as one HTML file."),
    "plugins": _Command("plugins", INSPECT, "List installed algorithms, observers and types of sources, or write one."),
    "hold": _Command("versions", CONTROL, "Stop automatic promotion of a model type."),
    "release": _Command("versions", CONTROL, "Resume automatic promotion of a model type."),
    "pin": _Command("versions", MAINTAIN, "Protect a version from being archived."),
    "unpin": _Command("versions", MAINTAIN, "Allow a pinned version to be archived again."),
    "restore": _Command("versions", MAINTAIN, "Restore an archived version."),
    "prune": _Command("versions", MAINTAIN, "Delete the files of archived versions permanently."),
    "doctor": _Command("project", MAINTAIN, "Check every run, version, file and link."),
    "backup": _Command("backup", MAINTAIN, "Write a backup of the project to one file."),
    "restore-backup": _Command("backup", MAINTAIN, "Restore a backup to the database and the models folder."),
    "export": _Command("transfer", MAINTAIN, "Write a version to one file, which `retrainer import` reads."),
    "import": _Command("transfer", MAINTAIN, "Add a version that `retrainer export` wrote."),
    "init": _Command("project", SET_UP, "Create a project folder."),
    "notify-test": _Command("project", SET_UP, "Send a test message to every notification channel."),
    "serve": _Command("serve", SET_UP, "Serve the pages and the REST API."),
    "posts": _Command("posts", SET_UP, "Import, fetch, list and delete posts."),
    "config": _Command("config", SET_UP, "Show, check and change the settings."),
    "db": _Command("project", SET_UP, "Manage the database."),
    "schedule": _Command("schedule", SET_UP, "Schedule retraining with cron or systemd."),
}


class _LazyFinder:
    """Finds the program's modules like Python does, and has them loaded when one of their attributes is first read."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return how to load a module."""
        spec = PathFinder.find_spec(name, path, target) if name.startswith("retrainer.") else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = LazyLoader(_WholeLoader(spec.loader.name, spec.loader.path))
        return spec


class _WholeLoader(SourceFileLoader):
    """Loads a module whole: a module that was loaded late and is interrupted would stay there in part.

    Python drops what is raised then, as it loads the module to look at its `__spec__`.
    """

    def exec_module(self, module: ModuleType) -> None:
        """Load a module."""
        with deferred_interrupts():
            super().exec_module(module)


@contextmanager
def _lazy_imports() -> Iterator[None]:
    """Import modules without loading them: a command's help needs only its signature, `history` needs no numpy.

    Such loading is not safe in threads, but only the command holds these modules, and it runs in the main thread.
    """
    sys.meta_path.insert(0, _LazyFinder)
    try:
        yield
    finally:
        sys.meta_path.remove(_LazyFinder)


class LazyGroup(SuggestingGroup):
    """Lists `COMMANDS` under the headings of their panels, and imports a command's module when it is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {
            name: TyperCommand(name, help=command.help, rich_help_panel=command.panel)
            for name, command in COMMANDS.items()
        }
        if os.environ.get("_RETRAINER_COMPLETE") == "complete_bash":
            from retrainer.cli.bash_completion import use_bash_completion  # noqa: PLC0415  needed by the shell only

            use_bash_completion()

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Load the command that the arguments start with; those of the help and of shell completion stay as listed."""
        name, _, rest = super().resolve_command(ctx, args)
        if name is None:
            return None, None, rest
        with _lazy_imports():
            module = import_module(f"retrainer.cli.{COMMANDS[name].module}")
            return name, get_group(module.app).commands[name], rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  the signature of its base class
        """Write one section a panel, as Typer does by means of rich, but without importing it."""
        for panel in dict.fromkeys(command.panel for command in COMMANDS.values()):
            with formatter.section(panel):
                formatter.write_dl(
                    [
                        (name, self.commands[name].get_short_help_str(limit=formatter.width - 18))
                        for name, command in COMMANDS.items()
                        if command.panel == panel
                    ]
                )


app = typer.Typer(
    cls=LazyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.text(f"retrainer {__version__}")
        raise typer.Exit


@app.callback()
def global_options(
    context: typer.Context,
    *,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The settings file. By default, searched for from this folder upward."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more to stderr.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log only warnings and errors to stderr.")] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show the traceback of an error.")] = False,
    log_format: Annotated[
        str,
        typer.Option(
            "--log-format", metavar="text|json", parser=choice("text", "json"), help="Log as text or as JSON objects."
        ),
    ] = "text",
    log_file: Annotated[
        Path | None,
        typer.Option("--log-file", metavar="FILE", help="Also append log lines to this file, rotated at 5 MiB."),
    ] = None,
    version: Annotated[  # noqa: ARG001  handled by its callback
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Keep prediction models up to date: train, compare, promote, roll back."""
    if log_file is not None:
        from retrainer.project import require_foreign  # noqa: PLC0415  slow to import, and most commands need it not

        require_foreign("--log-file", log_file, config)
    console.configure_logging(
        logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO,
        tracebacks=traceback,
        log_format="json" if log_format == "json" else "text",
        file=log_file,
    )
    context.obj = config
