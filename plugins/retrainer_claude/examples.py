"""What is learned from the training posts: examples to show, and facts about the style."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.errors import InsufficientData
from retrainer_claude.text import cleaned, comparison_key, cut
from retrainer_claude.tfidf import likeness, word_weights

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pandas as pd

    from retrainer_claude import ClaudeOptions

_LINK = re.compile(r"https?://|\bwww\.", re.IGNORECASE)
_HASHTAG = re.compile(r"(?:^|\s)#\w")
_HOURS_A_QUARTER = 6
_MOSTLY = 0.7


@dataclass(frozen=True)
class Post:
    """A training post with a text."""

    post_id: str
    created_at: datetime
    text: str

    @property
    def quarter_of_day(self) -> int:
        """Which quarter of the day (UTC) it was published in."""
        return self.created_at.hour // _HOURS_A_QUARTER


def trained(posts: pd.DataFrame, options: ClaudeOptions) -> dict[str, Any]:
    """Return the model as plain data.

    The prompt is kept in it, so that a version goes on asking as it did when it was evaluated.

    Raises:
        InsufficientData: no post has a text.
    """
    candidates = posts_with_text(posts)[-options.examples_from_last :]
    if not candidates:
        raise InsufficientData("no training post has a text", hint="Import posts with a text")
    prompt = files("retrainer_claude").joinpath("prompt.md").read_text(encoding="utf-8")
    return {
        "model_type": "claude_api",
        "examples": [
            {
                "post_id": post.post_id,
                "created_at": post.created_at.isoformat(),
                "content": cut(post.text, options.example_max_characters),
            }
            for post in choose_examples(candidates, options.examples)
        ],
        "style": style_of([post.text for post in candidates]),
        "prompt": prompt,
        "prompt_sha256": hashlib.sha256(prompt.encode("utf-8")).hexdigest(),
        "config": options.model_dump(mode="json"),
    }


def posts_with_text(posts: pd.DataFrame) -> list[Post]:
    """Return the posts whose text is not empty, in their order."""
    rows = zip(posts["post_id"], posts["created_at"], posts["content"], strict=True)
    cleaned_rows = ((post_id, created_at, cleaned(content)) for post_id, created_at, content in rows)
    return [
        Post(str(post_id), created_at.to_pydatetime(warn=False), text)
        for post_id, created_at, text in cleaned_rows
        if text
    ]


def choose_examples(candidates: Sequence[Post], count: int) -> list[Post]:
    """Return up to `count` different posts in order of time: of all lengths, times of day and subjects, and recent.

    Ordered by length, the posts are cut into `count` equal parts and each part gives one, so that the
    examples are as long and as short as the posts are. Within a part, the quarter of the day with the fewest
    examples so far comes first; then the post that is, weighed alike, far in its words from the examples so far and
    recent.
    """
    latest_of_each = {comparison_key(post.text): post for post in candidates}
    in_time = sorted(latest_of_each.values(), key=lambda post: (post.created_at, post.post_id))
    recency = {post.post_id: rank / len(in_time) for rank, post in enumerate(in_time)}
    subjects = dict(zip((post.post_id for post in in_time), word_weights([post.text for post in in_time]), strict=True))
    by_length = sorted(in_time, key=lambda post: len(post.text))
    count = min(count, len(by_length))
    bounds = [len(by_length) * part // count for part in range(count + 1)] if count else []
    taken: Counter[int] = Counter()
    chosen: list[Post] = []

    def worth(post: Post) -> tuple[int, float, str]:
        nearest = max((likeness(subjects[post.post_id], subjects[other.post_id]) for other in chosen), default=0.0)
        return -taken[post.quarter_of_day], round(1 - nearest + recency[post.post_id], 9), post.post_id

    for start, end in pairwise(bounds):
        best = max(by_length[start:end], key=worth)
        taken[best.quarter_of_day] += 1
        chosen.append(best)
    return sorted(chosen, key=lambda post: (post.created_at, post.post_id))


def style_of(texts: Sequence[str]) -> dict[str, float]:
    """Return facts about at least one text: quantiles of the length in characters, and shares from 0 to 1."""
    quantiles = np.quantile([len(text) for text in texts], [0.25, 0.5, 0.75, 0.9])
    lengths = dict(zip(("characters_25", "characters_50", "characters_75", "characters_90"), quantiles, strict=True))
    shares = {
        "share_with_links": np.mean([bool(_LINK.search(text)) for text in texts]),
        "share_with_hashtags": np.mean([bool(_HASHTAG.search(text)) for text in texts]),
        "share_in_capitals": np.mean([_in_capitals(text) for text in texts]),
    }
    return {name: round(float(value), 4) for name, value in (lengths | shares).items()}


def _in_capitals(text: str) -> bool:
    letters = [character for character in text if character.isalpha()]
    return bool(letters) and sum(character.isupper() for character in letters) / len(letters) > _MOSTLY
