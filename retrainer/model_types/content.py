"""Content: what does the next post say? A forecast is a text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from retrainer.errors import InsufficientData
from retrainer.model_types.base import Metric, ModelType, Origins, StoredForecasts, quarters_of_day
from retrainer.model_types.expected_score import measure_coverage
from retrainer.model_types.likelihood import PostLikelihood, likelihood_metrics, parse_post_likelihood
from retrainer.model_types.similarity import matching_scores, similarity_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.model_types import ModelTypeName


_COMPARED_CHARACTERS = 10_000  # by BLEU and chrF, which take seconds for a text of a megabyte


@dataclass(frozen=True)
class ContentForecast:
    """A forecast text.

    Attributes:
        text: the text; None if there is none.
        outcome: `ok`, or why there is no text to score: the model refused, was cut short, or the call failed.
        input_tokens: tokens read, including cached ones; 0 if tokens are not counted.
        output_tokens: tokens written.
        cost_usd: the cost in US dollars.
        cache_read_tokens, cache_write_tokens: those of the tokens read that came from, or went into, a prompt cache.
        latency_seconds: the duration of the call; 0 without a call.
        retries: the number of retries.
        agreement: of the samples from which the text was chosen, 0 to 1, by `sample_agreement`; None without samples.
            It does not say how well the text will score.
        likelihood: of the actual post, by the hook `likelihood`. Evaluations add it; a plugin leaves it None.
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
    agreement: float | None = None
    likelihood: PostLikelihood | None = None


ContentForecasts = list[ContentForecast]


@dataclass(frozen=True)
class ContentTargets:
    """The actual texts, and the texts known at each origin.

    Attributes:
        texts: the texts of n posts.
        positions: (n) the row of the last post known at each origin; None in a file from a release that did not store
            them.
        first_row: the first row with each known text, by its normalized form.
    """

    texts: list[str]
    positions: list[int] | None = None
    first_row: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    def find_copies(self, forecasts: ContentForecasts) -> list[bool]:
        """Return (n) whether each forecast repeats a post known at its origin.

        Raises:
            ValueError: the positions are missing.
        """
        if self.positions is None:
            raise ValueError("copies cannot be found without the positions of the origins")
        return [
            self.first_row.get(normalize_text(forecast.text or ""), position + 1) <= position
            for forecast, position in zip(forecasts, self.positions, strict=True)
        ]


def normalize_text(text: str) -> str:
    """Return the form in which texts are compared to find copies: case-folded, with single spaces between words."""
    return " ".join(text.casefold().split())


def first_rows(texts: Iterable[tuple[int, str]]) -> dict[str, int]:
    """Return the lowest row of each normalized text, given (row, text) pairs."""
    found: dict[str, int] = {}
    for row, text in texts:
        key = normalize_text(text)
        found[key] = min(row, found.get(key, row))
    return found


def length_similarity(one: str, other: str) -> float:
    """Return 1 − |len a − len b| / max(len), in characters without trailing white space; 1 if both are empty."""
    a, b = len(one.rstrip()), len(other.rstrip())
    return 1 - abs(a - b) / max(a, b) if max(a, b) else 1.0


def word_overlap(one: str, other: str) -> float:
    """Return the Jaccard index of the lower-cased words, split at white space; 1 if both are empty."""
    a, b = set(one.lower().split()), set(other.lower().split())
    return len(a & b) / len(a | b) if a | b else 1.0


def similarity(one: str, other: str) -> float:
    """Return the content score of a text: the mean of length similarity and word overlap."""
    return (length_similarity(one, other) + word_overlap(one, other)) / 2


class Content(ModelType[ContentForecasts, ContentTargets]):
    """The content model type."""

    name: ClassVar[ModelTypeName] = "content"
    component_names: ClassVar[tuple[str, ...]] = ("length_similarity", "word_overlap")
    figure_names: ClassVar[tuple[str, ...]] = component_names
    forecasts_suffix: ClassVar[str] = ".jsonl"
    target_time_known: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("overall_score", "Overall score", "number", threshold=(">", 0.5), best=1),
        Metric("length_similarity", "Length similarity", "number", threshold=(">", 0.7), best=1),
        Metric("word_overlap", "Word overlap", "number", threshold=(">", 0.3), best=1),
        Metric("skill", "Skill", "number", threshold=(">", 0)),
        Metric(
            "lift", "Lift", "number", "similarity to its own post minus that to the others; 0 for a constant", best=1
        ),
        Metric(
            "rank_auc",
            "Rank AUC",
            "number",
            "how often its own post is more similar than another; 0.5 for a constant",
            best=1,
        ),
        Metric(
            "likelihood_lift",
            "Likelihood lift",
            "number",
            "nats per token that a post gains from its own origin over earlier ones; 0 for a constant",
        ),
        Metric(
            "nats_per_token",
            "Nats per token",
            "number",
            "how unlikely the posts were, lower is better; comparable between models with the same tokenizer",
            best=0,
        ),
        Metric(
            "expected_score_coverage",
            "80% interval covers",
            "share",
            "share of scores in the interval expected for them",
        ),
        Metric("expected_score_width", "80% interval width", "number", "mean distance between its ends"),
        Metric("expected_score_posts", "Posts with interval", "count", "those after the first 50"),
        Metric("copy_rate", "Copies", "share", "forecasts that repeat an earlier post"),
        Metric("distinct_share", "Distinct", "share", "different texts among the forecasts"),
        Metric(
            "bleu",
            "BLEU",
            "number",
            "sequences of 1 to 4 words found in the post, 0 to 100; links inflate it",
            best=100,
        ),
        Metric(
            "chrf",
            "chrF",
            "number",
            "sequences of 1 to 6 letters found in the post, 0 to 100; links inflate it",
            best=100,
        ),
        Metric(
            "embedding_similarity",
            "Embedding similarity",
            "number",
            "mean cosine of embeddings; 1 for the same text",
            best=1,
        ),
        Metric(
            "embedding_rank_auc",
            "Embedding AUC",
            "number",
            "rank AUC by cosine of embeddings; 0.5 for a constant",
            best=1,
        ),
        Metric(
            "bertscore_f1", "BERTScore", "number", "words matched with the post by meaning, 1 for the same text", best=1
        ),
        Metric("refusals", "Refusals", "count"),
        Metric("tokens", "Tokens", "count"),
        Metric("cost_usd", "Cost", "dollars"),
    )

    def usable_posts(self, posts: pd.DataFrame) -> pd.DataFrame:
        """Only posts with a text are usable."""
        has_text = posts["content"].fillna("").str.strip().astype(bool)
        return posts[has_text].reset_index(drop=True)

    def require_trainable(self, posts: pd.DataFrame) -> None:
        """At least one post must have a text; the minimum number of posts is a setting."""
        if posts.empty:
            raise InsufficientData("no training post has a text", hint="Import posts with texts")

    def targets(self, posts: pd.DataFrame, origins: Origins, rows: NDArray[np.int64]) -> ContentTargets:
        """Return the texts of the posts at `rows`, and those known at the origins."""
        known = posts["content"].iloc[: int(origins.position.max(initial=-1)) + 1]
        return ContentTargets(
            texts=[str(text) for text in posts["content"].iloc[rows]],
            positions=[int(position) for position in origins.position],
            first_row=first_rows(enumerate(map(str, known))),
        )

    def validate(self, forecasts: Any, count: int) -> ContentForecasts:
        if isinstance(forecasts, str) or not isinstance(forecasts, Sequence):
            raise TypeError(f"a {type(forecasts).__name__} instead of a list of ContentForecast")
        if len(forecasts) != count:
            raise ValueError(f"{len(forecasts)} forecasts instead of {count}")
        for forecast in forecasts:
            if not isinstance(forecast, ContentForecast):
                raise TypeError(f"a {type(forecast).__name__} instead of a ContentForecast")
            if forecast.outcome == "ok" and not isinstance(forecast.text, str):
                raise ValueError("a forecast without a text whose outcome is 'ok'")
            if forecast.agreement is not None and not 0 <= forecast.agreement <= 1:
                raise ValueError(f"an agreement of samples of {forecast.agreement!r}, which is not between 0 and 1")
        return list(forecasts)

    def scorable(self, forecasts: ContentForecasts) -> NDArray[np.bool_]:
        """Refusals, truncated texts and failed calls are counted, but not scored."""
        return np.array([forecast.outcome == "ok" for forecast in forecasts], dtype=bool)

    def select(
        self, forecasts: ContentForecasts, targets: ContentTargets, keep: NDArray[np.bool_]
    ) -> tuple[ContentForecasts, ContentTargets]:
        rows = np.flatnonzero(keep)
        selected = ContentTargets(
            texts=[targets.texts[row] for row in rows],
            positions=None if targets.positions is None else [targets.positions[row] for row in rows],
            first_row=targets.first_row,
        )
        return [forecasts[row] for row in rows], selected

    def score(self, forecasts: ContentForecasts, targets: ContentTargets) -> dict[str, float]:
        """Return length similarity, word overlap, their mean (the overall score), and metrics that decide nothing.

        The latter are lift and rank AUC (see `MatchingScores`), how often the score was in the interval expected before
        (with enough posts, see `measure_coverage`), the shares of copies (if the positions are known) and of distinct
        texts, nats per token and likelihood lift (if the likelihoods are known), BLEU and chrF.
        """
        components = self.score_components(forecasts, targets)
        means = components.mean(axis=0)
        texts = [forecast.text or "" for forecast in forecasts]
        lift, rank_auc = matching_scores(similarity_rows(texts, targets.texts))
        metrics = {
            "length_similarity": float(means[0]),
            "word_overlap": float(means[1]),
            "overall_score": float(self.overall_score(means)),
            "lift": lift,
            "rank_auc": rank_auc,
        }
        coverage = measure_coverage(self.overall_score(components))
        if coverage is not None:
            metrics |= {f"expected_score_{name}": value for name, value in coverage._asdict().items()}
        if targets.positions is not None:
            metrics["copy_rate"] = sum(targets.find_copies(forecasts)) / len(forecasts)
        metrics["distinct_share"] = len({normalize_text(text) for text in texts}) / len(texts)
        likelihoods = [forecast.likelihood for forecast in forecasts if forecast.likelihood is not None]
        if len(likelihoods) == len(forecasts):
            metrics |= likelihood_metrics(likelihoods)
        return {**metrics, **bleu_and_chrf(texts, targets.texts)}

    def count_outcomes(self, forecasts: ContentForecasts) -> dict[str, float]:
        """Return the numbers of forecasts without a text to score, by reason, and the usage of all forecasts."""
        outcomes = [forecast.outcome for forecast in forecasts]
        return {
            "refusals": outcomes.count("refusal"),
            "truncated": outcomes.count("truncated"),
            "failed": outcomes.count("failed"),
            "tokens": sum(forecast.input_tokens + forecast.output_tokens for forecast in forecasts),
            **{
                name: sum(getattr(forecast, name) for forecast in forecasts)
                for name in ("cost_usd", "cache_read_tokens", "cache_write_tokens", "retries")
            },
            "median_latency_seconds": float(np.median([forecast.latency_seconds for forecast in forecasts])),
        }

    def are_equal(self, one: ContentForecasts, other: ContentForecasts) -> bool:
        """Compare the texts."""
        return [forecast.text for forecast in one] == [forecast.text for forecast in other]

    def summary_line(self, metrics: dict[str, float]) -> str:
        return (
            f"Length similarity: {metrics['length_similarity']:.3f} | Word overlap: {metrics['word_overlap']:.3f} | "
            f"Overall score: {metrics['overall_score']:.4f}"
        )

    def dump(
        self,
        forecasts: ContentForecasts,
        targets: ContentTargets,
        origins: Origins,
        post_ids: Sequence[str],
        naive: ContentForecasts,
    ) -> bytes:
        """Return JSON Lines: post_id, origin (UTC), the forecast's fields, the actual text, and the naive forecast.

        With the positions, also the row of the last known post (`position`), and whether forecast and naive forecast
        repeat a known post (`copy`, `baseline_copy`), so that copies can be counted without the posts.
        """
        rows = zip(post_ids, origins.time.astype("datetime64[us]"), forecasts, targets.texts, naive, strict=True)
        records = [
            {
                "post_id": post_id,
                "origin": f"{origin}Z",
                **asdict(forecast),
                "actual": actual,
                "baseline_text": reference.text,
            }
            for post_id, origin, forecast, actual, reference in rows
        ]
        if targets.positions is not None:
            copies = zip(targets.positions, targets.find_copies(forecasts), targets.find_copies(naive), strict=True)
            for record, (position, copy, naive_copy) in zip(records, copies, strict=True):
                record |= {"position": position, "copy": copy, "baseline_copy": naive_copy}
        lines = [json.dumps(record) for record in records]
        return "".join(f"{line}\n" for line in lines).encode("ascii")

    def _parse(self, data: bytes) -> StoredForecasts[ContentForecasts, ContentTargets]:
        rows = [json.loads(line) for line in data.decode("ascii").splitlines()]
        fields = ContentForecast.__dataclass_fields__
        has_naive = all("baseline_text" in row for row in rows)
        has_copies = all("position" in row for row in rows)
        return StoredForecasts(
            # A file from an earlier release lacks some of the fields.
            forecasts=[
                ContentForecast(
                    **{key: row[key] for key in fields if key in row and key != "likelihood"},
                    likelihood=parse_post_likelihood(row.get("likelihood")),
                )
                for row in rows
            ],
            targets=ContentTargets(
                texts=[row["actual"] for row in rows],
                positions=[row["position"] for row in rows] if has_copies else None,
                first_row=_rows_of_copies(rows) if has_copies else {},
            ),
            post_ids=[row["post_id"] for row in rows],
            naive=[ContentForecast(row["baseline_text"]) for row in rows] if has_naive else None,
            times=np.array([row["origin"].removesuffix("Z") for row in rows], dtype="datetime64[us]"),
        )

    def describe(self, forecasts: ContentForecasts, targets: ContentTargets, row: int) -> dict[str, Any]:
        return {"text": forecasts[row].text, "outcome": forecasts[row].outcome, "actual": targets.texts[row]}

    def score_components(self, forecasts: ContentForecasts, targets: ContentTargets) -> NDArray[np.float64]:
        """Return (n, 2): length similarity and word overlap."""
        pairs = [(forecast.text or "", text) for forecast, text in zip(forecasts, targets.texts, strict=True)]
        return np.array([(length_similarity(*pair), word_overlap(*pair)) for pair in pairs]).reshape(-1, 2)

    def overall_score(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean of length similarity and word overlap."""
        score: NDArray[np.float64] = (means[..., 0] + means[..., 1]) / 2
        return score

    def segments(self, posts: pd.DataFrame, origins: Origins) -> dict[str, NDArray[np.bool_]]:
        """Return the quarter of the day of the post to forecast, and whether the previous post was long."""
        times = origins.time if origins.target_time is None else origins.target_time
        length = posts["content"].iloc[origins.position].str.len().to_numpy(dtype=float)
        long = length > np.median(length)
        return {**quarters_of_day(times), "after a longer post": long, "after a shorter post": ~long}


def bleu_and_chrf(texts: Sequence[str], posts: Sequence[str]) -> dict[str, float]:
    """Return corpus BLEU and chrF, 0 to 100, by sacrebleu with its defaults, of the first 10,000 characters.

    They decide nothing: a link or a signature in both texts raises them, whatever the rest says.

    Source: Papineni et al. 2002; Popović 2015.
    """
    from sacrebleu.metrics.bleu import BLEU  # noqa: PLC0415  slow to import
    from sacrebleu.metrics.chrf import CHRF  # noqa: PLC0415

    texts, posts = ([text[:_COMPARED_CHARACTERS] for text in side] for side in (texts, posts))
    return {
        "bleu": float(BLEU(force=True).corpus_score(texts, [posts]).score),  # force: no warning about dots
        "chrf": float(CHRF().corpus_score(texts, [posts]).score),
    }


def _rows_of_copies(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return by which row each text marked as a copy had been posted, as `ContentTargets.first_row`."""
    return first_rows(
        (row["position"], row[text] or "")
        for text, marked in (("text", "copy"), ("baseline_text", "baseline_copy"))
        for row in rows
        if row[marked]
    )
