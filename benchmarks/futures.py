"""Measure forecasts of several days: the posts of the next days, and the times of the next posts.

    make bench-futures                              every CSV of ../shared/data, and the synthetic sample
    make bench-futures DATA=folder                  every CSV of a folder
    make bench-futures STREAMS=simulated            simulated processes
    make bench-futures STREAMS=derived              streams derived from every CSV: thinned, merged, spliced, …

Of the last 12,000 posts the first 80% are for training, with one fit. From at most 20 wall-clock times, evenly spaced
over the rest, every algorithm that can simulates 60 futures. Targets are the posts in the next day, three days and
week, and the hours to the first, third and tenth post. `recent` is a reference for the counts: those of windows as
long, ending on each of the last 56 days at the time of day of the origin.

`cov80` is the share of targets inside the 80% interval as it is shown, of whole posts and with both ends, so even a
perfect forecast covers more than 80%. `pit80` corrects for that: the share of targets whose randomised PIT (Czado,
Gneiting and Held 2009, "Predictive model assessment for count data") is between .1 and .9. `skill` is
1 − CRPS / CRPS of `baseline`. Windows overlap, so `n` is the number of windows that fit between the first and the last
origin, and `band` the range in which 95% of perfect forecasts have their `pit80`.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.simulated import PROCESSES, derived_posts, simulated_posts
from benchmarks.streams import argument_parser, load_streams, measure_streams
from retrainer.algorithms.manager import list_algorithms, load_algorithm
from retrainer.model_types.base import Origins, hours_between, utc_times

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MAX_POSTS = 12_000
MIN_POSTS = 200
TRAINING_SHARE = 0.8
MAX_SIMULATED = 2000
COUNT_HOURS = {"day": 24.0, "3 days": 72.0, "week": 168.0}
POST_NUMBERS = {"post 1": 1, "post 3": 3, "post 10": 10}
RECENT_DAYS = 56
NAIVE, RECENT = "baseline", "recent"


def main() -> None:
    parser = argument_parser(__doc__, "bench-futures.json")
    parser.add_argument("--origins", type=int, default=20, help="the maximum number of origins of a stream")
    parser.add_argument("--paths", type=int, default=60, help="the number of futures from each origin")
    parser.add_argument("--streams", choices=("files", "derived", "simulated"), default="files")
    options = parser.parse_args()
    measure_stream = partial(measure, max_origins=options.origins, paths=options.paths)
    results = measure_streams(choose_streams(options.streams, options.data), measure_stream)
    options.json.write_text(json.dumps({"streams": results}, indent=1) + "\n", encoding="utf-8")
    for target in (*COUNT_HOURS, *POST_NUMBERS):
        print_table(target, [result for result in results if target in result["targets"]])
    print(f"All results: {options.json}")


def choose_streams(kind: str, folder: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    if kind == "simulated":
        yield from ((name, prepare(simulated_posts(name, seed=1))) for name in PROCESSES)
        return
    for name, posts in load_streams(folder, prepare, min_posts=MIN_POSTS, unit="posts"):
        if kind == "files":
            yield name, posts
        else:
            found = {each: prepare(derived) for each, derived in derived_posts(posts, seed=1).items()}
            yield from ((f"{name} {each}", derived) for each, derived in found.items() if len(derived) >= MIN_POSTS)


def prepare(posts: pd.DataFrame) -> pd.DataFrame:
    """Return the last posts in order."""
    ordered = posts.sort_values(["created_at", "post_id"])
    return ordered[["post_id", "created_at"]].tail(MAX_POSTS).reset_index(drop=True)


def measure(name: str, posts: pd.DataFrame, max_origins: int, paths: int) -> dict[str, Any]:
    """Train, simulate and score every algorithm that can on a stream."""
    training = int(len(posts) * TRAINING_SHARE)
    times = utc_times(posts)
    origins = choose_origins(times, training, max_origins)
    longest = max(*COUNT_HOURS.values(), 30 * float(hours_between(times[0], times[training])) / training)
    hours = hours_between(times[0], times)
    at = hours_between(times[0], origins.time)
    simulated = {
        algorithm: simulate(algorithm, posts, training, origins, longest, paths)
        for algorithm in sorted(
            (plugin.name for plugin in list_algorithms() if "simulate" in plugin.hooks), key=lambda name: name != NAIVE
        )
    }
    targets = {}
    for label, window in COUNT_HOURS.items():
        actual = count_between(hours, at, at + window)
        futures: dict[str, list[NDArray[Any]]] = {
            each: [(future <= window).sum(axis=1) for future in found] for each, found in simulated.items()
        }
        days_ago = 24.0 * np.arange(1, RECENT_DAYS + 1)
        ends = [start - days_ago[days_ago >= window] + window for start in at]
        futures[RECENT] = [count_between(hours, end - window, end) for end in ends]
        targets[label] = scores(futures, actual, independent(at, window))
    for label, number in POST_NUMBERS.items():
        waits = hours[origins.position + number] - at
        futures = {
            each: [np.minimum(nth(future, number), longest) for future in found] for each, found in simulated.items()
        }
        targets[label] = scores(futures, np.minimum(waits, longest), independent(at, float(waits.mean())))
    return {"stream": name, "posts": len(posts), "targets": targets}


def choose_origins(times: NDArray[np.datetime64], training: int, count: int) -> Origins:
    """Return evenly spaced times after which there are a week and ten posts."""
    week = np.timedelta64(7, "D")
    end = min(times[-1] - week, times[-1 - max(POST_NUMBERS.values())])
    spread = (np.arange(count) + 0.5) / count * (end - times[training]).astype(float)
    at = times[training] + spread.astype("timedelta64[us]")
    return Origins(at, np.searchsorted(times, at, side="right") - 1)


def simulate(name: str, posts: pd.DataFrame, training: int, origins: Origins, hours: float, paths: int) -> list[Floats]:
    algorithm = load_algorithm(name, "timing")
    config = algorithm.options({}, "timing")
    model = algorithm.train(posts.iloc[:training], config, "timing")
    limits: dict[str, Any] = {"horizon_hours": hours, "max_posts": MAX_SIMULATED, "paths": paths}
    return [
        algorithm.simulate(model, posts, origins[[index]], config, seed=index, **limits)
        for index in range(len(origins))
    ]


def count_between(hours: Floats, start: Floats, end: Floats) -> NDArray[np.int64]:
    """Return how many posts there are after each start up to the end."""
    return np.searchsorted(hours, end, side="right") - np.searchsorted(hours, start, side="right")


def nth(future: Floats, number: int) -> Floats:
    """Return (paths,) hours to a post, `inf` where it is beyond the horizon."""
    return future[:, number - 1] if number <= future.shape[1] else np.full(len(future), np.inf)


def independent(at: Floats, window: float) -> int:
    """Return how many windows fit between the first and the last origin, at most the number of origins."""
    return max(1, min(len(at), int((at[-1] - at[0]) / window) + 1))


def scores(futures: dict[str, list[NDArray[Any]]], actual: NDArray[Any], independent_windows: int) -> dict[str, Any]:
    """Score the forecasts of a target, given as samples."""
    random = np.random.default_rng(0)
    found: dict[str, Any] = {"n": independent_windows}
    for name, samples in futures.items():
        low, high = np.array([np.quantile(each, [0.1, 0.9], method="inverted_cdf") for each in samples]).T
        below = np.array([(each < value).mean() for each, value in zip(samples, actual, strict=True)])
        equal = np.array([(each == value).mean() for each, value in zip(samples, actual, strict=True)])
        pit = below + random.random(len(actual)) * equal
        found[name] = {
            "coverage": float(((low <= actual) & (actual <= high)).mean()),
            "pit_coverage": float(((pit >= 0.1) & (pit <= 0.9)).mean()),  # noqa: PLR2004
            "below": float((pit < 0.1).mean()),  # noqa: PLR2004
            "above": float((pit > 0.9).mean()),  # noqa: PLR2004
            "crps": float(np.mean([crps(each, value) for each, value in zip(samples, actual, strict=True)])),
            "mean": float(np.mean([each.mean() for each in samples])),
            "actual_mean": float(actual.mean()),
        }
    for name in futures:
        found[name]["skill"] = 1 - found[name]["crps"] / found[NAIVE]["crps"]
    return found


def crps(sample: NDArray[Any], actual: float) -> float:
    """Return the CRPS of an empirical distribution (Gneiting and Raftery 2007, eq. 21)."""
    ordered = np.sort(sample).astype(float)
    count = len(ordered)
    spread = ((2 * np.arange(1, count + 1) - count - 1) @ ordered) / count**2
    return float(np.abs(ordered - actual).mean() - spread)


def print_table(target: str, results: list[dict[str, Any]]) -> None:
    names = [name for name in results[0]["targets"][target] if name != "n"]
    table = Table(title=f"Target: {target}", title_justify="left")
    table.add_column("stream", no_wrap=True)
    for column in ("n", "band", *(f"{name} {key}" for name in names for key in ("cov80", "pit80", "skill"))):
        table.add_column(column, justify="right")
    rows = []
    for result in results:
        scored = result["targets"][target]
        half = 1.96 * np.sqrt(0.16 / scored["n"])
        values = [scored[name][key] for name in names for key in ("coverage", "pit_coverage", "skill")]
        rows.append(values)
        band = f"{0.8 - half:.2f}-{min(0.8 + half, 1):.2f}"
        table.add_row(result["stream"], str(scored["n"]), band, *(f"{value:.2f}" for value in values))
    table.add_row("mean", "", "", *(f"{value:.2f}" for value in np.mean(rows, axis=0)))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
