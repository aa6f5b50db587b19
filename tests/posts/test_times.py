"""Times as machines write them, and what the column decides."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrainer.errors import PostsError, UsageError
from retrainer.posts.times import MAX_TIME, TimeColumn, UndecidedTimeError, join_date_and_time, to_microseconds
from retrainer.posts.validation import EPOCH, MICROSECOND, InvalidValueError

NOW = (datetime(2025, 6, 1, 12, tzinfo=UTC) - EPOCH) // MICROSECOND


def read_column(
    values: list[object], time_format: str | None = None, timezone: str | None = None
) -> tuple[list[str], TimeColumn]:
    """Return the times of a column in ISO 8601, and the column."""
    column = TimeColumn(time_format, timezone, now=NOW)
    for value in values:
        column.observe(value)
    read = column.reader("when")
    return [f"{(EPOCH + read(value) * MICROSECOND).replace(tzinfo=None).isoformat()}Z" for value in values], column


def read_one(value: object, time_format: str | None = None, timezone: str | None = None) -> str:
    return read_column([value], time_format, timezone)[0][0]


def reason(value: object, *, time_format: str | None = None, timezone: str | None = None) -> str:
    with pytest.raises(InvalidValueError) as caught:
        read_one(value, time_format, timezone)
    return str(caught.value)


# All are 2024-01-05T10:15:30Z.
TEXTS = """
2024-01-05T10:15:30Z
2024-01-05 10:15:30
  2024-01-05T10:15:30
'2024-01-05 10:15:30
2024-01-05t10:15:30z
20240105T101530Z
20240105 101530
2024/01/05 10:15:30
2024/1/5 10:15:30
2024.01.05 10:15:30
2024:01:05 10:15:30
2024_01_05_10:15:30
2024-1-5 10:15:30
2024-01-05_10-15-30
2024-01-05-10:15:30
2024-01-05, 10:15:30
2024-01-05 at 10:15:30
2024-01-05 10:15:30 UTC
2024-01-05T10:15:30UTC
2024-01-05 10:15:30 GMT
2024-01-05 10:15:30Z
2024-01-05T10:15:30Z[UTC]
2024-01-05T11:15:30+01:00[Europe/Paris]
2024-01-05 11:15:30 Europe/Paris
2024-01-05T12:15:30+02:00
2024-01-05T12:15:30+0200
2024-01-05T12:15:30+02
2024-01-05 12:15:30 +2
2024-01-05 04:45:30 -0530
2024-01-05 04:45:30 −05:30
2024-01-05 10:15:30 +0000 UTC
2024-01-05 11:15:30 CET
2024-01-05 05:15:30 EST
2024-01-05 12:15:30 UTC+2
2024-01-05 15:15:30 GMT+05:00
Fri Jan 05 10:15:30 +0000 2024
Fri Jan  5 10:15:30 2024
Fri Jan  5 10:15:30 UTC 2024
Fri Jan 5 12:15:30 2024 +0200
Fri, 05 Jan 2024 10:15:30 GMT
Fri, 5 Jan 2024 12:15:30 +0200 (EET)
5 Jan 2024 10:15:30 -0000
Friday, 05-Jan-24 10:15:30 GMT
05/Jan/2024:10:15:30 +0000
Fri Jan 05 2024 10:15:30 GMT+0000 (Coordinated Universal Time)
05-JAN-24 10.15.30.000000 AM
5-Jan-2024 10:15:30
5 January 2024 10:15:30
2024-Jan-05 10:15:30
Jan 5, 2024, 10:15:30 AM
January 05, 2024 at 10:15:30AM
Friday, January 5th, 2024 10:15:30 a.m.
10:15:30 AM · Jan 5, 2024
10:15:30 - 5 Jan 2024
1704449730
1704449730.0
1704449730,0
1704449730.000000
1.704449730e9
1704449730000
1704449730000000
1704449730000000000
20240105101530
20240105101530.0
/Date(1704449730000+0100)/
""".strip().split("\n")
VALUES: list[object] = [
    *(1704449730, 1704449730.0, Decimal(1704449730), 1704449730000, 1704449730000.0, 1704449730000000),
    *(1704449730000000000, 20240105101530, 20240105101530.0, "2024-01-05 10:15:30\N{NARROW NO-BREAK SPACE}AM"),
    *(datetime(2024, 1, 5, 10, 15, 30), datetime(2024, 1, 5, 12, 15, 30, tzinfo=timezone(timedelta(hours=2)))),  # noqa: DTZ001
    *(pd.Timestamp("2024-01-05T10:15:30"), np.datetime64("2024-01-05T10:15:30")),
    np.datetime64("2024-01-05T10:15:30", "ns"),
]


@pytest.mark.parametrize("written", [*TEXTS, *VALUES])
def test_whatever_means_one_moment_is_read(written: object) -> None:
    assert read_one(written) == "2024-01-05T10:15:30Z"


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2024-01-05", "2024-01-05T00:00:00Z"),
        ("20240105", "2024-01-05T00:00:00Z"),
        (20240105, "2024-01-05T00:00:00Z"),
        (date(2024, 1, 5), "2024-01-05T00:00:00Z"),
        ("202401051015", "2024-01-05T10:15:00Z"),
        ("2024-01-05T10", "2024-01-05T10:00:00Z"),
        ("2024-01-05T10:15", "2024-01-05T10:15:00Z"),
        ("2024-1-5 7:5:3", "2024-01-05T07:05:03Z"),
        ("2024-01-05 12:00 AM", "2024-01-05T00:00:00Z"),
        ("2024-01-05 12:30 PM", "2024-01-05T12:30:00Z"),
        ("2024-01-05T10:15:30.123456999Z", "2024-01-05T10:15:30.123456Z"),
        ("2024-01-05T10:15:30,25Z", "2024-01-05T10:15:30.250000Z"),
        ("1704449730.25", "2024-01-05T10:15:30.250000Z"),
        (1704449730123, "2024-01-05T10:15:30.123000Z"),
        (999999999, "2001-09-09T01:46:39Z"),
        ("45296.427430555555", "2024-01-05T10:15:30Z"),
        (45296.42743055556, "2024-01-05T10:15:30Z"),
        ("45296,427430555555", "2024-01-05T10:15:30Z"),
        (45296, "2024-01-05T00:00:00Z"),
        ("30 Jun 69 10:00", "1969-06-30T10:00:00Z"),
    ],
)
def test_a_time_may_leave_out_what_is_zero(written: object, moment: str) -> None:
    assert read_one(written) == moment


@pytest.mark.parametrize(
    "written",
    [
        *("2024-10", "2024", "now", "NaT", "soon", "Jan 5", "10:15", "5 Jan 10:15", "2024-13-01", "2024-02-30"),
        *("13/13/2024", " 2024-01-05 x", "-1704449730"),
        *("2024-01-05T24:00", "2024-01-05 10:61", "2024-01-05 13:00 PM", "0000-01-01", "2024-01-05T10:15+25:00"),
        *("٢٠٢٤-01-05", "2024-01-05-05:00", "10 5/1/2024", "x" * 1_000_000, "1" * 1_000_000),
        *(True, float("inf"), {}, [], b"2024-01-05", 10**400, 1, 12345678, 99991231, -1704449730),
    ],
)
def test_what_means_no_moment_is_invalid(written: object) -> None:
    assert reason(written).startswith("the time ")


@pytest.mark.parametrize("written", [None, "", "  ", float("nan"), np.datetime64("NaT")])
def test_a_missing_time_is_invalid(written: object) -> None:
    assert reason(written) == "the time is missing"


def test_a_time_in_the_future_or_before_the_year_1_is_invalid() -> None:
    assert reason("2025-06-01T12:00:00.000001Z") == "the time '2025-06-01T12:00:00.000001Z' is in the future"
    assert reason("0001-01-01T00:00+14:00") == "the time '0001-01-01T00:00+14:00' is before the year 1"
    for far, problem in (
        (np.datetime64("30000-01-01", "s"), "in the future"),
        (np.datetime64(-(10**11), "s"), "before the year 1"),
    ):
        assert reason(far).endswith(problem)
    assert reason("20240105100000000").endswith("is in the future")  # microseconds


def test_a_number_that_a_spreadsheet_rounded_is_invalid() -> None:
    assert reason("1.70445E+12") == "the time '1.70445E+12' is rounded to 10,000 seconds"
    assert reason("1.7e9").endswith("is rounded to 100,000,000 seconds")
    assert read_one(1.7e18) == read_one("1700000000")


# --- what the column decides ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "moments"),
    [
        (["8/16/2016 19:22:57", "7/8/2016 6:32 PM"], ["2016-08-16T19:22:57Z", "2016-07-08T18:32:00Z"]),
        (["03/04/2016 10:00", "16/08/2016 10:00"], ["2016-04-03T10:00:00Z", "2016-08-16T10:00:00Z"]),
        (["31.10.24 10:00", "01.02.24 10:00"], ["2024-10-31T10:00:00Z", "2024-02-01T10:00:00Z"]),
        (["01-31-24", "01-02-24"], ["2024-01-31T00:00:00Z", "2024-01-02T00:00:00Z"]),
        (["98/03/04 10:00", "01/02/03 10:00"], ["1998-03-04T10:00:00Z", "2001-02-03T10:00:00Z"]),
        (["28/02/24 10:00", "01/02/24 10:00"], ["2024-02-28T10:00:00Z", "2024-02-01T10:00:00Z"]),  # no year 2028
        (["5/5/2016 10:00", "06/06/2016 11:00"], ["2016-05-05T10:00:00Z", "2016-06-06T11:00:00Z"]),
    ],
)
def test_one_date_decides_the_order_of_all(values: list[object], moments: list[str]) -> None:
    assert read_column(values)[0] == moments
    assert read_column(values[::-1])[0] == moments[::-1]


def test_an_open_order_is_refused_with_both_readings() -> None:
    column = TimeColumn(now=NOW)
    column.observe("2016-04-03 10:00")
    assert not column.is_open
    for value in ("05/05/2016 10:00", "03/04/2016 10:00", "nonsense"):
        column.observe(value)
    assert column.is_open
    with pytest.raises(PostsError) as caught:
        column.reader("when")
    assert caught.value.message == (
        "the dates in 'when' are ambiguous: '03/04/2016 10:00' is 2016-04-03 (DMY) or 2016-03-04 (MDY)"
    )
    assert caught.value.hint == (
        "Choose --time-format DMY or --time-format MDY, or a pattern such as '%d/%m/%Y %H:%M'; "
        "add --timezone if the times are not UTC"
    )
    column.observe("25/12/2016")
    assert not column.is_open


def test_a_day_of_one_digit_before_a_hyphen_is_observed_too() -> None:
    with pytest.raises(PostsError, match=r"'3-05-2016 10:00' is 2016-05-03 \(DMY\) or 2016-03-05 \(MDY\)"):
        read_column(["3-05-2016 10:00"])


def test_an_order_of_two_digits_has_three_readings() -> None:
    with pytest.raises(PostsError, match=r"is 2003-02-01 \(DMY\) or 2003-01-02 \(MDY\) or 2001-02-03 \(YMD\)"):
        read_column(["01/02/03"])
    with pytest.raises(PostsError, match=r"is 2003-02-01 \(DMY\) or 2003-01-02 \(MDY\)\."):
        read_column(["1/2/03"])


def test_two_orders_in_one_column_are_refused_with_a_date_of_each() -> None:
    with pytest.raises(PostsError) as caught:
        read_column(["13/02/2016", "01/02/2016", "02/14/2016"])
    assert caught.value.message == (
        "the dates in 'when' are written in several orders: '13/02/2016' is DMY and '02/14/2016' is MDY"
    )


def test_a_time_format_decides_the_order() -> None:
    assert read_one("03/04/2016 10:00", "DMY") == "2016-04-03T10:00:00Z"
    assert read_one("03/04/2016 10:00", "MDY") == "2016-03-04T10:00:00Z"
    assert read_one("2016-04-03 10:00", "DMY") == "2016-04-03T10:00:00Z"
    assert reason("13/04/2016 10:00", time_format="MDY") == "the time '13/04/2016 10:00' is not in the order MDY"


def test_a_time_format_is_a_pattern() -> None:
    assert read_one("04;03;2016 10h", "%m;%d;%Y %Hh") == "2016-04-03T10:00:00Z"
    assert read_one(" 03/04/16 +0200", "%d/%m/%y %z") == "2016-04-02T22:00:00Z"
    assert read_one(160403, "%y%m%d") == "2016-04-03T00:00:00Z"
    assert reason("2016-04-03", time_format="%d/%m/%Y") == "the time '2016-04-03' does not match '%d/%m/%Y'"


@pytest.mark.parametrize("time_format", ["dmy", "", "%H:%M", "%d/%m", "%Y-%m-%d %", "%Q", "DD/MM/YYYY"])
def test_a_wrong_time_format_is_refused(time_format: str) -> None:
    with pytest.raises(UsageError, match="is not a format of times"):
        TimeColumn(time_format, now=NOW)


def test_small_numbers_are_days_only_if_all_numbers_are_small() -> None:
    assert read_column([45296.5, "2024-01-05"])[0] == ["2024-01-05T12:00:00Z", "2024-01-05T00:00:00Z"]
    with pytest.raises(InvalidValueError):
        read_column([45296.5, 1704449730])


def test_a_value_that_needs_the_column_is_undecided_where_none_was_observed() -> None:
    read = TimeColumn(now=NOW).reader("when")
    assert read("2024-01-05") == read(1704412800)
    for value in ("03/04/2016", 45296):
        with pytest.raises(UndecidedTimeError):
            read(value)
    column = TimeColumn(now=NOW)
    column.observe("05/05/2016")  # decides nothing
    assert column.reader("when")("06/06/2016") > column.reader("when")("05/05/2016")
    with pytest.raises(UndecidedTimeError):
        column.reader("when")("03/04/2016")
    with pytest.raises(ValueError, match="several orders"):
        to_microseconds("03/04/2016")


# --- time zones -----------------------------------------------------------------------------------


def test_a_local_time_is_utc_or_in_the_time_zone_given() -> None:
    for local in ("2024-07-05 10:15:30", "5 Jul 2024 10:15:30", datetime(2024, 7, 5, 10, 15, 30), "20240705101530"):  # noqa: DTZ001
        assert read_one(local) == "2024-07-05T10:15:30Z"
        assert read_one(local, timezone="Europe/Berlin") == "2024-07-05T08:15:30Z"
        assert read_one(local, timezone="+05:30") == "2024-07-05T04:45:30Z"
    for exact in (
        "2024-07-05T10:15:30Z",
        "2024-07-05 10:15:30 UTC",
        1720174530,
        datetime(2024, 7, 5, 10, 15, 30, tzinfo=UTC),
    ):
        assert read_one(exact, timezone="Europe/Berlin") == "2024-07-05T10:15:30Z"
    assert read_one("05/07/2024 10:15", "%d/%m/%Y %H:%M", "America/New_York") == "2024-07-05T14:15:00Z"


def test_a_local_time_that_came_twice_is_the_first() -> None:
    values: list[object] = ["2024-10-27 01:59:59", "2024-10-27 02:30:00", "2024-10-27 03:00:00"]
    moments, column = read_column(values, timezone="Europe/Berlin")
    assert moments == ["2024-10-26T23:59:59Z", "2024-10-27T00:30:00Z", "2024-10-27T02:00:00Z"]
    assert column.warnings() == ["1 of the local times occurred twice when the clocks went back; the first is used"]


def test_a_local_time_that_never_came_is_read_as_before_the_change() -> None:
    values: list[object] = ["2024-03-31 01:59:59", "2024-03-31 02:30:00", "2024-03-31 03:00:00"]
    moments, column = read_column(values, timezone="Europe/Berlin")
    assert moments == ["2024-03-31T00:59:59Z", "2024-03-31T01:30:00Z", "2024-03-31T01:00:00Z"]
    assert column.warnings() == [
        "1 of the local times did not occur, since the clocks went forward; is the time zone right?"
    ]


def test_a_zone_name_with_several_meanings_needs_the_time_zone() -> None:
    assert reason("2024-01-05 10:15 IST") == "the time zone 'IST' is unknown or ambiguous"
    assert read_one("2024-01-05 10:15 IST", timezone="Asia/Kolkata") == "2024-01-05T04:45:00Z"
    assert read_one("2024-10-27 01:30 BST", timezone="Europe/London") == "2024-10-27T00:30:00Z"
    assert read_one("2024-10-27 01:30 GMT", timezone="Europe/London") == "2024-10-27T01:30:00Z"
    assert reason("2024-01-05 10:15 BST", timezone="Europe/London").startswith("the time zone 'BST'")


@pytest.mark.parametrize("name", ["Berlin", "Europe/Nowhere", "+25:00", "", "/etc/passwd", "Europe/../../x", "IST"])
def test_a_wrong_time_zone_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not a time zone"):
        TimeColumn(None, name, now=NOW)


# --- warnings -------------------------------------------------------------------------------------


def test_a_column_whose_every_time_is_midnight_is_reported() -> None:
    midnight = ["Every time is midnight: without times of day, the gaps between posts are whole days"]
    assert read_column(["2024-01-05", "2024-01-06"])[1].warnings() == midnight
    assert read_column(["2024-01-05 00:00:00", "5 Jan 2024"], timezone="Europe/Berlin")[1].warnings() == midnight
    assert read_column(["2024-01-05T00:00:00+02:00", "2024-01-06T00:00:00+02:00"])[1].warnings() == midnight
    assert read_column([45296, 45297])[1].warnings() == midnight
    assert read_column(["2024-01-05", "2024-01-06 00:00:01"])[1].warnings() == []
    assert read_column(["2024-01-05"])[1].warnings() == []


# --- date and time in two columns -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "clock"),
    [
        ("2024-01-05", "10:15:30"),
        (" 2024-01-05 ", " 10:15:30 "),
        ("2024-01-05 00:00:00", "10:15:30"),
        ("5 Jan 2024", "10:15:30 AM"),
        ("20240105", "101530"),
        (20240105, "101530"),
        (datetime(2024, 1, 5), time(10, 15, 30)),  # noqa: DTZ001
        (datetime(2024, 1, 5), "10:15:30"),  # noqa: DTZ001
        (date(2024, 1, 5), datetime(1899, 12, 30, 10, 15, 30)),  # noqa: DTZ001
        (45296, 0.42743055555),
        ("45296", "0.42743055555"),
        (np.datetime64("2024-01-05"), "10:15:30"),
    ],
)
def test_a_date_and_a_time_of_day_are_joined(day: object, clock: object) -> None:
    assert read_one(join_date_and_time(day, clock)) == "2024-01-05T10:15:30Z"


def test_a_date_without_a_time_of_day_is_midnight() -> None:
    for missing in (None, "", float("nan")):
        assert read_one(join_date_and_time("2024-01-05", missing)) == "2024-01-05T00:00:00Z"
    assert read_column([join_date_and_time("13/01/2024", "7:05"), join_date_and_time("01/02/2024", "18:40")])[0] == [
        "2024-01-13T07:05:00Z",
        "2024-02-01T18:40:00Z",
    ]


# --- properties -----------------------------------------------------------------------------------

PATTERNS = [
    *("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S UTC", "%Y/%m/%d %H.%M.%S", "%Y%m%d%H%M%S", "%a %b %d %H:%M:%S +0000 %Y"),
    *("%a, %d %b %Y %H:%M:%S GMT", "%d %B %Y, %I:%M:%S %p", "%I:%M:%S %p - %b %d, %Y", "%d/%b/%Y:%H:%M:%S +0000", "%c"),
]
MOMENTS = st.datetimes(datetime(1980, 1, 1), datetime(2025, 5, 30)).map(lambda moment: moment.replace(microsecond=0))  # noqa: DTZ001


@given(MOMENTS, st.sampled_from(PATTERNS))
def test_every_moment_survives_every_way_to_write_it(moment: datetime, pattern: str) -> None:
    assert read_one(moment.strftime(pattern)) == f"{moment.isoformat()}Z"


@given(MOMENTS, st.sampled_from([10**0, 10**3, 10**6, 10**9]), st.sampled_from([int, str, Decimal]))
def test_every_moment_survives_as_a_number(moment: datetime, units: int, kind: type) -> None:
    seconds = (moment - datetime(1970, 1, 1)) // timedelta(seconds=1)  # noqa: DTZ001
    assert read_one(kind(seconds * units)) == f"{moment.isoformat()}Z"


@given(st.lists(MOMENTS, min_size=1, max_size=5), st.sampled_from(["%m/%d/%Y %H:%M:%S", "%d.%m.%Y %H:%M:%S"]))
def test_a_column_is_read_right_or_refused(moments: list[datetime], pattern: str) -> None:
    try:
        read = read_column([moment.strftime(pattern) for moment in moments])[0]
    except PostsError:
        assert all(moment.day <= 12 for moment in moments)
    else:
        assert read == [f"{moment.isoformat()}Z" for moment in moments]


@given(st.text(max_size=60) | st.integers() | st.floats() | st.decimals())
def test_any_value_is_read_or_invalid(value: object) -> None:
    column = TimeColumn(None, "America/New_York", now=MAX_TIME)
    column.observe(value)
    with suppress(InvalidValueError, PostsError):
        assert isinstance(column.reader("when")(value), int)
