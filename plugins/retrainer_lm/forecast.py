"""Forecasts: of several texts drawn from the network, the most typical one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from retrainer.algorithms import ContentForecast, normalize_text, similarity, utc_times
from retrainer_lm import KNOWN_POSTS
from retrainer_lm.devices import deterministic
from retrainer_lm.network import load_network
from retrainer_lm.windows import PostTokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from retrainer.algorithms import Origins
    from retrainer_lm import LmOptions
    from retrainer_lm.storage import LanguageModel


def predict_texts(
    model: LanguageModel, posts: pd.DataFrame, origins: Origins, options: LmOptions
) -> list[ContentForecast]:
    """Return one text per origin.

    Raises:
        ArtifactError: the model was trained by another release, or on another base model.
        ConfigError: the base model cannot be loaded.
        AlgorithmError: there is too little memory.
    """
    times = utc_times(posts)
    moments = origins.time if origins.target_time is None else origins.target_time
    forecasts = []
    with deterministic():
        network = load_network(model, options)
        tokens = PostTokens(network.tokenizer, posts, times)
        for position, moment in zip(origins.position.tolist(), moments, strict=True):
            started = time.perf_counter()
            prompt = tokens.prompt(position, moment, options.context_posts)
            seed = int(
                np.random.default_rng((options.seed, len(prompt), int(moment.astype(np.int64)) % 2**63)).integers(2**62)
            )
            samples = network.sample(prompt, options.samples, options.max_new_tokens, seed)
            known = [
                str(text).strip() for text in posts["content"].iloc[max(0, position + 1 - KNOWN_POSTS) : position + 1]
            ]
            text = choose_text(samples, known, copies=options.copies == "allow")
            forecasts.append(ContentForecast(text, latency_seconds=time.perf_counter() - started))
    return forecasts


def choose_text(samples: Sequence[str], known: Sequence[str], *, copies: bool) -> str:
    """Return the text with the highest expected score: minimum Bayes risk decoding.

    The samples and the last posts together stand for what the next post may be; the text that is most like them on
    average by the content score is the forecast (Kumar and Byrne 2004, "Minimum Bayes-risk decoding for statistical
    machine translation"; Eikema and Aziz 2022, "Sampling-based approximations to minimum Bayes risk decoding").

    Args:
        samples: drawn from the network.
        known: the last posts.
        copies: whether one of these may be chosen.
    """
    drawn = [text for text in samples if text]
    if not copies:
        taken = {normalize_text(text) for text in known}
        drawn = [text for text in drawn if normalize_text(text) not in taken] or drawn
    candidates = list(dict.fromkeys([*drawn, *(known if copies or not drawn else [])]))
    votes = [*(text for text in samples if text), *known]
    expected = [sum(similarity(text, other) for other in votes) for text in candidates]
    return candidates[int(np.argmax(expected))]
