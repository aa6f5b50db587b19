"""Nats per token and likelihood lift, by hand and against models whose lift is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrainer.errors import ArtifactError
from retrainer.model_types import get_model_type
from retrainer.model_types.base import Origins
from retrainer.model_types.content import ContentForecast, ContentTargets
from retrainer.model_types.likelihood import (
    EARLIER_ORIGINS,
    Likelihoods,
    PostLikelihood,
    group_by_post,
    likelihood_metrics,
    pair_origins_and_posts,
    validate_likelihoods,
)
from tests.conftest import regular_posts

CONTENT = get_model_type("content")
NATS = st.floats(min_value=-1e4, max_value=-1e-3)


def test_nats_and_lift_of_three_posts_by_hand() -> None:
    posts = [PostLikelihood(-6.0, 2), PostLikelihood(-3.0, 3, (-9.0,)), PostLikelihood(-4.0, 1, (-3.0, -7.0))]
    metrics = likelihood_metrics(posts)
    assert metrics["nats_per_token"] == pytest.approx(13 / 6)
    assert metrics["likelihood_lift"] == pytest.approx(((9 - 3) / 3 + (5 - 4) / 1) / 2)


def test_a_single_post_has_no_lift() -> None:
    assert likelihood_metrics([PostLikelihood(-6.0, 2)]) == {"nats_per_token": 3.0, "likelihood_lift": 0.0}


@pytest.mark.parametrize("count", [0, 1, 2, 5, 60])
def test_each_post_is_paired_with_its_own_origin_and_with_earlier_ones_only(count: int) -> None:
    pairs = pair_origins_and_posts(count)
    assert (np.diff(pairs[:, 0]) >= 0).all()  # texts of the same origin are next to each other
    for post in range(count):
        origins = pairs[pairs[:, 1] == post, 0].tolist()
        assert sorted(set(origins)) == origins
        assert origins[-1] == post
        assert len(origins) == 1 + min(post, EARLIER_ORIGINS)


def test_the_earlier_origins_are_evenly_spaced() -> None:
    pairs = pair_origins_and_posts(101)
    assert pairs[pairs[:, 1] == 100, 0].tolist() == [12, 37, 62, 87, 100]


@given(st.lists(st.tuples(NATS, st.integers(1, 300)), min_size=1, max_size=30), st.data())
def test_a_model_that_ignores_its_context_has_a_lift_of_exactly_0_on_any_of_the_posts(
    texts: list[tuple[float, int]], data: st.DataObject
) -> None:
    pairs = pair_origins_and_posts(len(texts))
    nats, tokens = (np.array(values)[pairs[:, 1]] for values in zip(*texts, strict=True))
    by_post = group_by_post(pairs, Likelihoods(nats, tokens), len(texts))
    chosen = data.draw(st.lists(st.sampled_from(by_post), min_size=1, unique_by=id))
    assert likelihood_metrics(chosen)["likelihood_lift"] == 0


def test_the_lift_is_what_the_context_tells() -> None:
    """Posts repeat the topic of the post before; from an origin, a post on its topic has .8, one on another .1."""
    topics = np.random.default_rng(0).integers(3, size=400)  # of each origin, and of the post after it
    pairs = pair_origins_and_posts(400)
    nats = np.log(np.where(topics[pairs[:, 0]] == topics[pairs[:, 1]], 0.8, 0.1))
    by_post = group_by_post(pairs, Likelihoods(nats, np.ones(len(pairs), dtype=np.int64)), 400)
    metrics = likelihood_metrics(by_post)
    assert metrics["nats_per_token"] == pytest.approx(-math.log(0.8))
    assert metrics["likelihood_lift"] == pytest.approx(math.log(0.8 / 0.1) * 2 / 3, abs=0.1)  # two in three are others


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ([-1.0, -2.0], "a list instead of Likelihoods"),
        (Likelihoods(np.array([-1.0]), np.array([1])), r"nats of shape \(1,\) instead of \(2,\)"),
        (Likelihoods(np.full((2, 1), -1.0), np.array([1, 1])), r"nats of shape \(2, 1\)"),
        (Likelihoods(np.array([-1.0, -np.inf]), np.array([1, 1])), "nats that are not finite"),
        (Likelihoods(np.array([-1.0, np.nan]), np.array([1, 1])), "nats that are not finite"),
        (Likelihoods(np.array([-1.0, 0.25]), np.array([1, 1])), "the log-likelihood 0.25, which is above 0"),
        (Likelihoods(np.array([-1.0, -2.0]), np.array([1, 0])), "0 tokens for a text"),
        (Likelihoods(np.array([-1.0, -2.0]), np.array([1, 1.5])), "1.5 tokens for a text"),
        (Likelihoods(np.array(["a", "b"]), np.array([1, 1])), "could not convert"),
    ],
)
def test_an_impossible_likelihood_is_refused(answer: object, problem: str) -> None:
    with pytest.raises((TypeError, ValueError), match=problem):
        validate_likelihoods(answer, 2)


def test_likelihoods_of_other_types_become_floats_and_integers() -> None:
    given_lists = Likelihoods([-1, 0], np.array([2.0, 1.0], dtype=np.float32))  # type: ignore[arg-type]
    valid = validate_likelihoods(given_lists, 2)
    assert valid.nats.tolist() == [-1.0, 0.0]
    assert valid.tokens.dtype == np.int64


def test_the_metrics_are_recomputed_from_a_forecasts_file_and_missing_in_an_older_one() -> None:
    posts = regular_posts(4)
    rows = np.array([2, 3])
    origins = Origins.before(posts, rows)
    targets = ContentTargets([str(text) for text in posts["content"].iloc[rows]])
    likelihoods = [PostLikelihood(-7.25, 3), PostLikelihood(-5.5, 2, (-8.0,))]
    forecasts = [ContentForecast("text", likelihood=likelihood) for likelihood in likelihoods]
    data = CONTENT.dump(forecasts, targets, origins, ["a", "b"], [ContentForecast("x"), ContentForecast("y")])
    stored = CONTENT.parse(data)
    assert stored.forecasts == forecasts
    assert CONTENT.score(stored.forecasts, targets)["likelihood_lift"] == 1.25
    older = CONTENT.parse(
        b"".join(line.partition(b', "likelihood"')[0] + b', "actual": "a"}\n' for line in data.splitlines())
    )
    assert not {"likelihood_lift", "nats_per_token"} & CONTENT.score(older.forecasts, older.targets).keys()
    with pytest.raises(ArtifactError, match="a file of forecasts is damaged"):
        CONTENT.parse(data.replace(b'"tokens": 3', b'"tokens": "many"'))


def test_the_likelihoods_of_posts_are_selected_with_their_forecasts() -> None:
    forecasts = [ContentForecast("a", likelihood=PostLikelihood(-float(number), 1)) for number in range(1, 4)]
    targets = ContentTargets(["a", "b", "c"])
    for keep in ([True, False, True], [False, True, False]):
        chosen = CONTENT.select(forecasts, targets, np.array(keep))
        assert CONTENT.score(*chosen)["nats_per_token"] == 2.0


def test_no_metric_without_the_likelihood_of_every_post() -> None:
    one = ContentForecast("a", likelihood=PostLikelihood(-1.0, 1))
    metrics = CONTENT.score([one, ContentForecast("b")], ContentTargets(["a", "b"]))
    assert "nats_per_token" not in metrics
