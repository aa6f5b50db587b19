"""Content scores: the documented formulas, and nothing that is not a text."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrainer.model_types.base import Origins, StoredForecasts
from retrainer.model_types.content import (
    Content,
    ContentForecast,
    ContentTargets,
    length_similarity,
    similarity,
    word_overlap,
)
from tests.conftest import regular_posts

CONTENT = Content()


def test_length_similarity_is_in_characters_without_trailing_space() -> None:
    assert length_similarity("abcd", "ab") == 0.5
    assert length_similarity("abcd  \n", "abcd") == 1.0
    assert length_similarity("", " ") == 1.0
    assert length_similarity("", "a") == 0.0


def test_word_overlap_is_the_jaccard_index_of_lower_cased_words() -> None:
    assert word_overlap("The cat sat", "the CAT ran") == pytest.approx(2 / 4)
    assert word_overlap("", " ") == 1.0
    assert word_overlap("a", "") == 0.0


@given(st.text(), st.text())
def test_similarity_is_symmetric_between_0_and_1_and_1_with_itself(one: str, other: str) -> None:
    assert similarity(one, one) == 1.0
    assert similarity(one, other) == similarity(other, one)
    assert 0 <= similarity(one, other) <= 1


def test_the_overall_score_is_the_mean_of_both() -> None:
    forecasts = [ContentForecast("one two"), ContentForecast("three")]
    metrics = CONTENT.score(forecasts, ContentTargets(["one two", "four five six"]))
    length = (1 + 5 / 13) / 2
    assert metrics["length_similarity"] == pytest.approx(length)
    assert metrics["word_overlap"] == pytest.approx(0.5)
    assert metrics["overall_score"] == pytest.approx((length + 0.5) / 2)


def test_a_refusal_is_counted_and_not_scored() -> None:
    forecasts = [
        ContentForecast("same"),
        ContentForecast(None, "refusal", 10, 2, 0.01),
        ContentForecast("cut sh", "truncated", 10, 5, 0.02),
        ContentForecast(None, "failed"),
    ]
    keep = CONTENT.scored(forecasts)
    assert keep.tolist() == [True, False, False, False]
    scored = CONTENT.score(*CONTENT.select(forecasts, ContentTargets(["same", "b", "c", "d"]), keep))
    assert scored["overall_score"] == 1.0
    tally = CONTENT.tally(forecasts)
    assert {key: tally[key] for key in ("refusals", "truncated", "failed", "tokens")} == {
        "refusals": 1,
        "truncated": 1,
        "failed": 1,
        "tokens": 27,
    }
    assert tally["cost_usd"] == pytest.approx(0.03)


def test_posts_without_text_do_not_count_and_keep_their_order() -> None:
    posts = regular_posts(5)
    posts.loc[1, "content"] = None
    posts.loc[3, "content"] = "  \n"
    usable = CONTENT.usable(posts)
    assert usable["post_id"].tolist() == ["p00000", "p00002", "p00004"]
    assert usable.index.tolist() == [0, 1, 2]


def test_no_text_at_all_leaves_no_post() -> None:
    posts = regular_posts(3)
    posts["content"] = pd.Series([None] * 3, dtype=object)
    assert CONTENT.usable(posts).empty


@pytest.mark.parametrize("answer", ["text", None, {"a": 1}, [1, 2], ["x", "y"]])
def test_what_is_no_list_of_forecasts_is_refused(answer: object) -> None:
    with pytest.raises(TypeError, match="instead of a"):
        CONTENT.checked(answer, 2)


def test_a_wrong_number_of_forecasts_is_refused() -> None:
    with pytest.raises(ValueError, match="1 forecasts instead of 2"):
        CONTENT.checked([ContentForecast("a")], 2)


def test_an_ok_forecast_needs_a_text() -> None:
    with pytest.raises(ValueError, match="without a text"):
        CONTENT.checked([ContentForecast(None)], 1)


@given(st.lists(st.text(), min_size=2, max_size=2))
def test_a_forecasts_file_gives_back_any_text(texts: list[str]) -> None:
    posts = regular_posts(4)
    rows = np.array([2, 3])
    forecasts = [ContentForecast(texts[0], "ok", 1, 2, 0.5), ContentForecast(None, "refusal")]
    naive = [ContentForecast(texts[1]), ContentForecast("")]
    data = CONTENT.dump(forecasts, ContentTargets(texts), Origins.before(posts, rows), ["a", "b"], naive)
    assert CONTENT.parse(data) == StoredForecasts(forecasts, ContentTargets(texts), ["a", "b"], naive)
