"""Training: choose examples from the training posts, and measure their style."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from retrainer.algorithms import normalize_text
from retrainer.errors import InsufficientData
from retrainer_claude.post_format import FORMAT, post_format
from retrainer_claude.text import truncate
from retrainer_claude.tfidf import cosine_similarity, tfidf_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pandas as pd

    from retrainer_claude import ClaudeOptions

_LINK = re.compile(r"https?://|\bwww\.", re.IGNORECASE)
_HASHTAG = re.compile(r"(?:^|\s)#\w")
_MIN_CAPITALS = 0.7  # share of the letters of a text that counts as written in capitals


class Candidate(NamedTuple):
    """A post that may become an example, with its text as the example would show it."""

    post_id: str
    created_at: datetime
    text: str


def train_model(posts: pd.DataFrame, options: ClaudeOptions) -> dict[str, Any]:
    """Return the model as plain data.

    It includes the prompt, so that a version keeps sending the prompt that it was evaluated with.

    Raises:
        InsufficientData: no post has a text.
    """
    read_post = post_format({"format": FORMAT}).read_post
    columns = (posts["post_id"], posts["created_at"], posts["content"])
    readable = [(*post, text) for *post, content in zip(*columns, strict=True) if (text := read_post(content))]
    if not readable:
        raise InsufficientData("no training post has a text", hint="Import posts with a text")
    last = readable[-options.examples_from_last :]
    candidates = [
        Candidate(post_id, time, truncate(text, options.example_max_characters)) for post_id, time, text in last
    ]
    prompt = files("retrainer_claude").joinpath("prompt.md").read_text(encoding="utf-8")
    return {
        "model_type": "claude_api",
        "format": FORMAT,
        "examples": [
            {"post_id": post.post_id, "created_at": post.created_at.isoformat(), "content": post.text}
            for post in choose_examples(candidates, options.examples)
        ],
        "style": measure_style([text for _, _, text in last]),
        "prompt": prompt,
        "prompt_sha256": hashlib.sha256(prompt.encode("utf-8")).hexdigest(),
        "config": options.model_dump(mode="json"),
    }


def choose_examples(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """Return up to `count` different posts in order of time: recent ones of all lengths, times of day and subjects.

    The posts are sorted by length and divided into `count` equal parts. Each part gives one example, so that the
    examples are as long and as short as the posts. Within a part, posts from the quarter of the day with the fewest
    examples so far come first; among these, the one with the highest sum of recency (from 0 to 1) and distance of its
    words from the examples so far.

    Args:
        candidates: at least one post.
        count: 0 or more.
    """
    latest_by_text = {normalize_text(post.text): post for post in candidates}
    by_time = sorted(latest_by_text.values(), key=lambda post: (post.created_at, post.post_id))
    recency = {post.post_id: rank / len(by_time) for rank, post in enumerate(by_time)}
    ids, texts = [post.post_id for post in by_time], [post.text for post in by_time]
    vectors = dict(zip(ids, tfidf_vectors(texts), strict=True))
    by_length = sorted(by_time, key=lambda post: len(post.text))
    total, count = len(by_length), min(count, len(by_length))
    per_quarter: Counter[int] = Counter()
    chosen: list[Candidate] = []

    def priority(post: Candidate) -> tuple[int, float, str]:
        vector = vectors[post.post_id]
        nearest = max((cosine_similarity(vector, vectors[other.post_id]) for other in chosen), default=0.0)
        return -per_quarter[post.created_at.hour // 6], round(1 - nearest + recency[post.post_id], 9), post.post_id

    for part in range(count):
        best = max(by_length[total * part // count : total * (part + 1) // count], key=priority)
        per_quarter[best.created_at.hour // 6] += 1
        chosen.append(best)
    return sorted(chosen, key=lambda post: (post.created_at, post.post_id))


def measure_style(texts: Sequence[str]) -> dict[str, float]:
    """Return quantiles of the length in characters, and shares from 0 to 1, of at least one text."""
    quantiles = np.quantile([len(text) for text in texts], [0.25, 0.5, 0.75, 0.9])
    style = dict(zip(("characters_25", "characters_50", "characters_75", "characters_90"), quantiles, strict=True)) | {
        "share_with_links": np.mean([bool(_LINK.search(text)) for text in texts]),
        "share_with_hashtags": np.mean([bool(_HASHTAG.search(text)) for text in texts]),
        "share_in_capitals": np.mean([_in_capitals(text) for text in texts]),
    }
    return {name: round(float(value), 4) for name, value in style.items()}


def _in_capitals(text: str) -> bool:
    letters = [character for character in text if character.isalpha()]
    return bool(letters) and sum(character.isupper() for character in letters) / len(letters) > _MIN_CAPITALS
