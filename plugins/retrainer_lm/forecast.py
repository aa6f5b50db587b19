"""Forecasts: of several texts drawn from the network, the most typical one."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import numpy as np

from retrainer.algorithms import ContentForecast, choose_text, sample_agreement, utc_times
from retrainer_lm import KNOWN_POSTS
from retrainer_lm.devices import deterministic
from retrainer_lm.network import load_network
from retrainer_lm.windows import PostTokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from retrainer.algorithms import Origins
    from retrainer_lm import LmOptions
    from retrainer_lm.network import Network
    from retrainer_lm.storage import LanguageModel

log = logging.getLogger(__name__)


def predict_texts(
    model: LanguageModel,
    posts: pd.DataFrame,
    origins: Origins,
    options: LmOptions,
    without: frozenset[str] = frozenset(),
) -> list[ContentForecast]:
    """Return one text per origin.

    Args:
        without: the parts of the context to leave out: `last_posts`, of the prompt and of those that the forecast is
            chosen by; `moment`, of all posts in the prompt.

    Raises:
        ArtifactError: the model was trained on another base model.
        ConfigError: the base model cannot be loaded.
        AlgorithmError: there is too little memory.
    """
    times = utc_times(posts)
    moments = origins.time if origins.target_time is None else origins.target_time
    forecasts: list[ContentForecast] = []
    with deterministic():
        network = load_network(model, options)
        tokens = PostTokens(network.tokenizer, posts, times)
    with deterministic(network.threads):
        for position, moment in zip(origins.position.tolist(), moments, strict=True):
            if len(forecasts) == 1:  # the first one says how long the others take
                others = len(origins) - 1
                seconds = forecasts[0].latency_seconds or 0.0
                log.info("One forecast took %.1f s; the other %d take about %.0f s", seconds, others, others * seconds)
            started = time.perf_counter()
            context = 0 if "last_posts" in without else options.context_posts
            prompt = tokens.prompt(position, None if "moment" in without else moment, context)
            samples = draw_texts(network, prompt, moment, options)
            first = position + 1 if "last_posts" in without else max(0, position + 1 - KNOWN_POSTS)
            known = [str(text).strip() for text in posts["content"].iloc[first : position + 1]]
            text = choose_text(samples, known, copies=options.copies == "allow") if any(samples) or known else ""
            agreement = sample_agreement([sample for sample in samples if sample])
            forecasts.append(ContentForecast(text, latency_seconds=time.perf_counter() - started, agreement=agreement))
    return forecasts


def draw_texts(network: Network, prompt: Sequence[int], moment: np.datetime64, options: LmOptions) -> list[str]:
    """Return the samples for a post at a moment; the same each time."""
    seed = np.random.default_rng((options.seed, len(prompt), int(moment.astype(np.int64)) % 2**63)).integers(2**62)
    texts: list[str] = network.sample(prompt, options.samples, options.max_new_tokens, int(seed))
    return texts
