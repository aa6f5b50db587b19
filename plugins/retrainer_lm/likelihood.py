"""How likely the network thinks texts, each as the next post."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from retrainer.algorithms import Likelihoods, utc_times
from retrainer_lm.devices import deterministic
from retrainer_lm.network import load_network
from retrainer_lm.windows import PostTokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from retrainer.algorithms import Origins
    from retrainer_lm import LmOptions
    from retrainer_lm.storage import LanguageModel


def likelihoods_of_texts(
    model: LanguageModel, posts: pd.DataFrame, origins: Origins, texts: Sequence[str], options: LmOptions
) -> Likelihoods:
    """Return the log-likelihoods of n texts, each as the post that follows an origin at its known time.

    Of a text longer than `MAX_POST_TOKENS`, only these first tokens count, as in training. The prompt of texts from one
    origin that are next to each other is read once.

    Raises:
        ArtifactError: the model was trained on another base model.
        ConfigError: the base model cannot be loaded.
        AlgorithmError: there is too little memory.
    """
    moments = origins.time if origins.target_time is None else origins.target_time
    nats: list[float] = []
    numbers: list[int] = []
    with deterministic():
        network = load_network(model, options)
        tokens = PostTokens(network.tokenizer, posts, utc_times(posts))
        asked = zip(origins.position.tolist(), moments, texts, strict=True)
        for (position, moment), group in groupby(asked, key=lambda one: one[:2]):
            ids = [tokens.text(text) for _, _, text in group]
            nats += network.log_likelihoods(tokens.prompt(position, moment, options.context_posts), ids)
            numbers += map(len, ids)
    return Likelihoods(np.array(nats), np.array(numbers, dtype=np.int64))
