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
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from retrainer.errors import RetrainerError, UsageError
from retrainer.escapes import visible, visible_json, visible_lines
from retrainer.logs import COMMAND_ERROR, IN_WORKER, JsonFormatter, RecentLines, StderrFormatter, apply_log_context
from retrainer.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import TextIO

    from pydantic import BaseModel
    from rich.console import Console
    from rich.progress import Progress
    from rich.text import Text

    from retrainer.logs import LogFormat

    Document = BaseModel | Mapping[str, Any]

TERMINAL_ONLY = "terminal_only"  # an attribute of a log record that stderr shows on a terminal or with --verbose only
MIN_LAST_WIDTH = 24  # of the last column of a table that has columns to leave out
COLUMN_GAP = 2  # between the columns of a table
STYLES = {"good": "green", "bad": "red", "warning": "yellow", "faint": "dim", "bar": "cyan"}
_BLOCKS, _ASCII_BARS = "▁▂▃▄▅▆▇█", ".:#"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
log = logging.getLogger("retrainer")


class Styled(NamedTuple):
    """A text in the colour of its meaning, where there are colours: on a terminal, unless NO_COLOR is set."""

    text: str
    style: Literal["good", "bad", "warning", "faint", "bar"]


def prepare_streams() -> None:
    """Make printing safe: a closed stream is replaced by the null device, an unencodable character is escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  for the rest of the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_terminal() -> bool:
    """Whether results go to a terminal, where they are short; in a pipe or a file they are whole."""
    return sys.stdout.isatty()


def text(*lines: str | Styled) -> None:
    """Print lines of a result.

    Raises:
        RetrainerError: stdout cannot be written, as on a full disk.
    """
    _print("\n".join(_paint(_escape(line), sys.stdout) for line in lines))


def paragraph(sentences: str | Styled, *, indent: int = 0) -> None:
    """Print sentences, wrapped between words on a terminal.

    Args:
        indent: by how many columns the lines after the first are indented.
    """
    if not is_terminal():
        text(sentences if isinstance(sentences, str) else sentences.text)
        return
    console = _rich_console(sys.stdout)
    with console.capture() as captured:
        console.print(_as_rich_text(_escape(sentences)), width=console.width - indent)
    _print(f"\n{' ' * indent}".join(line.rstrip() for line in captured.get().splitlines()))


def _escape(content: str | Styled) -> str | Styled:
    return visible(content) if isinstance(content, str) else content._replace(text=visible(content.text))


def _paint(line: str | Styled, stream: TextIO, *, wrap: bool = False) -> str:
    """Return a line in its colour if the stream is a terminal with colours; perhaps wrapped between words there."""
    if isinstance(line, str) or not stream.isatty():
        return line if isinstance(line, str) else line.text
    console = _rich_console(stream)
    with console.capture() as captured:
        console.print(_as_rich_text(line), soft_wrap=not wrap, end="")
    return captured.get()


def _rich_console(stream: TextIO, width: int | None = None) -> Console:
    """Return a console of rich that interprets no text, and shows no colours if NO_COLOR is set."""
    from rich.console import Console  # noqa: PLC0415  slow to import

    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    return Console(file=stream, width=width, color_system=colours, highlight=False, emoji=False, markup=False)


def bar_characters() -> str:
    """Return what bars are drawn with on stdout, from the lowest to a whole character; nothing in a pipe or a file."""
    if not is_terminal():
        return ""
    try:
        _BLOCKS.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return _ASCII_BARS
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
    dump_model = methodcaller("model_dump", mode="json")
    _print(visible_json(json.dumps(content, default=dump_model, indent=2, ensure_ascii=not is_utf8, allow_nan=False)))


def csv_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table as CSV (RFC 4180, but with LF as the line end): true and false, an empty cell for None.

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
        _to_stderr(Styled(visible(f"Error: {problem}"), "bad"))
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
        if self.level > logging.DEBUG and (
            getattr(record, IN_WORKER, False) or (getattr(record, TERMINAL_ONLY, False) and not sys.stderr.isatty())
        ):
            return
        line = self.format(record)
        if record.levelno < logging.WARNING:
            _spinner.print(line)
            _spinner.start_step(line)
        else:
            _spinner.print(Styled(line, "bad" if record.levelno >= logging.ERROR else "warning"))


def _to_stderr(line: str | Styled) -> None:
    """Print a line to stderr; a closed stderr must not stop the work."""
    with suppress(OSError):
        print(_paint(line, sys.stderr, wrap=True), file=sys.stderr, flush=True)


class _Spinner:
    """The last line of a terminal: what is being done, and for how long."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Spin until the block ends."""
        # Slow to import, and needed on a terminal only.
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        progress = Progress(*columns, console=_rich_console(sys.stderr), transient=True)
        progress.add_task("Working...", total=None)
        progress.start()
        self._progress = progress
        try:
            yield
        finally:
            self._progress = None
            with suppress(OSError):  # as in `print`
                progress.stop()

    def print(self, line: str | Styled) -> None:
        """Print a line, above the spinner where there is one."""
        if self._progress is None:
            _to_stderr(line)
            return
        with suppress(OSError):  # the terminal was closed, which must not stop the work
            self._progress.console.print(_as_rich_text(line))

    def start_step(self, line: str) -> None:
        """Make a log line the description of what is being done; the time starts again."""
        if self._progress is not None and line.strip("="):
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


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Styled]],
    *,
    title: str = "",
    right: Sequence[str] = (),
    optional: Sequence[str] = (),
    cut: bool = False,
) -> None:
    """Print a table. On a terminal it has the terminal's width; in a pipe, a row is a line, however long.

    Args:
        columns: the headings.
        rows: the cells of each row, in the order of the columns.
        title: a line above it.
        right: the columns to align to the right.
        optional: the columns to leave out on a narrow terminal, the first one first.
        cut: whether the last column, of sentences, is cut at a word to fit the terminal; by default, it wraps.
    """
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415  slow to import
    from rich.cells import cell_len  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    if title:
        text(title)
    cells = [[_as_rich_text(_escape(cell)) for cell in row] for row in rows]
    widths = {
        heading: max(map(cell_len, [heading, *(row[index].plain for row in cells)]))
        for index, heading in enumerate(columns)
    }
    whole = sum(widths.values()) + COLUMN_GAP * len(columns)
    console = _rich_console(sys.stdout, None if is_terminal() else whole)
    last, shown = columns[-1], list(columns)
    dropped = iter(optional)
    while True:
        room = console.width - sum(widths[heading] + COLUMN_GAP for heading in shown[:-1])
        if room >= min(widths[last], MIN_LAST_WIDTH) or (heading := next(dropped, None)) is None:
            break
        shown.remove(heading)
    drawn = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for heading in shown:
        # Only the last column wraps: an ID must stay whole, to be copied and searched.
        keep = heading != last and room >= len(last)
        drawn.add_column(
            heading,
            justify="right" if heading in right else "left",
            overflow="fold",
            no_wrap=keep,
            min_width=widths[heading] if keep else None,
        )
    for row in cells:
        by_heading = dict(zip(columns, row, strict=True))
        if cut:
            _cut_at_word(by_heading[last], max(room, len(last)))
        drawn.add_row(*(by_heading[heading] for heading in shown))
    with console.capture() as captured:
        console.print(drawn)
    _print("\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n")


def _as_rich_text(content: str | Styled) -> Text:
    from rich.text import Text  # noqa: PLC0415  slow to import

    content, style = (content, "") if isinstance(content, str) else (content.text, STYLES[content.style])
    return Text(content, style)


def _cut_at_word(sentence: Text, width: int) -> None:
    """Cut a sentence that is wider at the last word that fits, and mark it."""
    if sentence.cell_len <= width:
        return
    sentence.truncate(width - 1)
    start = sentence.plain.rpartition(" ")[0].rstrip(" ,;:.(") or sentence.plain
    sentence.plain = f"{start}…"
