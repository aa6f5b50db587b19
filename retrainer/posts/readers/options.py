"""What is said about the files to read, where the reader should not detect it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class ReadOptions:
    r"""How to read a file of posts. What is None is detected.

    Attributes:
        delimiter: the character between the fields of a row.
        encoding: the encoding of text, by any name that Python knows: `utf-16`, `cp1252`.
        records: the path of the records in a JSON document: `data.posts`. `*` stands for every key of an object, as
            in `channels.*.messages`; arrays on the way need no step of their own. `.` is the top.
            Of a workbook, the name of the sheet.
        fit: takes the columns and the path of records, and returns how well they fit some known export, 0 if not at
            all. It is asked of each place where records may be in a document.
    """

    delimiter: str | None = None
    encoding: str | None = None
    records: str | None = None
    fit: Callable[[Sequence[str], str | None], int] | None = None
