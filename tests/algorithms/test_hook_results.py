"""What hooks may not return, and what the message says after "its hook … returned"."""

from __future__ import annotations

from typing import Any

import pytest

from retrainer.algorithms.hook_results import check_context_parts, check_importances, check_metrics
from retrainer.algorithms.hookspecs import ContextPart, Importance

PART = ContextPart("last_posts", "the last posts")


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ("last_posts", "a str instead of a list of ContextPart"),
        ([("last_posts", "the last posts")], "a tuple instead of a ContextPart"),
        ([PART, PART], "two parts of the same name"),
        ([ContextPart("all", "everything")], "a part with the reserved name 'all'"),
        ([ContextPart("Last posts", "the last posts")], "a part with the name 'Last posts'"),
        ([ContextPart("last_posts", " ")], "the part 'last_posts' without a label"),
    ],
)
def test_parts_that_cannot_be_named_or_shown_are_refused(parts: Any, problem: str) -> None:
    assert check_context_parts((PART,)) == [PART]
    with pytest.raises((TypeError, ValueError), match=problem):
        check_context_parts(parts)


@pytest.mark.parametrize(
    ("metrics", "problem"),
    [
        ("f1", "'f1' instead of a mapping of names to numbers"),
        ({"f1": "high"}, "instead of a mapping of names to numbers"),
        ({"f1": float("nan")}, "nan for 'f1'"),
    ],
)
def test_metrics_that_are_no_numbers_are_refused(metrics: Any, problem: str) -> None:
    assert check_metrics({"f1": 1}) == {"f1": 1.0}
    with pytest.raises((TypeError, ValueError), match=problem):
        check_metrics(metrics)


def test_importances_are_a_list() -> None:
    assert check_importances([Importance("hour", 1, "bits")]) == [Importance("hour", 1.0, "bits")]
    with pytest.raises(TypeError, match="a dict instead of a list of Importance"):
        check_importances({})
