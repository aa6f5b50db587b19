"""The command line of a process: it runs a command and turns an error into one line and an exit code."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, NoReturn

from typer import BadParameter
from typer.exceptions import Abort, TyperException

from retrainer import console
from retrainer.cli.app import app
from retrainer.errors import RetrainerError, UsageError, invalid_value, wrap_unexpected
from retrainer.redaction import hide_environment
from retrainer.signals import interrupt_on

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

INTERRUPTED = 130
COMPLETION_VARIABLE = "_RETRAINER_COMPLETE"
THREAD_SECONDS = 3.0  # how long the program waits at its end for threads that a plugin left running
GARBAGE_OBJECTS = 10_000  # new ones between two collections; with Python's 700, long lists take a fifth longer
GLOBAL_FLAGS = ("--traceback", "--verbose", "--quiet")
GLOBAL_OPTIONS = ("--config", "--log-format", "--log-file")  # each with a value


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # all like Ctrl-C, so that a run is closed
    interrupt_on(*(number for number in ends if signal.getsignal(number) is not signal.SIG_IGN))  # as under nohup
    gc.set_threshold(GARBAGE_OBJECTS, 10, 10)
    console.prepare_streams()
    hide_environment(os.environ)
    code = run(sys.argv[1:])
    console.flush()
    if _running_threads():
        threading.Thread(target=_exit_despite_threads, args=(code,), daemon=True).start()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    arguments = list(arguments) or ["--help"]
    try:
        code = app(args=_move_global_options_first(arguments), prog_name="retrainer", standalone_mode=False)
    except RetrainerError as error:
        return _report_error(error, arguments)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        hint = f"`{context.command_path if context else 'retrainer'} --help` shows its options"
        return _report_error(UsageError(_describe(error).rstrip("."), hint=hint), arguments)
    except (KeyboardInterrupt, Abort):  # outside of a command, or at a prompt
        code = INTERRUPTED
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        console.discard(sys.stdout)  # of a help page whose reader has enough (`| head`), where Typer exits with 1
        return 0
    except BaseException as error:  # noqa: BLE001  any exception is reported as one line
        if COMPLETION_VARIABLE in os.environ:  # Typer trusts what the shell passes
            problem = f"{COMPLETION_VARIABLE} is set, but not what a shell passes for completion"
            return _report_error(UsageError(problem, hint="Unset it"), arguments)
        return _report_error(wrap_unexpected(error), arguments)
    if code == INTERRUPTED:  # Typer turns an interrupt in a command into this code
        console.error("interrupted")
    return code if isinstance(code, int) else 0


def _describe(error: TyperException) -> str:
    """Return what is wrong with a command line, with the value, which Typer's own messages leave out."""
    if not isinstance(error, BadParameter) or error.param is None or not error.message:  # empty: an option is missing
        return error.format_message()
    option = error.param.opts[0]
    if error.__cause__ is not None:
        from pydantic import ValidationError  # noqa: PLC0415  slow to import

        if isinstance(error.__cause__, ValidationError):
            first = error.__cause__.errors()[0]
            return invalid_value(option, first["input"], first["msg"])
    return f"{option}: {error.message}"


def _report_error(error: RetrainerError, arguments: list[str]) -> int:
    """Print the error being handled and return its exit code."""
    if "--traceback" in arguments:
        console.print_traceback()
    console.error(error, as_json="--json" in arguments)
    return error.exit_code


def _move_global_options_first(arguments: list[str]) -> list[str]:
    """Let the global options follow the command too, and `--json` precede it, where Typer would not accept them."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    first: list[str] = []
    rest: list[str] = []
    last: list[str] = []
    words = iter(arguments[:end])
    for word in words:
        if word in GLOBAL_OPTIONS:
            value = list(itertools.islice(words, 1))
            if not value:
                return [word]  # alone: before a command, it would take that as its value
            first += [word, *value]
        elif word in GLOBAL_FLAGS or word.partition("=")[0] in GLOBAL_OPTIONS:
            first.append(word)
        else:
            (last if word == "--json" else rest).append(word)
    return [*first, *rest, *last, *arguments[end:]]


def _running_threads() -> list[threading.Thread]:
    """Return the threads that Python would wait for at exit, such as those that a plugin left running."""
    return [thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon]


def _exit_despite_threads(code: int) -> None:
    """Exit although threads are still running: under cron, hanging processes would pile up.

    Runs in a thread of its own while Python exits as usual, which ends the idle threads of a pool.
    """
    deadline = time.monotonic() + THREAD_SECONDS
    for thread in _running_threads():
        thread.join(max(deadline - time.monotonic(), 0))
    names = ", ".join(f"'{thread.name}'" for thread in _running_threads())
    if names:
        log.warning("Exiting although threads are still running: %s", names)
        os._exit(code)
