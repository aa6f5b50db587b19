"""Lift and rank AUC, compared with brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrainer.model_types.content import similarity
from retrainer.model_types.similarity import (
    MAX_SIMILARITY_OF_DIFFERENT_TEXTS,
    MatchingScores,
    matching_scores,
    similarity_rows,
)
from retrainer.posts.sample import sample_posts

# Few letters and words, so that texts share words, agree in length, and differ in nothing but case or space.
WORDS = st.lists(st.sampled_from(["a", "b", "A", "ab", "die", "Straße", "  ", "\n"]), max_size=6).map(" ".join)
TEXTS = st.one_of(WORDS, st.text(max_size=12))


def of(forecasts: list[str], posts: list[str]) -> MatchingScores:
    return matching_scores(similarity_rows(forecasts, posts))


def by_brute_force(forecasts: list[str], posts: list[str]) -> np.ndarray:
    return np.array(
        [
            [
                1.0
                if one.rstrip() == other.rstrip()
                else min(similarity(one, other), MAX_SIMILARITY_OF_DIFFERENT_TEXTS)
                for other in posts
            ]
            for one in forecasts
        ]
    )


def sample_texts() -> list[str]:
    return [str(text) for text in sample_posts()["content"].dropna()]


@given(st.lists(TEXTS, max_size=6), st.lists(TEXTS, max_size=6))
def test_the_rows_equal_the_similarity_of_every_pair(forecasts: list[str], posts: list[str]) -> None:
    rows = list(similarity_rows(forecasts, posts))
    assert len(rows) == len(forecasts)
    for row, expected in zip(rows, by_brute_force(forecasts, posts), strict=True):
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-15)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=2, max_size=8))
def test_lift_and_auc_equal_brute_force(pairs: list[tuple[str, str]]) -> None:
    forecasts, posts = (list(texts) for texts in zip(*pairs, strict=True))
    table = by_brute_force(forecasts, posts)
    n = len(pairs)
    mismatched = [table[i, j] for i in range(n) for j in range(n) if i != j]
    shares = [
        sum((table[i, i] > table[i, j]) + (table[i, i] == table[i, j]) / 2 for j in range(n) if j != i) / (n - 1)
        for i in range(n)
    ]
    lift, rank_auc = of(forecasts, posts)
    assert lift == pytest.approx(np.diag(table).mean() - np.mean(mismatched), abs=1e-12)
    assert rank_auc == pytest.approx(np.mean(shares), abs=1e-12)


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=40))
def test_a_constant_gets_a_lift_of_0_and_an_auc_of_half(constant: str, posts: list[str]) -> None:
    lift, rank_auc = of([constant] * len(posts), posts)
    assert abs(lift) < 1e-12
    assert abs(rank_auc - 0.5) < 1e-12


@given(st.lists(TEXTS, min_size=2, max_size=20, unique_by=str.rstrip))
def test_the_true_posts_get_an_auc_of_1_where_they_are_distinct(posts: list[str]) -> None:
    lift, rank_auc = of(posts, posts)
    assert rank_auc == 1
    assert lift > 0


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_shuffled_posts_get_about_0_and_half(seed: int) -> None:
    random = np.random.default_rng(seed)
    texts = list(dict.fromkeys(sample_texts()))
    posts = [texts[row] for row in random.permutation(len(texts))[:200]]
    shuffled = [posts[row] for row in random.permutation(len(posts))]
    rows = np.array(list(similarity_rows(shuffled, posts)))
    lift, rank_auc = matching_scores(rows)
    # By the standard error of a mean over the forecasts; two texts that met by chance are among what is allowed.
    share = np.array(
        [((row < row[i]).sum() + ((row == row[i]).sum() - 1) / 2) / (len(row) - 1) for i, row in enumerate(rows)]
    )
    assert abs(lift) < 6 * np.diag(rows).std() / np.sqrt(len(posts))
    assert abs(rank_auc - 0.5) < 6 * share.std() / np.sqrt(len(posts))


def test_a_single_forecast_gets_0_and_half() -> None:
    assert of(["a post"], ["a post"]) == (0, 0.5)


def test_the_same_words_in_another_order_are_a_different_text() -> None:
    assert similarity("a b", "b a") == 1
    assert of(["b a", "a b"], ["b a", "a b"]).rank_auc == 1
    assert next(similarity_rows(["a b"], ["b a"]))[0] == MAX_SIMILARITY_OF_DIFFERENT_TEXTS


def test_trailing_white_space_is_ignored() -> None:
    assert next(similarity_rows(["a b \n"], ["a b"]))[0] == 1
