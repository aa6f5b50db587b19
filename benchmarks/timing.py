"""Measure how well the timing algorithms forecast streams of posts, next to two constants.

    make bench-timing                               the synthetic sample and every CSV of ../shared/data
    make bench-timing DATA=folder                   every CSV of a folder
    make bench-timing OPTIONS='{"trend": true}'     with options of `prophet`

Protocol: the last 12,000 posts, one per point in time. The first 80% train, in one fit. Forecasts one step ahead from
at most 500 origins, spread evenly over the rest: right after a post (`post`) or at evenly spaced times (`clock`). The
constants are the median of the training gaps (for clock origins: of the waits at 20,000 evenly spaced training times)
and the value that maximises the overall score on them. Skill is 1 − CRPS / CRPS of the distribution of these gaps or
waits; skill over `baseline` is 1 − CRPS / CRPS of `baseline`, which at clock origins knows the silence so far. `cov80`
is the share of waits inside the 80% interval.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.streams import streams
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
MIN_POSTS = 20
NAIVE = "baseline"
TIMING = Timing()


@dataclass(frozen=True)
class Setting:
    """The origins of one kind in one stream.

    Attributes:
        origins: when the forecasts are made.
        targets: the waits that occurred.
        training_waits: waits of the same kind in the training part.
    """

    origins: Origins
    targets: TimingTargets
    training_waits: Floats


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of CSV files")
    arguments.add_argument("--options", type=json.loads, default={}, help="options of `prophet`, as JSON")
    arguments.add_argument("--origins", type=int, default=500, help="maximum number of origins of each kind")
    arguments.add_argument("--json", type=Path, default=Path("bench-timing.json"), help="file to write all figures to")
    given = arguments.parse_args()
    found = list(streams(given.data, prepare, MIN_POSTS, "posts"))
    shown = track(found, "Streams", console=Console(stderr=True), transient=True, disable=not Console().is_terminal)
    results = [measure(name, posts, given.options, given.origins) for name, posts in shown]
    given.json.write_text(json.dumps({"options": given.options, "streams": results}, indent=1) + "\n", encoding="utf-8")
    for kind in ("post", "clock"):
        print_table(kind, results)
    print(f"All figures: {given.json}")


def prepare(posts: pd.DataFrame) -> pd.DataFrame:
    """Return the last posts in order, one per point in time."""
    ordered = posts.sort_values(["created_at", "post_id"]).drop_duplicates("created_at")
    return ordered[["post_id", "created_at", "content"]].tail(MAX_POSTS).reset_index(drop=True)


def measure(name: str, posts: pd.DataFrame, options: dict[str, Any], max_origins: int) -> dict[str, Any]:
    """Train and score every algorithm on one stream."""
    training = int(len(posts) * TRAINING_SHARE)
    settings = {"post": after_posts(posts, training, max_origins), "clock": by_the_clock(posts, training, max_origins)}
    result: dict[str, Any] = {"stream": name, "posts": len(posts), "fit_seconds": {}}
    result |= {kind: constants(setting) for kind, setting in settings.items()}
    names = [plugin.name for plugin in list_algorithms() if plugin.description and is_timing(plugin.description)]
    for algorithm_name in sorted(names, key=lambda name: name != NAIVE):
        algorithm = load_algorithm(algorithm_name, "timing")
        chosen = algorithm.options(options if algorithm_name == "prophet" else {}, "timing")
        started = time.perf_counter()
        model = algorithm.train(posts.iloc[:training], chosen, "timing")
        result["fit_seconds"][algorithm_name] = time.perf_counter() - started
        for kind, setting in settings.items():
            started = time.perf_counter()
            forecasts = algorithm.predict(model, posts, setting.origins, chosen, "timing")
            seconds = time.perf_counter() - started
            metrics = TIMING.score(forecasts, setting.targets)
            crps = result[kind]["reference"]["crps_hours"]
            naive = result[kind].get(NAIVE, metrics)["crps_hours"]
            median = TIMING.score(TimingForecasts(forecasts.quantiles, forecasts.median), setting.targets)
            result[kind][algorithm_name] = {
                **metrics,
                "num_predictions": len(setting.origins),
                "skill": 1 - metrics["crps_hours"] / crps,
                "skill_over_baseline": 1 - metrics["crps_hours"] / naive,
                "overall_score_of_the_median": median["overall_score"],
                "predict_seconds": seconds,
            }
    return result


def is_timing(description: Any) -> bool:
    return "timing" in description.model_types


def after_posts(posts: pd.DataFrame, training: int, max_origins: int) -> Setting:
    times = utc_times(posts)
    rows = training + evenly_spaced(len(posts) - training, max_origins)
    gaps = hours_between(times[: training - 1], times[1:training])
    return Setting(Origins.before(posts, rows), TimingTargets(hours_between(times[rows - 1], times[rows])), gaps)


def by_the_clock(posts: pd.DataFrame, training: int, max_origins: int) -> Setting:
    times = utc_times(posts)
    at, known, waits = waits_from(times, times[training], times[-1], max_origins)
    _, _, training_waits = waits_from(times[:training], times[0], times[training - 1], TRAINING_TIMES)
    return Setting(Origins(at, known), TimingTargets(waits), training_waits)


def waits_from(
    times: NDArray[np.datetime64], start: np.datetime64, end: np.datetime64, count: int
) -> tuple[NDArray[np.datetime64], NDArray[np.int64], Floats]:
    """Return evenly spaced times between two, the last post before each, and the wait until the next."""
    at = start + (np.arange(1, count + 1) / (count + 1) * (end - start).astype(float)).astype("timedelta64[us]")
    known = np.searchsorted(times, at, side="right") - 1
    return at, known, hours_between(at, times[known + 1])


def constants(setting: Setting) -> dict[str, Any]:
    """Score the two constants and the distribution of the training waits."""
    candidates = np.unique(np.quantile(setting.training_waits, np.linspace(0, 1, 401)))
    scores = [
        TIMING.score(forecast_of(point, setting.training_waits), TimingTargets(setting.training_waits))
        for point in candidates
    ]
    best = candidates[int(np.argmax([score["overall_score"] for score in scores]))]
    points = {"constant_median": float(np.median(setting.training_waits)), "constant_best": float(best)}
    found: dict[str, Any] = {
        name: {
            "point_hours": point,
            **TIMING.score(forecast_of(point, setting.targets.wait_hours), setting.targets),
        }
        for name, point in points.items()
    }
    quantiles = np.tile(np.quantile(setting.training_waits, LEVELS), (len(setting.origins), 1))
    found["reference"] = TIMING.score(TimingForecasts(quantiles, quantiles[:, 49]), setting.targets)
    return found


def forecast_of(point: float, waits: Floats) -> TimingForecasts:
    return TimingForecasts(np.full((len(waits), len(LEVELS)), point), np.full(len(waits), point))


def print_table(kind: str, results: list[dict[str, Any]]) -> None:
    names = [name for name in results[0]["fit_seconds"] if name != NAIVE]
    table = Table(title=f"Origins: {kind}", title_justify="left")
    table.add_column("stream", no_wrap=True)
    columns = ["n", "median const.", "best const.", NAIVE]
    for name in names:
        columns += [name, "its median", "skill", f"over {NAIVE}", "cov80", "fit s", "predict s"]
    for column in columns:
        table.add_column(column, justify="right")
    lines = [(result["stream"], line(kind, result, names)) for result in results]
    for stream, figures in lines:
        table.add_row(stream, *format_row(figures))
    table.add_row(
        "mean", *format_row([float(np.mean(column)) for column in zip(*(figures for _, figures in lines), strict=True)])
    )
    Console(width=160).print(table)


def line(kind: str, result: dict[str, Any], names: list[str]) -> list[float]:
    scores = result[kind]
    figures = [
        scores[NAIVE]["num_predictions"],
        *(scores[name]["overall_score"] for name in ("constant_median", "constant_best")),
    ]
    figures.append(scores[NAIVE]["overall_score"])
    for name in names:
        figures += [scores[name][key] for key in ("overall_score", "overall_score_of_the_median", "skill")]
        figures += [scores[name]["skill_over_baseline"], scores[name]["interval_coverage"], result["fit_seconds"][name]]
        figures.append(scores[name]["predict_seconds"])
    return figures


def format_row(figures: list[float]) -> list[str]:
    return [f"{figures[0]:.0f}", *(f"{figure:.3f}" for figure in figures[1:])]


if __name__ == "__main__":
    main()
