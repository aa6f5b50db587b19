"""The program's entry: runs a command and turns what went wrong into one line and an exit code."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, NoReturn

from typer.exceptions import Abort, TyperException

from retrainer import console
from retrainer.errors import RetrainerError, UsageError, wrap_unexpected

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = logging.getLogger(__name__)

INTERRUPTED = 130
PATIENCE_SECONDS = 3.0  # with threads that do not end, as a plugin may leave them
GLOBAL_FLAGS = ("--traceback", "--verbose", "--quiet")
GLOBAL_OPTIONS = ("--log-format", "--log-file")  # each with a value


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    for name in (signal.SIGTERM, signal.SIGHUP):  # asked to stop, or left alone: a run is closed as with Ctrl-C
        if signal.getsignal(name) is not signal.SIG_IGN:  # as under nohup
            signal.signal(name, signal.default_int_handler)
    console.prepare_streams()
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _handle_closed_stdout()
    if any(_lingering_threads()):
        threading.Thread(target=_end_in_spite_of_strays, args=(code,), name="end of the program", daemon=True).start()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    try:
        return _run(list(arguments) or ["--help"])
    except BrokenPipeError:
        return _handle_closed_stdout()


def _run(given: list[str]) -> int:
    try:
        from retrainer.cli import app  # noqa: PLC0415  an error in it is shown like any other

        result = app(args=_hoist_global_options(given), prog_name="retrainer", standalone_mode=False)
    except RetrainerError as error:
        return _report_error(error, given)
    except TyperException as error:
        hint = "`retrainer --help` shows the commands and their options"
        return _report_error(UsageError(error.format_message().rstrip("."), hint=hint), given)
    except (KeyboardInterrupt, Abort):  # outside of a command, or at a prompt
        console.error("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, a user gets one line
        return _report_error(wrap_unexpected(error), given)
    if result == INTERRUPTED:  # Typer has caught the interrupt and made it this code
        console.error("interrupted")
    return result if isinstance(result, int) else 0


def _report_error(error: RetrainerError, given: list[str]) -> int:
    """Print an error while it is being handled; return its exit code."""
    if "--traceback" in given:
        console.traceback()
    console.error(error)
    if "--json" in given:
        from retrainer.render.documents.errors import Failure  # noqa: PLC0415

        console.document(Failure.from_error(error))
    return error.exit_code


def _hoist_global_options(arguments: list[str]) -> list[str]:
    """Let the options that belong to every command stand behind the command too."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    first: list[str] = []
    rest: list[str] = []
    words = iter(arguments[:end])
    for word in words:
        if word in GLOBAL_OPTIONS:
            first += [word, *itertools.islice(words, 1)]
        elif word in GLOBAL_FLAGS or word.partition("=")[0] in GLOBAL_OPTIONS:
            first.append(word)
        else:
            rest.append(word)
    return [*first, *rest, *arguments[end:]]


def _lingering_threads() -> Iterator[threading.Thread]:
    """Give the threads for which Python would wait when the program is done, as a plugin may have left them."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            yield thread


def _end_in_spite_of_strays(code: int) -> None:
    """End the process if threads keep it from ending: under cron, one a day would pile up.

    Runs beside the exit, which goes its usual way and may let them end, as the idle ones of a pool.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    for thread in _lingering_threads():
        thread.join(max(deadline - time.monotonic(), 0))
    names = ", ".join(f"'{thread.name}'" for thread in _lingering_threads())
    if names:
        log.warning("All is done; ended with threads that did not end by themselves: %s", names)
        os._exit(code)


def _handle_closed_stdout() -> int:
    """Whoever read our output (`| head`) has enough; keep Python from complaining about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    main()
