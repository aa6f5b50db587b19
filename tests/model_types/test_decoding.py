"""Minimum Bayes risk decoding."""

from __future__ import annotations

import pytest

from retrainer.model_types.decoding import choose_text, sample_agreement

KNOWN = ["the fog lifts", "the fog lifts again"]


def test_copies_are_avoided_if_so_configured() -> None:
    assert choose_text(["something else entirely"], KNOWN, copies=True) in KNOWN
    assert choose_text(["something else entirely", "The  FOG lifts"], KNOWN, copies=False) == "something else entirely"


def test_the_sample_most_like_the_others_and_the_last_posts_is_chosen() -> None:
    samples = ["rain in the north", "rain in the south", "a much longer text about nothing of the kind"]
    assert choose_text(samples, [], copies=False) == samples[0]
    assert choose_text(samples, ["rain in the south all day"], copies=False) == samples[1]


def test_a_single_sample_is_chosen_even_if_it_repeats_a_post() -> None:
    assert choose_text(["The fog lifts"], KNOWN, copies=False) == "The fog lifts"


def test_without_a_text_a_post_is_chosen_and_without_posts_nothing_can_be() -> None:
    assert choose_text(["", ""], KNOWN, copies=False) in KNOWN
    with pytest.raises(ValueError, match="nothing to choose from"):
        choose_text([""], [], copies=True)


def test_the_agreement_of_samples_is_the_mean_similarity_of_their_pairs() -> None:
    assert sample_agreement(["one two", "one two", "one two"]) == 1
    assert sample_agreement(["aa", "bb", "aa"]) == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert sample_agreement(["one"]) is None
