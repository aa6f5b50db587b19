"""Ids in one spelling, ids made from time and text, and counts."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrainer.posts.validation import InvalidValueError, make_id, parse_count, parse_id


@pytest.mark.parametrize(
    "written",
    [
        101,
        "101",
        "101 ",
        " 101",
        101.0,
        "101.0",
        "101.",
        "'101",
        "'101'",
        '"101"',
        '="101"',
        Decimal(101),
        Decimal("101.00"),
    ],
)
def test_every_spelling_of_an_id_is_one_id(written: object) -> None:
    assert parse_id(written) == "101"


@pytest.mark.parametrize(
    "written",
    [
        "107797156496908384",
        "9" * 500,
        "007",
        "1e5",
        "at://did:plc:x/y",
        "3k2a.b",
        "-5",
        "1.5",
        "1,234",
        "'tis",
        "é",
        "a b",
    ],
)
def test_any_other_text_is_an_id_as_written(written: str) -> None:
    assert parse_id(written) == written


@given(st.integers())
def test_a_whole_number_of_any_length_is_exact(number: int) -> None:
    assert parse_id(number) == parse_id(f" {number} ") == str(number)


@given(st.integers(-(2**53) + 1, 2**53 - 1))
def test_a_whole_floating_point_number_below_two_to_the_53_is_exact(number: int) -> None:
    assert parse_id(float(number)) == parse_id(f"{number}.0") == str(number)


@pytest.mark.parametrize(
    "written",
    [2.0**53, 1.07e17, -(2.0**53), "9007199254740992.0", "1.08E+17", Decimal("107797156496908384.0"), "1e+20"],
)
def test_a_floating_point_number_that_skips_whole_numbers_is_refused(written: object) -> None:
    with pytest.raises(InvalidValueError, match="is a floating-point number, whose last digits are lost"):
        parse_id(written)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        *((missing, "the id is missing") for missing in (None, "", "  ", float("nan"))),
        (1.5, "the id '1.5' is not a whole number"),
        (float("inf"), "the id 'inf' is a floating-point number, whose last digits are lost"),
        (True, "the id 'True' is neither text nor a whole number"),
        (["a"], "the id '['a']' is neither text nor a whole number"),
        ("a\0b", "the id 'a b' contains a character that cannot be stored"),
        ("a\ud800", "the id 'a ' contains a character that cannot be stored"),
    ],
)
def test_an_id_that_is_missing_or_not_exact_is_refused(written: object, reason: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_id(written)
    assert str(caught.value) == reason


def test_a_made_id_depends_on_time_and_text_alone() -> None:
    assert make_id(1_700_000_000_000_000, "one") == "made-03a1338a7856c0efdf49"
    ids = {make_id(0, None), make_id(1, None), make_id(0, "one"), make_id(1, "one"), make_id(0, "two")}
    assert len(ids) == 5
    assert make_id(0, None) == make_id(0, "")


@pytest.mark.parametrize(
    ("written", "count"),
    [
        *((0, 0), (7, 7), ("7", 7), (" 007 ", 7), (7.0, 7), ("7.0", 7), ("9223372036854775807", 2**63 - 1)),
        *(("1,234", 1234), ("12,345,678", 12345678), ("1 234", 1234), ("1\N{NARROW NO-BREAK SPACE}234", 1234)),
        *(
            ("1.234.567", 1234567),
            ("1'234", 1234),
            ("1.2K", 1200),
            ("3k", 3000),
            ("1,5M", 1_500_000),
            ("2 B", 2 * 10**9),
        ),
        *((None, None), ("", None), ("  ", None), (float("nan"), None), ("NA", None), ("NULL", None), ("nan", None)),
    ],
)
def test_a_count_is_read_however_its_digits_are_written(written: object, count: int | None) -> None:
    assert parse_count(written) == count


@pytest.mark.parametrize(
    "written",
    [
        "-1",
        -1,
        "n/a",
        "many",
        1.5,
        "1.5",
        "1.234",
        "1,23",
        "1e3",
        "9223372036854775808",
        "9" * 5000,
        True,
        [],
        {},
        "K",
        "1.2Q",
        float("inf"),
    ],
)
def test_a_count_that_cannot_be_read_says_so(written: object) -> None:
    with pytest.raises(InvalidValueError, match="is not a whole number of 0 or more"):
        parse_count(written)
