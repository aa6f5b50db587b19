"""The forecasts, metrics and files of content."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from retrainer.errors import ArtifactError
from retrainer.model_types.base import Origins
from retrainer.model_types.content import (
    Content,
    ContentForecast,
    ContentTargets,
    first_rows,
    length_similarity,
    normalize_text,
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
    keep = CONTENT.scorable(forecasts)
    assert keep.tolist() == [True, False, False, False]
    scored = CONTENT.score(*CONTENT.select(forecasts, ContentTargets(["same", "b", "c", "d"]), keep))
    assert scored["overall_score"] == 1.0
    tally = CONTENT.count_outcomes(forecasts)
    assert {key: tally[key] for key in ("refusals", "truncated", "failed", "tokens")} == {
        "refusals": 1,
        "truncated": 1,
        "failed": 1,
        "tokens": 27,
    }
    assert tally["cost_usd"] == pytest.approx(0.03)


def test_posts_without_text_are_left_out() -> None:
    posts = regular_posts(5)
    posts.loc[1, "content"] = None
    posts.loc[3, "content"] = "  \n"
    usable = CONTENT.usable_posts(posts)
    assert usable["post_id"].tolist() == ["p00000", "p00002", "p00004"]
    assert usable.index.tolist() == [0, 1, 2]


def test_without_any_text_no_post_is_usable() -> None:
    posts = regular_posts(3)
    posts["content"] = pd.Series([None] * 3, dtype=object)
    assert CONTENT.usable_posts(posts).empty


@pytest.mark.parametrize("answer", ["text", None, {"a": 1}, [1, 2], ["x", "y"]])
def test_an_answer_that_is_not_a_list_of_forecasts_is_refused(answer: object) -> None:
    with pytest.raises(TypeError, match="instead of a"):
        CONTENT.validate(answer, 2)


def test_a_wrong_number_of_forecasts_is_refused() -> None:
    with pytest.raises(ValueError, match="1 forecasts instead of 2"):
        CONTENT.validate([ContentForecast("a")], 2)


def test_an_ok_forecast_needs_a_text() -> None:
    with pytest.raises(ValueError, match="without a text"):
        CONTENT.validate([ContentForecast(None)], 1)


@pytest.mark.parametrize("given_agreement", [-0.1, 1.1, float("nan")])
def test_an_agreement_that_is_not_between_0_and_1_is_refused(given_agreement: float) -> None:
    with pytest.raises(ValueError, match="agreement of samples"):
        CONTENT.validate([ContentForecast("a", agreement=given_agreement)], 1)


@given(st.lists(st.text(), min_size=2, max_size=2))
def test_a_forecasts_file_round_trips_any_text(texts: list[str]) -> None:
    posts = regular_posts(4)
    rows = np.array([2, 3])
    forecasts = [ContentForecast(texts[0], "ok", 1, 2, 0.5, agreement=0.25), ContentForecast(None, "refusal")]
    naive = [ContentForecast(texts[1]), ContentForecast("")]
    origins = Origins.before(posts, rows)
    data = CONTENT.dump(forecasts, ContentTargets(texts), origins, ["a", "b"], naive)
    *stored, times = CONTENT.parse(data)
    assert stored == [forecasts, ContentTargets(texts), ["a", "b"], naive]
    assert (times == origins.time).all()


def posts_with_texts(*texts: str) -> pd.DataFrame:
    posts = regular_posts(len(texts))
    posts["content"] = list(texts)
    return posts


def test_a_copy_repeats_a_known_post_regardless_of_case_and_space() -> None:
    posts = posts_with_texts("one", "Two  Words", "three", "four", "two words", "five")
    rows = np.array([1, 2, 3, 5])
    targets = CONTENT.targets(posts, Origins.before(posts, rows), rows)
    predicted = [
        ContentForecast("two words"),
        ContentForecast("TWO\nwords "),
        ContentForecast("three"),
        ContentForecast("x"),
    ]
    assert targets.find_copies(predicted) == [False, True, True, False]
    assert CONTENT.score(predicted, targets)["copy_rate"] == 0.5


def test_repeating_a_later_post_is_not_a_copy() -> None:
    posts = posts_with_texts("one", "two", "three")
    rows = np.array([1, 2])
    targets = CONTENT.targets(posts, Origins.before(posts, rows), rows)
    assert targets.find_copies([ContentForecast("two"), ContentForecast("three")]) == [False, False]


def test_distinct_texts_ignore_case_and_space() -> None:
    forecasts = [ContentForecast(text) for text in ("a b", "A  b", "c", "d")]
    assert CONTENT.score(forecasts, ContentTargets(["w", "x", "y", "z"]))["distinct_share"] == 0.75


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=5))
def test_bleu_and_chrf_are_those_of_sacrebleu(pairs: list[tuple[str, str]]) -> None:
    forecasts, posts = (list(texts) for texts in zip(*pairs, strict=True))
    metrics = CONTENT.score([ContentForecast(text) for text in forecasts], ContentTargets(posts))
    assert metrics["bleu"] == sacrebleu.corpus_bleu(forecasts, [posts], force=True).score
    assert metrics["chrf"] == sacrebleu.corpus_chrf(forecasts, [posts]).score


def test_other_metrics_do_not_affect_the_overall_score() -> None:
    constant = [ContentForecast("x" * 20)] * 3
    metrics = CONTENT.score(constant, ContentTargets(["y" * 20, "z" * 10, "w" * 40]))
    assert metrics["overall_score"] == pytest.approx((1 + 0.5 + 0.5) / 3 / 2)
    assert metrics["lift"] == pytest.approx(0, abs=1e-12)
    assert metrics["rank_auc"] == 0.5


@given(
    st.lists(st.sampled_from(["a", "A ", "b", "a b", "c"]), min_size=12, max_size=12),
    st.lists(st.sampled_from(["a", "b", "A  B", "c", ""]), min_size=8, max_size=8),
)
def test_every_metric_can_be_recomputed_from_the_file(texts: list[str], predicted: list[str]) -> None:
    posts = posts_with_texts(*texts)
    rows = np.array([3, 5, 6, 11])
    origins = Origins.before(posts, rows)
    targets = CONTENT.targets(posts, origins, rows)
    forecasts, naive = ([ContentForecast(text) for text in part] for part in (predicted[:4], predicted[4:]))
    forecasts[2] = ContentForecast(None, "refusal")
    stored = CONTENT.parse(CONTENT.dump(forecasts, targets, origins, ["a", "b", "c", "d"], naive))
    assert stored.naive is not None
    keep = CONTENT.scorable(forecasts)
    for before, after in ((forecasts, stored.forecasts), (naive, stored.naive)):
        again = CONTENT.score(*CONTENT.select(after, stored.targets, keep))
        assert again == CONTENT.score(*CONTENT.select(before, targets, keep))
        assert "copy_rate" in again


def test_a_file_from_a_release_without_copies_gives_every_other_metric() -> None:
    posts = posts_with_texts("one", "two", "one")
    rows = np.array([1, 2])
    origins = Origins.before(posts, rows)
    targets = CONTENT.targets(posts, origins, rows)
    predicted = [ContentForecast("one"), ContentForecast("two")]
    lines = [json.loads(line) for line in CONTENT.dump(predicted, targets, origins, ["a", "b"], predicted).splitlines()]
    assert [line["copy"] for line in lines] == [True, True]
    old = [{key: line[key] for key in line if key not in {"position", "copy", "baseline_copy"}} for line in lines]
    stored = CONTENT.parse("".join(json.dumps(line) + "\n" for line in old).encode())
    now = CONTENT.score(predicted, targets)
    assert now.pop("copy_rate") == 1
    assert CONTENT.score(stored.forecasts, stored.targets) == now


def test_copies_cannot_be_found_without_positions() -> None:
    with pytest.raises(ValueError, match="copies cannot be found"):
        ContentTargets(["a"]).find_copies([ContentForecast("a")])


def test_the_first_row_of_a_text_is_its_lowest() -> None:
    assert normalize_text("  Die  STRASSE\n") == normalize_text("die straße")
    assert first_rows(enumerate(["a", "b", "A "])) == {"a": 0, "b": 1}
    assert first_rows(zip([7, 5, 3], ["a", "b", "A "], strict=True)) == {"a": 3, "b": 5}


@pytest.mark.parametrize("data", [b"[]", b"{}", b"no JSON", b'{"actual": "a"}', "ä".encode(), b"[" * 100_000])
def test_damaged_forecasts_are_one_error(data: bytes) -> None:
    with pytest.raises(ArtifactError, match="a file of forecasts is damaged"):
        CONTENT.parse(data)
