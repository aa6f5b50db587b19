"""Content: what does the next post say? A forecast is a text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from retrainer.errors import InsufficientData
from retrainer.model_types.base import (
    PREDICTIONS_SAMPLE,
    Metric,
    ModelType,
    Origins,
    Reliability,
    StoredForecasts,
    parts_of_the_day,
    skill_score,
    spread,
)

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.model_types import ModelTypeName


@dataclass(frozen=True)
class ContentForecast:
    """One foretold text.

    Attributes:
        text: the text, or None where none came.
        outcome: `ok`, or why there is no text to score: the model refused, was cut short, or the call failed.
        input_tokens: tokens read, cached ones included; 0 where nothing is counted.
        output_tokens: tokens written.
        cost_usd: what the answer cost, in US dollars.
        cache_read_tokens, cache_write_tokens: of the tokens read, those that a prompt cache gave, and took in.
        latency_seconds: how long the answer took; 0 where nobody was asked.
        retries: how often it had to be asked for again.
    """

    text: str | None
    outcome: Literal["ok", "refusal", "truncated", "failed"] = "ok"
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    latency_seconds: float = 0.0
    retries: int = 0


ContentForecasts = list[ContentForecast]


@dataclass(frozen=True)
class ContentTargets:
    """What came true: the texts of n posts."""

    texts: list[str]


def length_similarity(one: str, other: str) -> float:
    """Return 1 − |len a − len b| / max(len), in characters, trailing white space left out; 1 where both are empty."""
    a, b = len(one.rstrip()), len(other.rstrip())
    return 1 - abs(a - b) / max(a, b) if max(a, b) else 1.0


def word_overlap(one: str, other: str) -> float:
    """Return the Jaccard index of the lower-cased words, split at white space; 1 where both are empty."""
    a, b = set(one.lower().split()), set(other.lower().split())
    return len(a & b) / len(a | b) if a | b else 1.0


def similarity(one: str, other: str) -> float:
    """Return the documented content score of one text: the mean of length similarity and word overlap."""
    return (length_similarity(one, other) + word_overlap(one, other)) / 2


class Content(ModelType[ContentForecasts, ContentTargets]):
    """The content model type."""

    name: ClassVar[ModelTypeName] = "content"
    parts: ClassVar[tuple[str, ...]] = ("length_similarity", "word_overlap")
    forecasts_suffix: ClassVar[str] = ".jsonl"
    tell_time: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("overall_score", "Overall score", "number", (">", 0.5)),
        Metric("length_similarity", "Length similarity", "number", (">", 0.7)),
        Metric("word_overlap", "Word overlap", "number", (">", 0.3)),
        Metric("skill", "Skill", "number", (">", 0)),
        Metric("refusals", "Refusals", "count"),
        Metric("tokens", "Tokens", "count"),
        Metric("cost_usd", "Cost", "dollars"),
    )

    def usable(self, posts: pd.DataFrame) -> pd.DataFrame:
        """Only posts with a text count."""
        has_text = posts["content"].fillna("").str.strip().astype(bool)
        return posts[has_text].reset_index(drop=True)

    def require_trainable(self, posts: pd.DataFrame) -> None:
        """One text is enough to start from; how many are asked for is a setting."""
        if posts.empty:
            raise InsufficientData("no training post has a text", hint="Import posts with a text")

    def targets(
        self,
        posts: pd.DataFrame,
        origins: Origins,  # noqa: ARG002  a text is the same from wherever it was foretold
        rows: NDArray[np.int64],
    ) -> ContentTargets:
        """Return the texts of the posts at `rows`."""
        return ContentTargets([str(text) for text in posts["content"].iloc[rows]])

    def checked(self, forecasts: Any, count: int) -> ContentForecasts:
        """Check that there are `count` forecasts, each with a text or a reason for having none."""
        if isinstance(forecasts, str) or not isinstance(forecasts, Sequence):
            raise TypeError(f"a {type(forecasts).__name__} instead of a list of ContentForecast")
        if len(forecasts) != count:
            raise ValueError(f"{len(forecasts)} forecasts instead of {count}")
        for forecast in forecasts:
            if not isinstance(forecast, ContentForecast):
                raise TypeError(f"a {type(forecast).__name__} instead of a ContentForecast")
            if forecast.outcome == "ok" and not isinstance(forecast.text, str):
                raise ValueError("a forecast without a text whose outcome is 'ok'")
        return list(forecasts)

    def scored(self, forecasts: ContentForecasts) -> NDArray[np.bool_]:
        """A refusal, a text cut short and a failed call are counted apart, never scored."""
        return np.array([forecast.outcome == "ok" for forecast in forecasts], dtype=bool)

    def select(
        self, forecasts: ContentForecasts, targets: ContentTargets, keep: NDArray[np.bool_]
    ) -> tuple[ContentForecasts, ContentTargets]:
        """Return the forecasts and texts where `keep` is true."""
        rows = np.flatnonzero(keep)
        return [forecasts[row] for row in rows], ContentTargets([targets.texts[row] for row in rows])

    def score(self, forecasts: ContentForecasts, targets: ContentTargets) -> dict[str, float]:
        """Return length similarity, word overlap, and their mean, the overall score."""
        means = self.contributions(forecasts, targets).mean(axis=0)
        length, overlap = (float(mean) for mean in means)
        return {"length_similarity": length, "word_overlap": overlap, "overall_score": float(self.overall(means))}

    def tally(self, forecasts: ContentForecasts) -> dict[str, float]:
        """Return how many gave no text to score, and why, and what all of them took."""
        outcomes = [forecast.outcome for forecast in forecasts]
        return {
            "refusals": outcomes.count("refusal"),
            "truncated": outcomes.count("truncated"),
            "failed": outcomes.count("failed"),
            "tokens": sum(forecast.input_tokens + forecast.output_tokens for forecast in forecasts),
            "cost_usd": sum(forecast.cost_usd for forecast in forecasts),
            "cache_read_tokens": sum(forecast.cache_read_tokens for forecast in forecasts),
            "cache_write_tokens": sum(forecast.cache_write_tokens for forecast in forecasts),
            "retries": sum(forecast.retries for forecast in forecasts),
            "median_latency_seconds": float(np.median([forecast.latency_seconds for forecast in forecasts])),
        }

    def same(self, one: ContentForecasts, other: ContentForecasts) -> bool:
        """Equal texts, one by one."""
        return [forecast.text for forecast in one] == [forecast.text for forecast in other]

    def headline(self, metrics: dict[str, float]) -> str:
        """Return the documented metrics."""
        return (
            f"Length similarity: {metrics['length_similarity']:.3f} | Word overlap: {metrics['word_overlap']:.3f} | "
            f"Overall score: {metrics['overall_score']:.4f}"
        )

    def skill(self, metrics: dict[str, float], naive: dict[str, float]) -> dict[str, float]:
        """Return the skill of the overall score."""
        return {"skill": skill_score(metrics["overall_score"], naive["overall_score"])}

    def reliability(
        self,
        forecasts: ContentForecasts,  # noqa: ARG002
        targets: ContentTargets,  # noqa: ARG002
    ) -> list[Reliability]:
        """No probability is stated of a text."""
        return []

    def dump(
        self,
        forecasts: ContentForecasts,
        targets: ContentTargets,
        origins: Origins,
        post_ids: Sequence[str],
        naive: ContentForecasts,
    ) -> bytes:
        """Return JSON Lines: post_id, origin (UTC), the forecast's fields, the text that came true, the naive one."""
        rows = zip(post_ids, origins.time.astype("datetime64[us]"), forecasts, targets.texts, naive, strict=True)
        lines = [
            json.dumps(
                {
                    "post_id": post_id,
                    "origin": f"{origin}Z",
                    **asdict(forecast),
                    "actual": actual,
                    "baseline_text": reference.text,
                }
            )
            for post_id, origin, forecast, actual, reference in rows
        ]
        return "".join(f"{line}\n" for line in lines).encode("ascii")

    def parse(self, data: bytes) -> StoredForecasts[ContentForecasts, ContentTargets]:
        """Read the JSON Lines back."""
        rows = [json.loads(line) for line in data.decode("ascii").splitlines()]
        fields = ContentForecast.__dataclass_fields__
        kept = all("baseline_text" in row for row in rows)
        return StoredForecasts(
            # A file of an earlier release lacks some of the fields.
            forecasts=[ContentForecast(**{key: row[key] for key in fields if key in row}) for row in rows],
            targets=ContentTargets([row["actual"] for row in rows]),
            post_ids=[row["post_id"] for row in rows],
            naive=[ContentForecast(row["baseline_text"]) for row in rows] if kept else None,
        )

    def sample(
        self, forecasts: ContentForecasts, targets: ContentTargets, post_ids: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Return the post, the text foretold and the text that came."""
        return [
            {
                "post_id": post_ids[row],
                "text": forecasts[row].text,
                "outcome": forecasts[row].outcome,
                "actual": targets.texts[row],
            }
            for row in spread(len(forecasts), PREDICTIONS_SAMPLE)
        ]

    def contributions(self, forecasts: ContentForecasts, targets: ContentTargets) -> NDArray[np.float64]:
        """Return (n, 2): length similarity and word overlap."""
        pairs = [(forecast.text or "", text) for forecast, text in zip(forecasts, targets.texts, strict=True)]
        return np.array([(length_similarity(*pair), word_overlap(*pair)) for pair in pairs]).reshape(-1, 2)

    def overall(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean of length similarity and word overlap, as the specification has it."""
        score: NDArray[np.float64] = (means[..., 0] + means[..., 1]) / 2
        return score

    def situations(self, posts: pd.DataFrame, origins: Origins) -> dict[str, NDArray[np.bool_]]:
        """Return the part of the day of the post to foretell, and whether the one before it was a long one."""
        moments = origins.time if origins.target_time is None else origins.target_time
        length = posts["content"].iloc[origins.position].str.len().to_numpy(dtype=float)
        long = length > np.median(length)
        return {**parts_of_the_day(moments), "after a longer post": long, "after a shorter post": ~long}
