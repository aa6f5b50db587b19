"""Turn the records of one table into posts, by its format or by the names of its columns."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING

from retrainer.posts.columns import ALIASES, find_columns
from retrainer.posts.exports import recognise
from retrainer.posts.exports.mapping import Alternative, RecordMapping, present
from retrainer.posts.readers import limit_error, quote_names
from retrainer.posts.records import RejectedRow
from retrainer.posts.staging import BATCH_ROWS
from retrainer.posts.texts import clean_text, find_clean_ups
from retrainer.posts.times import TimeColumn, UndecidedTimeError, join_date_and_time
from retrainer.posts.validation import InvalidValueError, make_id, parse_count, parse_id, parse_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from retrainer.config import PostsSettings
    from retrainer.export_format import ImportColumn
    from retrainer.posts.exports import KnownExport
    from retrainer.posts.records import PostsTable, Row
    from retrainer.posts.staging import StagedPost

log = logging.getLogger(__name__)

_SAMPLE_ROWS = 1_000  # whose times are looked at before any is read
_SAMPLE_CHARACTERS = 2**24  # of their texts, all in memory
_SAMPLE_DAYS = 100
_SHOWN_ALIASES = 5  # in a message
_FOUND_TEXTS = {"html": "texts in HTML", "entities": "HTML entities in texts", "mojibake": "wrongly decoded texts"}
_MAX_DIGITS = 19  # of a count that the database certainly holds


@dataclass
class FileResult:
    """What was read from one file.

    Attributes:
        name: the path, or the archive and the name in it.
        row_unit: what the numbers of rows count: line or record.
        recognised: the name of the known export that it is.
        detected: what was found out about the file, such as its separator.
        mapping: column of posts -> column of the file, in our order, without columns that the file lacks.
        rows: the number of rows, without blank lines and the header.
        rejected: the rejected rows, in the order of the file.
        excluded: the number of records left out, by kind, such as `reposts`.
        dropped: the number of counts that could not be read, by column.
        ids_made: whether the file has no ids, so that they are made from time and text.
        warnings: what a reader should know.
    """

    name: str
    row_unit: str
    recognised: str | None = None
    detected: tuple[str, ...] = ()
    mapping: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    rejected: list[RejectedRow] = field(default_factory=list)
    excluded: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    ids_made: bool = False
    warnings: list[str] = field(default_factory=list)

    def warn(self, message: str) -> None:
        """Log a warning, and keep it for the result."""
        self.warnings.append(message)
        log.warning("%s", message)


@dataclass(frozen=True)
class ConversionOptions:
    """How to turn records into posts.

    Attributes:
        columns: column of posts -> expression, which overrides what is found.
        time_format: the format of the times, as in `strptime`; None to find it.
        timezone: the zone of times that name none; None is UTC.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    time_format: str | None = None
    timezone: str | None = None


class Conversion:
    """The conversion of one table.

    Attributes:
        result: what was found out so far.
    """

    def __init__(
        self,
        table: PostsTable,
        options: ConversionOptions,
        settings: PostsSettings,
        exports: Sequence[KnownExport],
        stream: str,
        now: int,
    ) -> None:
        """Find the format and the columns.

        Args:
            options: how to convert it.
            settings: its limits, and the kinds of records to leave out.
            exports: the formats known.
            stream: the stream of the posts, where no column has it.
            now: the time of the import in microseconds since 1970; later posts are rejected.

        Raises:
            UsageError: a column of the options is not in the table.
            PostsError: the table has no column of times.
        """
        self.result = FileResult(table.name, table.row_unit, detected=table.detected)
        self._table = table
        self._settings = settings
        self._stream = stream
        export = recognise(table, exports)
        declared = None if export is None else export.format
        columns: Mapping[ImportColumn, str] = {}
        if table.columns:
            known = None if declared is None else declared.columns
            columns = find_columns(table.columns, options.columns, table.name, known, holds_days=self._holds_days)
        kinds = {} if declared is None else declared.kinds
        self._kinds = {kind: kinds[kind] for kind in settings.exclude if kind in kinds}
        self._clean_ups = () if declared is None else tuple(declared.clean_ups)
        is_html = "html" in self._clean_ups
        self._mapping = RecordMapping(columns, self._kinds, available=table.columns, is_html=is_html)
        self._times = [
            TimeColumn(options.time_format, options.timezone, now=now) for _ in self._alternatives("created_at")
        ]
        found = {column: self._alternatives(column) for column in ALIASES if self._alternatives(column)}
        self.result.recognised = None if export is None else export.name
        self.result.mapping = {
            column: " or ".join(alternative.name for alternative in alternatives)
            for column, alternatives in found.items()
        }
        self.result.ids_made = bool(columns) and "post_id" not in found
        if columns and "content" not in found:
            declared_path = columns.get("content")
            looked_for = quote_names(ALIASES["content"][:_SHOWN_ALIASES] if declared_path is None else [declared_path])
            self.result.warn(
                f"'{table.name}' has no column of texts, such as {looked_for}: its columns are "
                f"{quote_names(table.columns)}. Choose one with --column content=NAME"
            )

    def _holds_days(self, column: str) -> bool:
        """Whether the first values of a column are days without a time of day."""
        values = [
            row[1][0] for row in islice(self._table.rows([column]), _SAMPLE_DAYS) if not isinstance(row, RejectedRow)
        ]
        return not any(":" in str(value).removesuffix("00:00:00") for value in values)

    def batches(self, file: int) -> Iterator[list[StagedPost]]:
        """Yield the posts in batches.

        Args:
            file: the index of the file, for the posts.

        Raises:
            PostsError: the order of day and month stays open, or too many rows are rejected.
        """
        result, rows, convert = self.result, self._rows(), self._converter(file)
        batch: list[StagedPost] = []
        is_observed = False  # whether all times were looked at
        while (row := next(rows, None)) is not None:
            result.rows += 1
            if isinstance(row, RejectedRow):
                self._reject(row)
                continue
            try:
                post = convert(*row)
            except UndecidedTimeError as error:  # the first time beyond the sample that depends on the others
                if is_observed:
                    self._reject(RejectedRow(row[0], str(error)))
                    continue
                is_observed = True
                result.rows -= 1
                self._observe_all()
                rows = islice(self._table.rows(self._mapping.paths), result.rows, None)
                convert = self._converter(file)
                continue
            except InvalidValueError as error:
                self._reject(RejectedRow(row[0], str(error)))
                continue
            if post is not None:
                batch.append(post)
                if len(batch) == BATCH_ROWS:
                    yield batch
                    batch = []
        yield batch
        for warning in dict.fromkeys(chain.from_iterable(times.warnings() for times in self._times)):
            result.warn(f"'{result.name}': {warning}")

    def _reject(self, row: RejectedRow) -> None:
        rejected, limits = self.result.rejected, self._settings.limits
        rejected.append(row)
        if len(rejected) > limits.rejected_rows:
            problem = f"has more than {{}} rejected rows, the first at {rejected[0].line}: {rejected[0].reason}"
            raise limit_error(self._table.name, limits, problem, "rejected_rows")

    def _rows(self) -> Iterator[Row]:
        """Decide the formats of the times and of unknown texts, and return all rows.

        A sample is enough unless the order of day and month stays open in it: then all times are read first.
        """
        rows = self._table.rows(self._mapping.paths)
        sample: list[Row] = []
        characters = 0
        for row in rows:
            sample.append(row)
            if not isinstance(row, RejectedRow):
                self._observe(row[1])
                characters += sum(len(value) for value in row[1] if isinstance(value, str))
            if len(sample) >= _SAMPLE_ROWS or characters > _SAMPLE_CHARACTERS:
                break
        else:
            self._find_clean_ups(sample)
            return iter(sample)
        self._find_clean_ups(sample)
        if not any(times.is_open for times in self._times):
            return chain(sample, rows)
        del rows, sample
        self._observe_all()
        return self._table.rows(self._mapping.paths)

    def _find_clean_ups(self, sample: Sequence[Row]) -> None:
        """Decide what to do with the texts of a table that no known format describes."""
        if self.result.recognised is None:
            get_text = self._getter("content")
            texts = (get_text(row[1]) for row in sample if not isinstance(row, RejectedRow))
            self._clean_ups = tuple(find_clean_ups(texts))
            self.result.detected += tuple(_FOUND_TEXTS[clean_up] for clean_up in self._clean_ups)

    def _observe_all(self) -> None:
        wanted = {index for alternative in self._alternatives("created_at") for index in alternative.indices}
        paths = [path if index in wanted or self._kinds else None for index, path in enumerate(self._mapping.paths)]
        for row in self._table.rows(paths):
            if not isinstance(row, RejectedRow):
                self._observe(row[1])

    def _observe(self, values: Sequence[object]) -> None:
        if self._kinds and self._mapping.kind(values) is not None:
            return
        value, number = self._time(values)
        if value is not None:
            self._times[number].observe(value)

    def _alternatives(self, column: ImportColumn) -> tuple[Alternative, ...]:
        return self._mapping.alternatives.get(column, ())

    def _time(self, values: Sequence[object]) -> tuple[object, int]:
        """Return the time of a record, and the number of the alternative that has it."""
        for number, alternative in enumerate(self._alternatives("created_at")):
            first, *others = alternative.indices
            value = present(values[first])
            for other in others:
                value = join_date_and_time(value, values[other])
            if value is not None:
                return value, number
        return None, 0

    def _getter(self, column: ImportColumn) -> Callable[[Sequence[object]], object]:
        """Return a function that selects the value of a column from a record."""
        alternatives = self._alternatives(column)
        if not alternatives:
            return lambda _values: None
        if len(alternatives) == len(alternatives[0].indices) == 1:
            return itemgetter(*alternatives[0].indices)  # the way of nearly all columns
        return lambda values: self._mapping.select(column, values)[0]

    def _converter(self, file: int) -> Callable[[int, Sequence[object]], StagedPost | None]:
        """Return a function that turns a record into a post, or None if it is left out.

        It raises InvalidValueError if the record is rejected.
        """
        kinds, mapping, result, clean_ups = self._kinds, self._mapping, self.result, self._clean_ups
        count = self._count
        readers = [
            times.reader(alternative.name)
            for times, alternative in zip(self._times, self._alternatives("created_at"), strict=True)
        ]
        get_id, get_time, get_text, get_replies, get_reblogs, get_favourites, get_stream = map(self._getter, ALIASES)
        stream, has_streams = self._stream, bool(self._alternatives("stream"))
        is_simple = all(len(alternative.indices) == 1 for alternative in self._alternatives("created_at"))
        is_simple = is_simple and len(readers) == 1

        def convert(line: int, values: Sequence[object]) -> StagedPost | None:
            if kinds and (kind := mapping.kind(values)) is not None:
                result.excluded[kind] += 1
                return None
            post_id = "" if result.ids_made else parse_id(get_id(values))
            value, number = (get_time(values), 0) if is_simple else self._time(values)
            time = readers[number](value)
            text = clean_text(get_text(values), clean_ups)
            replies = count("replies_count", get_replies(values))
            reblogs = count("reblogs_count", get_reblogs(values))
            favourites = count("favourites_count", get_favourites(values))
            name = parse_stream(get_stream(values)) if has_streams else stream
            return file, line, name, post_id or make_id(time, text), time, text, replies, reblogs, favourites

        return convert

    def _count(self, name: str, value: object) -> int | None:
        """Return a count; None if it is missing, or cannot be read, which is counted."""
        if type(value) is str and value.isdecimal() and value.isascii() and len(value) < _MAX_DIGITS:
            return int(value)  # the way of nearly all counts
        try:
            return parse_count(value)
        except InvalidValueError:
            self.result.dropped[name] += 1
            return None
