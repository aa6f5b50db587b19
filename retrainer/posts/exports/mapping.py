"""The values of a record that make a post, and the kind of the record."""

from __future__ import annotations

import math
import re
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from retrainer.export_format import ALTERNATIVE, JOIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from retrainer.export_format import ImportColumn, Kind

_MAX_STEPS = 50  # of a path; deeper values are not looked at
_DOT = re.compile(r"\.")
_NUMBER = re.compile(r"(?<=\.)[0-9]+(?=\.|$)")  # of a place in an array, whose columns are those of the first


class Alternative(NamedTuple):
    """The paths of a column's value, whose values are joined if there are several.

    Attributes:
        name: the expression, such as `date + time`.
        indices: of its paths in `RecordMapping.paths`.
        separator: between the joined values.
    """

    name: str
    indices: tuple[int, ...]
    separator: str

    def value(self, values: Sequence[object]) -> object:
        """Return the value; None if it, or one to join, is missing."""
        if len(self.indices) == 1:
            return present(values[self.indices[0]])
        parts = [present(values[index]) for index in self.indices]
        return None if None in parts else self.separator.join(map(str, parts))


class RecordMapping:
    """Selects the values of posts from records whose values were read by `PostsTable.rows(mapping.paths)`.

    Attributes:
        paths: the paths to read, each once.
        alternatives: column of posts -> its alternatives, the first with a value counts.
    """

    def __init__(
        self,
        columns: Mapping[ImportColumn, str],
        kinds: Mapping[Kind, Mapping[str, str]] | None = None,
        *,
        available: Sequence[str] | None = None,
        is_html: bool = False,
    ) -> None:
        """Prepare the selection.

        Args:
            columns: column of posts -> expression; see `ExportFormat`.
            kinds: kind -> path -> pattern; see `ExportFormat`.
            available: the columns of the table, if others need not be read.
            is_html: whether the texts are HTML.
        """
        self.paths: list[str] = []
        known = None if available is None else known_paths(available)
        separators = {"created_at": " ", "content": "<p>" if is_html else "\n\n"}
        self.alternatives: dict[ImportColumn, tuple[Alternative, ...]] = {}
        for column, expression in columns.items():
            alternatives = [(alternative, alternative.split(JOIN)) for alternative in expression.split(ALTERNATIVE)]
            self.alternatives[column] = tuple(
                Alternative(alternative, tuple(map(self._index, paths)), separators.get(column, ""))
                for alternative, paths in alternatives
                if known is None or all(has_path(known, path) for path in paths)
            )
        self._kinds: list[tuple[Kind, int, Callable[[str], object]]] = [
            (kind, self._index(path), partial(re.compile(pattern, re.DOTALL).fullmatch))
            for kind, patterns in (kinds or {}).items()
            for path, pattern in patterns.items()
            if known is None or has_path(known, path)
        ]

    def _index(self, path: str) -> int:
        if path not in self.paths:
            self.paths.append(path)
        return self.paths.index(path)

    def kind(self, values: Sequence[object]) -> Kind | None:
        """Return what kind of record it is; None if it is an ordinary post."""
        for kind, index, matches in self._kinds:
            value = present(values[index])
            if value is not None and matches(_text(value)):
                return kind
        return None

    def select(self, column: ImportColumn, values: Sequence[object]) -> tuple[object, int]:
        """Return the value of a column and the number of its alternative; (None, 0) if all are missing."""
        for number, alternative in enumerate(self.alternatives.get(column, ())):
            value = alternative.value(values)
            if value is not None:
                return value, number
        return None, 0


def known_paths(columns: Iterable[str]) -> frozenset[str]:
    """Return the columns, and the paths of the objects and arrays that they are in."""
    columns = list(columns)
    prefixes = (column[: dot.start()] for column in columns for dot in islice(_DOT.finditer(column), _MAX_STEPS))
    return frozenset((*columns, *prefixes))


def has_path(known: frozenset[str], path: str) -> bool:
    """Whether records with known paths may have something at a path."""
    return path in known or _NUMBER.sub("0", path) in known


def present(value: object) -> object:
    """Return the value; None if it is empty."""
    if isinstance(value, str):
        return value if value and not value.isspace() else None
    if isinstance(value, list | dict):
        return value or None
    return None if isinstance(value, float) and math.isnan(value) else value


def _text(value: object) -> str:
    """Return a value as text, as JSON would write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
