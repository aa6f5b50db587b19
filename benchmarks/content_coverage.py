"""Measure how often the score of a text is in the interval that was expected before.

    make bench-coverage                          every CSV of ../shared/data, and synthetic samples
    make bench-coverage DATA=folder              every CSV of a folder
    make bench-coverage ALGORITHMS=baseline,…    other algorithms whose forecasts are free

Of the posts with a text, the last 2,000 come later (of fewer than 3,000, two thirds). The version is trained on the
first 80% of those before, and evaluated on at most 200 evenly spaced ones of the others, which calibrate. Each later
post is forecast from the post before it, and its score compared with the interval (80%) expected then:

        up to date       every earlier post has been scored, as by `retrainer live`
        evaluation only  by the evaluation alone, however long ago it was
        blocks           up to date: the lowest and the highest coverage of blocks of 300 posts in a row

In brackets: the 95% interval of the coverage, by a circular block bootstrap. Streams with fewer than 600 posts are
skipped.
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
from retrainer.evaluation.bootstrap import score_interval
from retrainer.model_types.base import Origins, evenly_spaced
from retrainer.model_types.content import Content
from retrainer.model_types.expected_score import HISTORY, expect_score
from retrainer.posts.sample import sample_posts

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TRAINING_SHARE = 0.8
EVALUATED_POSTS = 200
LATER_POSTS = 2_000
BLOCK_POSTS = 300
MIN_POSTS = 600
CONTENT = Content()


def main() -> None:
    parser = argument_parser(__doc__, "bench-coverage.json")
    parser.add_argument("--algorithms", default="baseline", help="algorithms, separated by commas")
    options = parser.parse_args()
    names = options.algorithms.split(",")
    results = measure_streams(load(options.data), partial(measure, algorithms=names))
    document = {"level": 0.8, "streams": results}
    options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for name in names:
        print_table(name, results)
    print(f"All results: {options.json}")


def load(folder: Any) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the streams: samples that never change, that repeat a text, that change their texts, and the files."""
    prepared = {"sample of 1,000": prepare(sample_posts(count=1_000))}
    prepared["every third post the same"] = repeat_a_text(prepared["sample of 1,000"])
    prepared["longer every year"] = lengthen(prepared["sample of 1,000"])
    yield from prepared.items()
    files = load_streams(folder, prepare, min_posts=MIN_POSTS, unit="posts with a text")
    next(files)  # a sample of 400 posts
    yield from files


def prepare(posts: pd.DataFrame) -> pd.DataFrame:
    """Return the posts with a text, in order."""
    return CONTENT.usable_posts(posts.sort_values(["created_at", "post_id"]))[["post_id", "created_at", "content"]]


def repeat_a_text(posts: pd.DataFrame) -> pd.DataFrame:
    """Return a stream in which a third of the posts say the same."""
    again = np.random.default_rng(1).random(len(posts)) < 1 / 3
    return posts.assign(content=posts["content"].mask(again, "Good morning from the hill."))


def lengthen(posts: pd.DataFrame) -> pd.DataFrame:
    """Return a stream whose texts become longer, and more different in length: the score falls."""
    random = np.random.default_rng(1)
    texts = posts["content"].tolist()
    extra = random.poisson(np.linspace(0, 5, len(posts)))
    longer = [" ".join([text, *random.choice(texts, count)]) for text, count in zip(texts, extra, strict=True)]
    return posts.assign(content=longer)


def measure(name: str, posts: pd.DataFrame, algorithms: list[str]) -> dict[str, Any]:
    """Return the coverage on a stream, by algorithm."""
    later = LATER_POSTS if len(posts) >= 3 * LATER_POSTS // 2 else 2 * len(posts) // 3
    start = len(posts) - later
    training = int(start * TRAINING_SHARE)
    calibration = training + evenly_spaced(start - training, EVALUATED_POSTS)
    rows = np.append(calibration, np.arange(start, len(posts)))
    result: dict[str, Any] = {"stream": name, "posts": len(posts), "calibration_posts": len(calibration)}
    for algorithm in algorithms:
        result[algorithm] = coverage(score(posts, training, rows, algorithm), len(calibration))
    return result


def coverage(scores: Floats, start: int) -> dict[str, Any]:
    """Return how often the scores (n,) after the first `start` ones were in their intervals, of both kinds."""
    return {
        "kept_up": describe(scores, start, *intervals(scores, start)),
        "not_kept_up": describe(scores, start, *fixed_intervals(scores, start)),
    }


def score(posts: pd.DataFrame, training: int, rows: NDArray[np.int64], name: str) -> Floats:
    """Train an algorithm on the first posts, and return the scores (n,) of its forecasts of those at `rows`."""
    algorithm = load_algorithm(name, "content")
    options = algorithm.options({}, "content")
    model = algorithm.train(posts.iloc[:training], options, "content")
    origins = Origins.before(posts, rows, target_time_known=True)
    forecasts = algorithm.predict(model, posts, origins, options, "content")
    return CONTENT.overall_score(CONTENT.score_components(forecasts, CONTENT.targets(posts, origins, rows)))


def intervals(scores: Floats, start: int) -> tuple[Floats, Floats]:
    """Return the ends of the intervals expected before each later score, by all scores before it; NaN for none."""
    expected = [expect_score(scores[max(0, row - HISTORY) : row]) for row in range(start, len(scores))]
    ends = np.array([(one.low, one.high) if one else (np.nan, np.nan) for one in expected])
    return ends[:, 0], ends[:, 1]


def fixed_intervals(scores: Floats, start: int) -> tuple[Floats, Floats]:
    """Return the same by the scores of the evaluation alone."""
    one = expect_score(scores[:start])
    ends = np.full((len(scores) - start, 2), (one.low, one.high) if one else np.nan)
    return ends[:, 0], ends[:, 1]


def describe(scores: Floats, start: int, low: Floats, high: Floats) -> dict[str, Any] | None:
    """Return how often the later scores were in their intervals; None without intervals."""
    known = ~np.isnan(low)
    if not known.any():
        return None
    later = scores[start:][known]
    covered = ((low[known] <= later) & (later <= high[known])).astype(float)
    blocks = [covered[at : at + BLOCK_POSTS].mean() for at in range(0, len(covered) - BLOCK_POSTS + 1, BLOCK_POSTS)]
    return {
        "posts": len(covered),
        "coverage": float(covered.mean()),
        "coverage_interval": score_interval(covered[:, None], lambda means: means[..., 0]),
        "blocks": [float(min(blocks)), float(max(blocks))],
        "width": float((high - low)[known].mean()),
        "score_deviation": float(later.std()),
    }


def print_table(algorithm: str, results: list[dict[str, Any]]) -> None:
    table = Table(title=f"{algorithm}: 80% intervals of the content score", title_justify="left")
    table.add_column("stream", no_wrap=True)
    for heading in ("calibration posts", "later posts", "up to date", "blocks", "width", "evaluation only"):
        table.add_column(heading, justify="right")
    for result in results:
        kept_up, fixed = result[algorithm]["kept_up"], result[algorithm]["not_kept_up"]
        low, high = kept_up["coverage_interval"]
        table.add_row(
            result["stream"],
            str(result["calibration_posts"]),
            str(kept_up["posts"]),
            f"{kept_up['coverage']:.1%} ({low:.0%} to {high:.0%})",
            " to ".join(f"{share:.0%}" for share in kept_up["blocks"]),
            f"{kept_up['width']:.2f}",
            "-" if fixed is None else f"{fixed['coverage']:.1%}",
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
