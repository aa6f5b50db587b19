"""Read JSON of any shape: a document, several one after the other, or JSON Lines; also as assigned in JavaScript.

One record is in memory at a time. A file is read twice: first to find its records, and the paths of their values.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from retrainer.errors import PostsError, UsageError
from retrainer.posts.readers import nesting
from retrainer.posts.readers.json_text import JsonText, Twice, decode_value, takes_too_much
from retrainer.posts.readers.limits import quote_names
from retrainer.posts.readers.text import Lines, RowTooLargeError, decode, empty_error, find_encoding
from retrainer.posts.records import NoRecordsError, PostsTable, RejectedRow, Row
from retrainer.posts.validation import quote, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from retrainer.posts.readers.limits import LimitedFile
    from retrainer.posts.readers.options import ReadOptions

TOP = "."  # the path of records that stand in nothing

_LONG_LINE = 2**14  # characters
_MAX_DEPTH = 20  # of values that are read in parts


def read(file: LimitedFile, options: ReadOptions) -> PostsTable:
    """Open a file of JSON. The number of a row is its line in JSON Lines, else that of its record.

    Raises:
        UsageError: there are no records at the path of the options, or its encoding is unknown.
        PostsError: the file is not JSON, exceeds a limit, or holds no records, or several arrays of them that fit.
    """
    encoding, detected = find_encoding(file, options.encoding)
    head = next(decode(file, encoding), "")
    if options.records is None and _is_json_lines(head, file):
        survey, has_twice = _survey_lines(file, encoding)
        if not _is_page(survey.root):
            return _lines_table(file, encoding, detected, survey, has_twice=has_twice)
    return _Document(file, encoding).table(options, detected)


def _is_json_lines(head: str, file: LimitedFile) -> bool:
    """Whether each line is a record, by the beginning of the text and the suffix."""
    declared = bool({".jsonl", ".ndjson"} & {suffix.lower() for suffix in file.path.suffixes})
    first, *others = [line for line in head.splitlines() if line and not line.isspace()] or [""]
    if not others and not head.endswith(("\r", "\n")) and len(head) > _LONG_LINE:  # its end is not known
        return declared and not first.lstrip().startswith("[")
    value = _parse(first)
    if isinstance(value, dict):
        survey = nesting.Survey(file.name)
        survey.look(value, survey.root)
        return (declared or _start_records(others)) and not _is_page(survey.root)
    if value is None and declared and first.lstrip().startswith(("{", "[")):
        return bool(others) and isinstance(_parse(others[0]), dict)
    return declared and not (isinstance(value, list) and any(isinstance(element, dict) for element in value))


def _is_page(node: nesting.Node) -> bool:
    """Whether objects hold records with times, and have none themselves."""
    inner = nesting.find_candidates(node).values()
    return not nesting.merits(node)[0] and any(nesting.merits(records)[0] for records in inner)


def _start_records(lines: Sequence[str]) -> bool:
    """Whether most of the lines start a record, instead of going on with one that is written over several."""
    return 2 * sum(line.startswith(("{", "[")) for line in lines) > len(lines)


def _parse(line: str) -> object:
    """Return the value in a line; None if it is not JSON, and False if it cannot be read."""
    try:
        value, end = decode_value(line, len(line) - len(line.lstrip()))
    except json.JSONDecodeError:
        return None
    except RecursionError:
        return False
    return None if line[end:].strip() else value


def _survey_lines(file: LimitedFile, encoding: str) -> tuple[nesting.Survey, bool]:
    """Look at all lines; also return whether a record has a key twice."""
    survey = nesting.Survey(file.name)
    has_records = has_twice = False
    # The columns must be known before the first row; the file is read twice to save memory.
    for _, record, text in _parse_lines(file, encoding, merge=False):
        has_records = True
        keys = survey.look(record, survey.root, in_record=True)
        if isinstance(record, dict) and keys != text.count('":'):
            merged = decode_value(text, 0, merge=True)[0]
            if merged != record:
                has_twice = True
                survey.look(merged, survey.root, in_record=True)
    if not has_records:
        raise empty_error(file.name)
    return survey, has_twice


def _lines_table(
    file: LimitedFile, encoding: str, detected: tuple[str, ...], survey: nesting.Survey, *, has_twice: bool
) -> PostsTable:
    def rows(columns: Sequence[str | None]) -> Iterator[Row]:
        select = _selection(columns, has_twice=has_twice)
        for line, record, _ in _parse_lines(file, encoding, merge=has_twice):
            yield record if isinstance(record, RejectedRow) else select(line, record)

    return PostsTable(file.name, nesting.columns_of(survey.root), rows, "line", detected)


def _parse_lines(file: LimitedFile, encoding: str, *, merge: bool) -> Iterator[tuple[int, object, str]]:
    """Yield the number, the value or a RejectedRow, and the text of each line that is not blank."""
    file.restart()
    lines = Lines(file, encoding)
    for line, content in enumerate(lines.start(1), 1):
        lines.row = line
        file.count_row()
        text = content.strip()
        if not text:
            continue
        if takes_too_much(text, file):
            raise file.row_error()
        try:
            value, end = decode_value(text, 0, merge=merge)
            if end < len(text):
                value = RejectedRow(line, f"not JSON: Extra data at character {end + 1}")
        except json.JSONDecodeError as error:
            value = RejectedRow(line, f"not JSON: {error.msg} at character {error.pos + 1}")
        except RecursionError:
            value = RejectedRow(line, "not readable as JSON: it is nested too deeply")
        yield line, value, text


def _selection(columns: Sequence[str | None], *, has_twice: bool) -> Callable[[int, object], Row]:
    """Return a function from the number of a record and the record to its row."""
    if any("." in name for name in columns if name is not None):
        getters = [None if name is None else nesting.getter(name) for name in columns]

        def values_of(record: dict[str, Any]) -> list[object]:
            return [None if get is None else get(record) for get in getters]
    else:

        def values_of(record: dict[str, Any]) -> list[object]:
            return [None if name is None else record.get(name) for name in columns]

    def select(number: int, record: object) -> Row:
        if not isinstance(record, dict):
            return RejectedRow(number, f"{quote(record)} is not an object")
        values = values_of(record)
        if has_twice:
            for name, value in zip(columns, values, strict=True):
                if isinstance(value, Twice):
                    return RejectedRow(number, f"it has two different values of {quote(name)}")
        return number, values

    return select


class _Document:
    """Documents whose records stand in an array, in an object that is keyed by ids, or alone."""

    def __init__(self, file: LimitedFile, encoding: str) -> None:
        self._file = file
        self._encoding = encoding
        self._survey = nesting.Survey(file.name)
        self._has_twice = False

    def table(self, options: ReadOptions, detected: tuple[str, ...]) -> PostsTable:
        """Find the records, and return them as a table."""
        text = JsonText(self._file, self._encoding)
        if not text.next_document():
            raise empty_error(self._file.name)
        while text.next_document():
            self._look(text, self._survey.root)
        path, node = self._choose(options)

        def rows(columns: Sequence[str | None]) -> Iterator[Row]:
            select = _selection(columns, has_twice=self._has_twice)
            text = JsonText(self._file, self._encoding)
            number = 0
            while text.next_document():
                for record in self._find(text, path):
                    number += 1
                    yield select(number, record)

        if path:
            detected += (f"records in {quote(path)}",)
        return PostsTable(self._file.name, nesting.columns_of(node), rows, "record", detected, path or None)

    # --- finding the records ----------------------------------------------------------------------

    def _look(self, text: JsonText, node: nesting.Node, depth: int = 0, *, in_record: bool = False) -> None:
        """Look at a value and at all below it."""
        opening = text.peek()
        if opening == "[":
            elements = node.element_node()
            for _ in self._elements(text, depth):
                self._look(text, node if text.peek() == "[" else elements, depth + 1, in_record=True)
            return
        try:
            value = text.value()
        except RowTooLargeError:
            if opening != "{":
                raise self._file.row_error() from None
            self._look_at_parts(text, node, depth, in_record=in_record)
            return
        if self._survey.look(value, node, depth, in_record=in_record) != text.keys:
            merged = text.merged_value()
            if merged != value:
                self._has_twice = True
                node.objects -= isinstance(value, dict)  # it is the same one
                self._survey.look(merged, node, depth, in_record=in_record)
        if node.sample is None and not isinstance(value, dict | list):
            node.sample = shorten(value) if isinstance(value, str) else value

    def _look_at_parts(self, text: JsonText, node: nesting.Node, depth: int, *, in_record: bool) -> None:
        """Look at an object that is too large for memory."""
        node.objects += 1
        children: list[nesting.Node] = []
        for key in self._keys(text, depth):
            if node.values is None:
                child = self._survey.key_node(node, key, depth) or nesting.Node()
                children.append(child)
            else:
                child = node.values
            self._look(text, child, depth + 1, in_record=in_record)
            if len(children) == 2 and node.values is None and not in_record and nesting.are_alike(*children):  # noqa: PLR2004
                node.values = children[0]
                first_key = next(iter(node.keys))
                node.keys.clear()
                self._survey.note_id(node.values, first_key)

    def _elements(self, text: JsonText, depth: int) -> Iterator[None]:
        """Move to each element of an array; the caller reads it."""
        self._check_depth(depth)
        text.expect("[")
        if text.take("]"):
            return
        while True:
            yield None
            self._file.count_row()
            if text.expect(",", "]") == "]":
                return

    def _keys(self, text: JsonText, depth: int) -> Iterator[str]:
        """Move to the value of each key of an object, which the caller reads; yield the key."""
        self._check_depth(depth)
        text.expect("{")
        if text.take("}"):
            return
        while True:
            try:
                key = text.value()
            except RowTooLargeError:
                raise self._file.row_error() from None
            text.expect(":")
            yield str(key)
            if text.expect(",", "}") == "}":
                return

    def _check_depth(self, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise PostsError(f"'{self._file.name}' is nested too deeply", hint="Check that it holds posts")

    # --- reading the records ----------------------------------------------------------------------

    def _find(self, text: JsonText, path: str, depth: int = 0) -> Iterator[object]:
        """Yield the records at a path of the next value."""
        opening = text.peek()
        if opening == "[":
            for _ in self._elements(text, depth):
                yield from self._find(text, path, depth + 1)
            return
        try:
            value = text.value(merge=self._has_twice)
        except RowTooLargeError:
            if opening != "{" or not path:
                raise self._file.row_error() from None
        else:
            yield from nesting.find_records(value, path)
            return
        add_id: bool | None = None
        for key in self._keys(text, depth):
            if add_id is None:
                add_id = path == "*" and nesting.are_ids(key)
            rest = nesting.step_into(path, key)
            if rest is None:
                self._skip(text, depth + 1)
                continue
            for record in self._find(text, rest, depth + 1):
                yield nesting.with_id(key, record) if add_id else record

    def _skip(self, text: JsonText, depth: int) -> None:
        """Move behind a value."""
        opening = text.peek()
        try:
            if opening != "[":
                text.value()
                return
        except RowTooLargeError:
            if opening != "{":
                raise self._file.row_error() from None
        parts = self._elements(text, depth) if opening == "[" else self._keys(text, depth)
        for _ in parts:
            self._skip(text, depth + 1)

    # --- choosing among the places where records may be ------------------------------------------------

    def _choose(self, options: ReadOptions) -> tuple[str, nesting.Node]:
        """Return the path of the records, and what they look like."""
        root = self._survey.root
        places = nesting.find_candidates(root)
        alone = root if root.objects and "" not in places else None  # objects that stand in nothing
        if alone:
            places[""] = alone
        if options.records is not None:
            path = "" if options.records == TOP else options.records
            if path not in places:
                hint = f"There are records at {quote_names([path or TOP for path in places])}"
                raise UsageError(f"'{self._file.name}' has no records at {quote(options.records)}", hint=hint)
            return path, places[path]
        filled = {path: node for path, node in places.items() if node.objects}
        known = _best_known(filled, options)
        if known is not None:
            return known, filled[known]
        fitting = _fitting(places, alone)
        if len(fitting) == 1:
            return fitting[0], places[fitting[0]]
        if not fitting:
            problem = f"'{self._file.name}' contains no array of objects"
            raise NoRecordsError(problem, hint="Write an array of objects, or an object with one such array")
        problem = f"{len(fitting)} arrays of objects: {quote_names(fitting)}"
        raise PostsError(f"'{self._file.name}' contains {problem}", hint="Choose one with --records PATH")


def _best_known(places: Mapping[str, nesting.Node], options: ReadOptions) -> str | None:
    """Return the place whose records fit a known export best, None if none does."""
    if options.fit is None:
        return None
    fits = {path: options.fit(nesting.columns_of(node), path or None) for path, node in places.items()}
    best = max(fits, key=lambda path: fits[path], default=None)
    return best if best is not None and fits[best] else None


def _fitting(places: Mapping[str, nesting.Node], alone: nesting.Node | None) -> list[str]:
    """Return the places whose records are most likely the posts, several if that is open."""
    is_one = alone is not None and alone.objects == 1
    filled = {path: node for path, node in places.items() if node.objects and not (is_one and node is alone)}
    fitting = _best(filled)
    if alone and is_one and not any(nesting.merits(filled[path])[0] for path in fitting) and nesting.merits(alone)[0]:
        return [""]
    # Without any object, an empty array will do, and so will an array at the top, whose rows are all rejected.
    empty = [path for path, node in places.items() if node is not alone and (not path or node.sample is None)]
    return fitting or empty[:1]


def _best(places: Mapping[str, nesting.Node]) -> list[str]:
    """Return the places whose records look most like posts, without those inside others."""
    merits = {path: nesting.merits(node) for path, node in places.items()}
    best = max(merits.values(), default=None)
    if best is not None and not best[0]:  # none has times: whatever stands in nothing else
        best = None
    fitting = [path for path in places if best is None or merits[path] == best]
    return [path for path in fitting if not any(nesting.is_inside(path, other) for other in fitting)]
