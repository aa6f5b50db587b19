"""The only module that prints.

Results go to stdout: tables for people, one JSON document with `--json`. Everything else goes to stderr: log lines,
and on a terminal a spinner with the last of them and the time it has taken.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pydantic import BaseModel
    from rich.console import Console

    from retrainer.errors import RetrainerError
    from retrainer.logs import LogFormat
    from retrainer.model_types.base import Metric

    Document = BaseModel | Mapping[str, Any]

ASIDE = "aside"  # an attribute of a log record that is not to be seen in a pipe, unless with --verbose
FOLDED_WIDTH = 24  # of a table's last column at least
PIPE_WIDTH = 200  # tables in a pipe or a file are not folded to a terminal's width
log = logging.getLogger("retrainer")


def prepare_streams() -> None:
    """Make printing safe: a stream that was closed goes nowhere, and a letter it cannot hold is escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  for the rest of the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def text(line: str = "") -> None:
    """Print one line of a result.

    Raises:
        RetrainerError: it cannot be written, as on a full disk.
    """
    try:
        print(line, flush=True)
    except BrokenPipeError:
        raise  # the reader has enough, which is no error
    except OSError as problem:
        from retrainer.errors import RetrainerError  # noqa: PLC0415

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the rest of it would fail again at exit
        raise RetrainerError(f"cannot write the result: {problem.strerror}") from problem


def document(content: Document | Sequence[Document]) -> None:
    """Print the JSON document of a command."""
    text(json.dumps(content, default=_dump_model, indent=2, ensure_ascii=False, allow_nan=False))


def _dump_model(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json")


def error(problem: RetrainerError | str) -> None:
    """Print an error as one line to stderr and to the log file."""
    record = log.makeRecord(log.name, logging.ERROR, "", 0, str(problem), (), None)
    handlers = [handler for handler in logging.getLogger().handlers if handler.filter(record)]
    for handler in handlers:
        if not isinstance(handler, _StderrHandler):
            handler.handle(record)
        elif handler.writes_json:
            handler.emit(record)
    if not any(isinstance(handler, _StderrHandler) and handler.writes_json for handler in handlers):
        _to_stderr(f"Error: {problem}")


def traceback() -> None:
    """Print the traceback of the exception being handled to stderr."""
    import traceback as library  # noqa: PLC0415

    library.print_exc()


def confirmed(question: str) -> bool:
    """Ask on a terminal.

    Raises:
        UsageError: there is no terminal to ask on.
    """
    from retrainer.errors import UsageError  # noqa: PLC0415

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "nothing was deleted: there is no terminal to ask on", hint="Say --yes, or look with --dry-run"
        )
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def configure_logging(
    level: int, *, tracebacks: bool = False, kind: LogFormat = "text", file: Path | None = None
) -> None:
    """Send log lines of the program and its plugins to stderr from this level on, with or without tracebacks.

    Of libraries, and of plugins whose modules are not called retrainer_…, only warnings are shown.

    Args:
        level: the lowest that goes to stderr.
        tracebacks: whether an error's traceback is shown.
        kind: of the lines.
        file: a file that gets the lines too, from INFO on at least.

    Raises:
        UsageError: the file cannot be written.
    """
    from retrainer import logs  # noqa: PLC0415  `--help` writes no log

    handlers: list[logging.Handler] = [_StderrHandler(tracebacks, kind), logs.RecentLines()]
    handlers[0].setLevel(level)
    if file is not None:
        from retrainer.log_files import file_handler  # noqa: PLC0415  slow to import

        handlers.append(file_handler(file, kind, lambda line: _to_stderr(f"WARNING: {line}")))
    for handler in handlers:
        handler.addFilter(lambda record: record.name.startswith("retrainer") or record.levelno >= logging.WARNING)
        handler.addFilter(logs.add_run_id)
    logging.basicConfig(level=min(level, logging.INFO), handlers=handlers, force=True)


class _StderrHandler(logging.Handler):
    """Writes log lines as a person reads them: the level only where something is wrong."""

    def __init__(self, tracebacks: bool, kind: LogFormat) -> None:
        from retrainer.logs import JsonFormatter, redact  # noqa: PLC0415  as above

        super().__init__()
        self._tracebacks = tracebacks
        self._without_secrets = redact
        self.setFormatter(logging.Formatter("%(message)s"))
        self._json = JsonFormatter(tracebacks=tracebacks) if kind == "json" else None

    @property
    def writes_json(self) -> bool:
        """Whether it writes objects, not lines for a person."""
        return self._json is not None

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, ASIDE, False) and self.level > logging.DEBUG and not sys.stderr.isatty():
            return
        prefix = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
        line = prefix + (self.format(record) if self._tracebacks else record.getMessage())
        if self._json is not None:
            line = self._json.format(record)
        line = self._without_secrets(line)
        if _spinner.console is None:
            _to_stderr(line)
        else:
            _spinner.show(line)


def _to_stderr(line: str) -> None:
    """Print a line to stderr; whoever read it may be gone, which is no reason to stop the work."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


class _Spinner:
    """What is being worked on, on a terminal's last line."""

    def __init__(self) -> None:
        self.console: Console | None = None
        self._progress: Any = None
        self._task: Any = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Spin until the block ends."""
        from rich.console import Console  # noqa: PLC0415  slow to import
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        console = Console(stderr=True, highlight=False)
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as self._progress:
            self._task = self._progress.add_task("Working...", total=None)
            self.console = console
            try:
                yield
            finally:
                self.console = None

    def show(self, line: str) -> None:
        """Print a line above the spinner, and spin on with it."""
        if self.console is not None:
            self.console.print(line, markup=False, soft_wrap=True)
            if line.strip("="):
                self._progress.reset(self._task, description=line.splitlines()[0][:100])

    def tell(self, line: str) -> None:
        """Spin on with another line; its time goes on."""
        if self.console is not None:
            self._progress.update(self._task, description=line)


_spinner = _Spinner()


def progress(line: str) -> None:
    """Show on a terminal how far the work is, on its last line; nothing in a pipe."""
    _spinner.tell(line)


@contextmanager
def working() -> Iterator[None]:
    """Show that work is going on, on a terminal; nothing in a pipe. What a plugin prints meanwhile goes to stderr."""
    with stdout_to_stderr(), _spinner.running() if sys.stderr.isatty() else nullcontext():
        yield


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Keep stdout for the result, also from what writes to the file descriptor itself."""
    try:
        ours = os.dup(1)
    except OSError:  # it was closed before we began
        yield
        return
    sys.stdout.flush()
    try:
        with suppress(OSError):  # stderr may be closed
            os.dup2(2, 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(ours, 1)
        os.close(ours)


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
    cells = [tuple(row) for row in rows]
    widths = [max(len(row[place]) for row in [tuple(columns), *cells]) for place in range(len(columns))]
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    if sum(widths[:-1]) + min(widths[-1], FOLDED_WIDTH) + 2 * len(columns) > console.width:
        _records(columns, cells)
        return
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, (column, widest) in enumerate(zip(columns, widths, strict=True)):
        # Only the last column, of sentences, is folded: a version id must stay whole, to be copied and found.
        whole = place < len(columns) - 1
        drawn.add_column(
            column,
            justify="right" if column in right else "left",
            overflow="fold",
            no_wrap=whole,
            min_width=widest if whole else None,
        )
    for row in cells:
        drawn.add_row(*(Text(cell) for cell in row))
    with console.capture() as captured:
        console.print(drawn)
    text(captured.get())


def _records(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows one below the other, a line a cell, where they are wider than the terminal."""
    margin = max(map(len, columns)) + 2
    for row in rows:
        text("\n".join(f"{column:{margin}}{cell}" for column, cell in zip(columns, row, strict=True) if cell) + "\n")


def metrics_table(title: str, metrics: Sequence[Metric], sides: Mapping[str, Mapping[str, float] | None]) -> None:
    """Print figures side by side, beside the specification's good values.

    Args:
        title: a line above the table.
        metrics: the metrics to show; one that no side has is left out.
        sides: the metrics by heading, such as `new`, `production`, `naive`.
    """
    present = {heading: values for heading, values in sides.items() if values}
    rows = [
        (
            metric.label,
            *(metric.format(values.get(metric.key)) for values in present.values()),
            _good(metric, next(iter(present.values()), {}).get(metric.key)),
        )
        for metric in metrics
        if any(metric.has_value(values.get(metric.key)) for values in present.values())
    ]
    table(["Metric", *present, "Good value"], rows, title=title, right=list(present))


def _good(metric: Metric, value: float | None) -> str:
    if metric.threshold is None or value is None:
        return ""
    sign, bound = metric.threshold
    wanted = f"{sign} {bound:.0%}" if metric.unit == "share" else f"{sign} {bound:g}"
    return f"{wanted} {'✓' if metric.is_good(value) else '✗'}"
