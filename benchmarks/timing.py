"""Score the timing algorithms, and two constants, on streams of posts.

    make bench-timing                               every CSV of ../shared/data, and the synthetic sample
    make bench-timing DATA=folder                   every CSV of a folder
    make bench-timing OPTIONS='{"trend": true}'     with options of `prophet`

Of the last 12,000 posts, without repeated times, the first 80% are for training, with one fit. One-step forecasts are
made from at most 500 origins, evenly spaced over the rest: right after posts (`post`), or at wall-clock times
(`clock`). The constants are the median of the training waits, and the value that maximises the overall score on them;
these waits are the gaps, or for `clock` the waits at 20,000 evenly spaced training times. Skill is 1 − CRPS / CRPS of
the distribution of these waits; skill over `baseline` is 1 − CRPS / CRPS of `baseline`, which at clock origins knows
the silence so far. `cov80` is the share of waits inside the 80% interval.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.streams import argument_parser, measure_streams
from retrainer.algorithms.manager import list_algorithms, load_algorithm
from retrainer.model_types.base import Origins, evenly_spaced, hours_between, utc_times
from retrainer.model_types.timing import LEVELS, Timing, TimingForecasts, TimingTargets

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MAX_POSTS = 12_000
TRAINING_SHARE = 0.8
TRAINING_TIMES = 20_000
MIN_POSTS = 20  # with four test posts
NAIVE = "baseline"
TIMING = Timing()


@dataclass(frozen=True)
class Setting:
    """One kind of origins of a stream.

    Attributes:
        origins: the origins of the forecasts.
        targets: the actual waits.
        training_waits: waits of the same kind in the training part.
    """

    origins: Origins
    targets: TimingTargets
    training_waits: Floats


def main() -> None:
    parser = argument_parser(__doc__, "bench-timing.json")
    parser.add_argument("--options", type=json.loads, default={}, help="options of `prophet`, as JSON")
    parser.add_argument("--origins", type=int, default=500, help="the maximum number of origins of each kind")
    options = parser.parse_args()
    measure_stream = partial(measure, options=options.options, max_origins=options.origins)
    results = measure_streams(options.data, measure_stream, prepare, min_posts=MIN_POSTS, unit="posts")
    document = {"options": options.options, "streams": results}
    options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for origin in ("post", "clock"):
        print_table(origin, results)
    print(f"All results: {options.json}")


def prepare(posts: pd.DataFrame) -> pd.DataFrame:
    """Return the last posts in order, without repeated times."""
    ordered = posts.sort_values(["created_at", "post_id"]).drop_duplicates("created_at")
    return ordered[["post_id", "created_at", "content"]].tail(MAX_POSTS).reset_index(drop=True)


def measure(name: str, posts: pd.DataFrame, options: dict[str, Any], max_origins: int) -> dict[str, Any]:
    """Train and score every algorithm on a stream."""
    training = int(len(posts) * TRAINING_SHARE)
    settings = {
        "post": after_posts(posts, training, max_origins),
        "clock": at_clock_times(posts, training, max_origins),
    }
    result: dict[str, Any] = {"stream": name, "posts": len(posts), "fit_seconds": {}}
    result |= {origin: score_constants(setting) for origin, setting in settings.items()}
    descriptions = {plugin.name: plugin.description for plugin in list_algorithms()}
    names = [name for name, description in descriptions.items() if description and "timing" in description.model_types]
    for algorithm_name in sorted(names, key=lambda name: name != NAIVE):  # first, since others are compared with it
        algorithm = load_algorithm(algorithm_name, "timing")
        config = algorithm.options(options if algorithm_name == "prophet" else {}, "timing")
        started = time.perf_counter()
        model = algorithm.train(posts.iloc[:training], config, "timing")
        result["fit_seconds"][algorithm_name] = time.perf_counter() - started
        for origin, setting in settings.items():
            started = time.perf_counter()
            forecasts = algorithm.predict(model, posts, setting.origins, config, "timing")
            seconds = time.perf_counter() - started
            metrics = TIMING.score(forecasts, setting.targets)
            crps = result[origin]["reference"]["crps_hours"]
            naive = result[origin].get(NAIVE, metrics)["crps_hours"]
            median = TIMING.score(TimingForecasts(forecasts.quantiles, forecasts.median), setting.targets)
            result[origin][algorithm_name] = {
                **metrics,
                "num_predictions": len(setting.origins),
                "skill": 1 - metrics["crps_hours"] / crps,
                "skill_over_baseline": 1 - metrics["crps_hours"] / naive,
                "overall_score_of_the_median": median["overall_score"],
                "predict_seconds": seconds,
            }
    return result


def after_posts(posts: pd.DataFrame, training: int, max_origins: int) -> Setting:
    times = utc_times(posts)
    rows = training + evenly_spaced(len(posts) - training, max_origins)
    gaps = hours_between(times[: training - 1], times[1:training])
    return Setting(Origins.before(posts, rows), TimingTargets(hours_between(times[rows - 1], times[rows])), gaps)


def at_clock_times(posts: pd.DataFrame, training: int, max_origins: int) -> Setting:
    times = utc_times(posts)
    at, known, waits = waits_at(times, times[training], times[-1], max_origins)
    _, _, training_waits = waits_at(times[:training], times[0], times[training - 1], TRAINING_TIMES)
    return Setting(Origins(at, known), TimingTargets(waits), training_waits)


def waits_at(
    times: NDArray[np.datetime64], start: np.datetime64, end: np.datetime64, count: int
) -> tuple[NDArray[np.datetime64], NDArray[np.int64], Floats]:
    """Return evenly spaced times, the last post before each, and the wait until the next post."""
    at = start + (np.arange(1, count + 1) / (count + 1) * (end - start).astype(float)).astype("timedelta64[us]")
    known = np.searchsorted(times, at, side="right") - 1
    return at, known, hours_between(at, times[known + 1])


def score_constants(setting: Setting) -> dict[str, Any]:
    """Score the two constants, and the distribution of the training waits."""
    candidates = np.unique(np.quantile(setting.training_waits, np.linspace(0, 1, 401)))
    scores = [
        TIMING.score(constant_forecasts(point, setting.training_waits), TimingTargets(setting.training_waits))
        for point in candidates
    ]
    best = candidates[int(np.argmax([score["overall_score"] for score in scores]))]
    points = {"constant_median": float(np.median(setting.training_waits)), "constant_best": float(best)}
    found: dict[str, Any] = {
        name: {
            "point_hours": point,
            **TIMING.score(constant_forecasts(point, setting.targets.wait_hours), setting.targets),
        }
        for name, point in points.items()
    }
    quantiles = np.tile(np.quantile(setting.training_waits, LEVELS), (len(setting.origins), 1))
    found["reference"] = TIMING.score(TimingForecasts(quantiles, quantiles[:, 49]), setting.targets)
    return found


def constant_forecasts(point: float, waits: Floats) -> TimingForecasts:
    return TimingForecasts(np.full((len(waits), len(LEVELS)), point), np.full(len(waits), point))


def print_table(origin: str, results: list[dict[str, Any]]) -> None:
    names = [name for name in results[0]["fit_seconds"] if name != NAIVE]
    table = Table(title=f"Origins: {origin}", title_justify="left")
    table.add_column("stream", no_wrap=True)
    columns = ["n", "median const.", "best const.", NAIVE]
    for name in names:
        columns += [name, "its median", "skill", f"over {NAIVE}", "cov80", "fit s", "predict s"]
    for column in columns:
        table.add_column(column, justify="right")
    rows = {result["stream"]: row_values(result[origin], result["fit_seconds"], names) for result in results}
    rows["mean"] = np.mean(list(rows.values()), axis=0).tolist()
    for stream, values in rows.items():
        table.add_row(stream, f"{values[0]:.0f}", *(f"{value:.3f}" for value in values[1:]))
    Console(width=160).print(table)


def row_values(scores: dict[str, Any], fit_seconds: dict[str, float], names: list[str]) -> list[float]:
    constants = ("constant_median", "constant_best", NAIVE)
    values = [scores[NAIVE]["num_predictions"], *(scores[name]["overall_score"] for name in constants)]
    keys = ("overall_score", "overall_score_of_the_median", "skill", "skill_over_baseline", "interval_coverage")
    for name in names:
        values += [*(scores[name][key] for key in keys), fit_seconds[name], scores[name]["predict_seconds"]]
    return values


if __name__ == "__main__":
    main()
