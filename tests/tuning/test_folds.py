"""The folds: in the order of time, without overlap, none without enough posts."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrainer.errors import InsufficientData
from retrainer.tuning.folds import MIN_FIRST_POSTS, MIN_TARGETS, open_fold, plan_folds
from retrainer.tuning.plan import FoldBounds
from tests.conftest import regular_posts


@given(st.integers(70, 1_000_000))
def test_folds_follow_each_other_and_the_last_one_is_held_back(count: int) -> None:
    folds, held_back = plan_folds(count)
    assert 2 <= len(folds) <= 5
    blocks = [*folds, held_back]
    assert held_back.end == count
    assert all(earlier.end == later.start for earlier, later in itertools.pairwise(blocks))
    assert {block.end - block.start for block in blocks} == {held_back.end - held_back.start}
    assert held_back.end - held_back.start >= MIN_TARGETS
    assert folds[0].start >= max(MIN_FIRST_POSTS, count // 2)


@pytest.mark.parametrize(("count", "folds"), [(70, 2), (179, 2), (180, 2), (240, 3), (300, 4), (400, 5), (100_000, 5)])
def test_there_are_more_folds_in_a_longer_stream(count: int, folds: int) -> None:
    assert len(plan_folds(count)[0]) == folds


@pytest.mark.parametrize("count", [2, 69])
def test_too_few_posts_for_two_folds_are_an_error(count: int) -> None:
    with pytest.raises(InsufficientData, match=rf"{count} training posts .* 70 training posts are needed"):
        plan_folds(count)


def test_a_fold_forecasts_its_posts_from_those_before() -> None:
    fold = open_fold(regular_posts(100), FoldBounds(60, 80), "timing", 200, "post")
    assert len(fold.training) == 60
    assert fold.window.rows.tolist() == list(range(60, 80))
    assert fold.window.origins.position.tolist() == list(range(59, 79))
    assert len(fold.posts) == 80  # those after it are unknown


def test_a_fold_whose_posts_have_all_one_time_is_an_error_with_clock_origins() -> None:
    posts = regular_posts(100)
    posts.loc[60:79, "created_at"] = posts["created_at"].iloc[60]
    assert len(open_fold(posts, FoldBounds(60, 80), "timing", 200, "post").window.rows) == 20
    with pytest.raises(InsufficientData, match="has 0 targets, fewer than 10"):
        open_fold(posts, FoldBounds(60, 80), "timing", 200, "clock")


def test_a_fold_before_which_all_posts_have_one_time_is_an_error() -> None:
    posts = regular_posts(100)
    posts.loc[:59, "created_at"] = pd.Timestamp("2020-01-01", tz="UTC")
    with pytest.raises(InsufficientData, match="same time"):
        open_fold(posts, FoldBounds(60, 80), "timing", 200, "post")
