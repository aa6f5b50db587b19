"""Read a sheet of a workbook."""

from __future__ import annotations

import warnings
import zipfile
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

from retrainer.errors import PostsError, UsageError
from retrainer.posts.readers.limits import MEGABYTE, LimitedFile, quote_names
from retrainer.posts.readers.text import empty_error
from retrainer.posts.records import PostsTable, RejectedRow, Row
from retrainer.posts.validation import quote, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retrainer.posts.readers.options import ReadOptions

_MAX_TITLES = 10  # rows before the header
MAX_MEGABYTES = 256  # of XML; its texts are all in memory


def read(file: LimitedFile, options: ReadOptions) -> PostsTable:
    """Open a workbook. The number of a row is that of the sheet.

    Raises:
        UsageError: there is no sheet of the name in `options.records`.
        PostsError: it is damaged, too large or empty; also while rows are read.
    """
    with _translate_errors(file.name):
        book = _open(file)
        sheet = _choose_sheet(book, file.name, options.records)
        first, header = _find_header(sheet)
    names = ["" if name is None else str(name).strip() for name in header]

    def rows(columns: Sequence[str | None]) -> Iterator[Row]:
        file.rows = 0
        indices = [names.index(name) if name in names else None for name in columns]
        with _translate_errors(file.name):
            for number, values in _rows(sheet):
                file.count_row()
                if number <= first:
                    continue
                if sum(len(value) for value in values if isinstance(value, str)) > file.max_row_bytes:
                    raise file.row_error()
                if len(values) > len(names):
                    yield RejectedRow(number, f"{len(values)} fields where the header has {len(names)}")
                    continue
                yield number, [values[i] if i is not None and i < len(values) else None for i in indices]

    detected = (f"sheet {quote(sheet.title)}",) if len(book.worksheets) > 1 else ()
    return PostsTable(file.name, names, rows, "row", detected)


def _open(file: LimitedFile) -> Any:
    from openpyxl import load_workbook  # noqa: PLC0415  slow, and rarely needed

    with zipfile.ZipFile(file.binary) as archive:
        if sum(info.file_size for info in archive.infolist() if info.filename.endswith((".xml", ".rels"))) > (
            MAX_MEGABYTES * MEGABYTE
        ):
            problem = f"'{file.name}' expands to more than {MAX_MEGABYTES} MB of a workbook"
            raise PostsError(problem, hint="Save it as CSV")
    file.restart()
    warnings.filterwarnings("ignore", module="openpyxl")  # about styles, and cells that are rejected anyway
    return load_workbook(file.binary, read_only=True, data_only=True)


def _choose_sheet(book: Any, name: str, wanted: str | None) -> Any:
    """Return the wanted sheet, else the first with two columns, else the first that is not empty."""
    widths = {sheet: len(_find_header(sheet)[1]) for sheet in book.worksheets}
    filled = [sheet for sheet, width in widths.items() if width]
    if wanted is not None:
        filled = [sheet for sheet in filled if sheet.title == wanted]
        if not filled:
            hint = f"Its sheets are {quote_names(book.sheetnames)}"
            raise UsageError(f"'{name}' has no rows in a sheet {quote(wanted)}", hint=hint)
    if not filled:
        raise empty_error(name)
    return next((sheet for sheet in filled if widths[sheet] > 1), filled[0])


def _find_header(sheet: Any) -> tuple[int, tuple[Any, ...]]:
    """Return the number and the values of the header: the first row that is no title of the sheet or of its parts."""
    rows = list(islice(_rows(sheet), _MAX_TITLES))
    filled = [sum(value is not None for value in values) for _, values in rows]
    return next((row for row, count in zip(rows, filled, strict=True) if 2 * count >= max(filled)), (0, ()))


def _rows(sheet: Any) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield the number and the values of each row that has any, without the empty ones at its end."""
    sheet.reset_dimensions()  # what the file says of its size may be wrong
    for number, values in enumerate(sheet.iter_rows(values_only=True), 1):
        end = len(values)
        while end and values[end - 1] is None:
            end -= 1
        if end:
            yield number, values[:end]


@contextmanager
def _translate_errors(name: str) -> Iterator[None]:
    """Translate what a damaged workbook raises."""
    try:
        yield
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, ParseError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        problem = f"cannot read '{name}' as a workbook: {shorten(str(error), 200)}"
        raise PostsError(problem, hint="Save it again, or as CSV") from error
