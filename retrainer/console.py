"""The only module that prints.

Results go to stdout: tables for people, one JSON document with `--json`. Everything else goes to stderr: log lines,
and on a terminal a spinner that shows the last of them and the time elapsed.

Whatever is printed for people passes through `visible`, so that no text from outside controls the terminal.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import logging
import os
import sys
import traceback
import warnings
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer.errors import RetrainerError, UsageError
from retrainer.escapes import visible, visible_json, visible_lines
from retrainer.logs import COMMAND_ERROR, JsonFormatter, RecentLines, StderrFormatter, apply_log_context
from retrainer.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import TextIO

    from pydantic import BaseModel
    from rich.progress import Progress

    from retrainer.logs import LogFormat

    Document = BaseModel | Mapping[str, Any]

TERMINAL_ONLY = "terminal_only"  # an attribute of a log record that stderr shows on a terminal or with --verbose only
MIN_WRAPPED_WIDTH = 24  # of the last column of a table
PIPE_WIDTH = 200  # of a table in a pipe or a file, which has no terminal's width
_BLOCKS = "▁▂▃▄▅▆▇█"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

log = logging.getLogger("retrainer")


def prepare_streams() -> None:
    """Make printing safe: a closed stream is replaced by the null device, an unencodable character is escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  for the rest of the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def text(*lines: str) -> None:
    """Print lines of a result.

    Raises:
        RetrainerError: stdout cannot be written, as on a full disk.
    """
    _print("\n".join(map(visible, lines)))


def bar_characters() -> str:
    """Return what bars are drawn with on stdout, from 1/8 to a whole character; nothing in a pipe or a file.

    A terminal whose encoding has no blocks gets whole characters only.
    """
    if not sys.stdout.isatty():
        return ""
    try:
        _BLOCKS.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return "#"
    return _BLOCKS


def _print(output: str) -> None:
    try:
        print(output, flush=True)
    except OSError as problem:
        discard(sys.stdout)  # or the unwritten rest would fail again at exit
        if not isinstance(problem, BrokenPipeError):  # its reader has enough (`| head`), which is not an error
            raise RetrainerError(f"cannot write the result: {problem.strerror}") from problem


def discard(stream: TextIO) -> None:
    """Send the rest of stdout or stderr to the null device."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def flush() -> None:
    """Write what is buffered; what cannot be written is dropped, or Python would exit with a code of its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            discard(stream)


def document(content: Document | Sequence[Document]) -> None:
    """Print the JSON document of a command."""
    is_utf8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"
    _print(visible_json(json.dumps(content, default=_dump_model, indent=2, ensure_ascii=not is_utf8, allow_nan=False)))


def _dump_model(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json")


def csv_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table as CSV, as RFC 4180 has it but for line feeds alone: true and false, an empty cell for None.

    A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(map(_csv_cell, row) for row in rows)
    _print(lines.getvalue().removesuffix("\n"))


def _csv_cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = visible(value)
        return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
    return value


def result(content: Document, *lines: str, as_json: bool) -> None:
    """Print the result of a command: a JSON document, or lines for people."""
    if as_json:
        document(content)
    else:
        text(*lines)


def success(message: str, *, as_json: bool, **fields: Any) -> None:
    """Print a message of success; with `--json` as a document, with further fields."""
    result({"status": "success", "message": message, **fields}, message, as_json=as_json)


def error(problem: RetrainerError | str, *, as_json: bool = False) -> None:
    """Log an error as one line, and with `--json` also print it to stdout as a document."""
    if any(isinstance(handler, _StderrHandler) for handler in logging.getLogger().handlers):
        log.error("%s", problem, extra={COMMAND_ERROR: True})
    else:  # an error in the options, before logging was configured
        _to_stderr(visible(f"Error: {problem}"))
    if as_json:
        with suppress(RetrainerError):  # stdout cannot be written: the line above says what failed first
            document((problem if isinstance(problem, RetrainerError) else RetrainerError(problem)).document())


def print_traceback() -> None:
    """Print the traceback of the exception being handled to stderr."""
    _to_stderr(visible_lines(redact(traceback.format_exc().rstrip())))


def confirmed(question: str, *, hint: str = "Add --yes or --dry-run") -> bool:
    """Ask for confirmation on the terminal.

    Args:
        question: the question.
        hint: what to do without a terminal.

    Raises:
        UsageError: there is no terminal.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("nothing was deleted: no terminal to ask for confirmation", hint=hint)
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def configure_logging(
    level: int, *, tracebacks: bool = False, log_format: LogFormat = "text", file: Path | None = None
) -> None:
    """Log to stderr from a level on, and to a file from INFO on at least.

    Libraries, and plugins whose modules are not named retrainer_…, are logged from WARNING on.

    Args:
        level: the lowest level for stderr.
        tracebacks: whether stderr shows the tracebacks of errors.
        log_format: the format of the lines, on stderr and in the file.
        file: the log file.

    Raises:
        UsageError: the file cannot be written.
    """
    formatter = JsonFormatter if log_format == "json" else StderrFormatter
    handlers: list[logging.Handler] = [_StderrHandler(level), RecentLines()]
    handlers[0].setFormatter(formatter(tracebacks=tracebacks))
    if file is not None:
        from retrainer.log_files import file_handler  # noqa: PLC0415  slow to import, and most commands write no file

        handlers.append(file_handler(file, log_format, lambda line: _to_stderr(visible(f"WARNING: {line}"))))
    for handler in handlers:
        handler.addFilter(lambda record: record.name.startswith("retrainer") or record.levelno >= logging.WARNING)
        handler.addFilter(apply_log_context)
    logging.basicConfig(level=min(level, logging.INFO), handlers=handlers, force=True)
    warnings.showwarning = _log_warning  # type: ignore[assignment]


def _log_warning(message: Warning | str, category: type[Warning], *_position: object) -> None:
    """Log a warning of a library, which Python would print as it is."""
    log.warning("%s: %s", category.__name__, message)


class _StderrHandler(logging.Handler):
    """Writes log lines to stderr, above the spinner where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, TERMINAL_ONLY, False) and self.level > logging.DEBUG and not sys.stderr.isatty():
            return
        _spinner.print(self.format(record))


def _to_stderr(line: str) -> None:
    """Print a line to stderr; a closed stderr must not stop the work."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


class _Spinner:
    """The last line of a terminal: what is being done, and for how long."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Spin until the block ends."""
        from rich.console import Console  # noqa: PLC0415  slow to import, and needed on a terminal only
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        console = Console(stderr=True, highlight=False, emoji=False, markup=False)
        progress = Progress(*columns, console=console, transient=True)
        progress.add_task("Working...", total=None)
        progress.start()
        self._progress = progress
        try:
            yield
        finally:
            self._progress = None
            with suppress(OSError):  # as in `print`
                progress.stop()

    def print(self, line: str) -> None:
        """Print a line above the spinner and make it the description of what is being done."""
        if self._progress is None:
            _to_stderr(line)
            return
        with suppress(OSError):  # the terminal was closed, which must not stop the work
            self._progress.console.print(line, soft_wrap=True)
        if line.strip("="):
            self._progress.reset(self._progress.task_ids[0], description=line.splitlines()[0][:100])

    def describe(self, line: str) -> None:
        """Change the description; the time continues."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], description=visible(line))


_spinner = _Spinner()


def progress(line: str) -> None:
    """Show the progress of the work on the last line of a terminal; show nothing in a pipe."""
    _spinner.describe(line)


@contextmanager
def working() -> Iterator[None]:
    """Show a spinner on a terminal while a block runs, and send what plugins print to stderr."""
    with stdout_to_stderr(), _spinner.running() if sys.stderr.isatty() else nullcontext():
        yield


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send stdout to stderr while a block runs, also what is written to the file descriptor itself."""
    try:
        saved = os.dup(1)
    except OSError:  # closed before the program started
        yield
        return
    sys.stdout.flush()
    try:
        with suppress(OSError):  # stderr may be closed
            os.dup2(2, 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", right: Sequence[str] = ()) -> None:
    """Print a table of plain cells.

    Args:
        columns: the headings.
        rows: the cells of each row, in the order of the columns.
        title: a line above it.
        right: the columns to align to the right.
    """
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415  slow to import
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    if title:
        text(title)
    cells = [tuple(map(visible, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    if sum(widths[:-1]) + min(widths[-1], MIN_WRAPPED_WIDTH) + 2 * len(columns) > console.width:
        _print_vertically(columns, cells)
        return
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, (column, width) in enumerate(zip(columns, widths, strict=True)):
        # Only the last column, of sentences, wraps: a version ID must stay whole, to be copied and searched.
        is_last = index == len(columns) - 1
        drawn.add_column(
            column,
            justify="right" if column in right else "left",
            overflow="fold",
            no_wrap=not is_last,
            min_width=None if is_last else width,
        )
    for row in cells:
        drawn.add_row(*map(Text, row))
    with console.capture() as captured:
        console.print(drawn)
    _print(captured.get())


def _print_vertically(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print each cell on a line of its own, where a table would be wider than the terminal."""
    margin = max(map(len, columns)) + 2
    for row in rows:
        text(*(f"{column:{margin}}{cell}" for column, cell in zip(columns, row, strict=True) if cell), "")
