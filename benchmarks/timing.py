"""Score the timing algorithms, and two constants, on streams of posts.

    make bench-timing                               every CSV of ../shared/data, and the synthetic sample
    make bench-timing DATA=folder                   every CSV of a folder
    make bench-timing STREAMS=simulated             processes whose distribution of the next gap is known
    make bench-timing STREAMS=derived               streams derived from every CSV: thinned, merged, spliced, …
    make bench-timing ALGORITHMS=prophet,ensemble   with other algorithms; each is compared with those before it
    make bench-timing AGAINST=earlier.json          also the differences to an earlier result, or another checkout's
    make bench-timing PNG=folder                    also reliability diagrams
    make bench-timing OPTIONS='{"trend": true}'     with options of `prophet`

Of the last 12,000 posts, without repeated times, the first 80% are for training, with one fit. One-step forecasts are
made from at most 500 origins, evenly spaced over the rest: right after posts (`post`), or at wall-clock times
(`clock`). The constants are the median of the training waits, and the value that maximises the overall score on them;
these waits are the gaps, or for `clock` the waits at 20,000 evenly spaced training times. Skill is 1 − CRPS / CRPS of
the distribution of these waits; skill over `baseline` is 1 − CRPS / CRPS of `baseline`, which at clock origins knows
the silence so far. `log CRPS` is the natural logarithm of the mean CRPS in hours: a difference of −.02 is 2% less.
`cov80` is the share of waits inside the 80% interval, and `band` where it lies in 95% of cases if forecasts are
calibrated, on the effective number of gaps. Intervals of differences are 95%, by a paired block bootstrap.

Where the test part has silences of over 36 hours, forecasts are made every six hours in them: `o/e` is the number of
posts that ended them over the number that the forecasts expected; its band is where so many posts leave it in 95% of
cases if the hazard is right. On simulated streams, `truth` forecasts by the process itself, and no other forecast
from the posts so far is better in the mean; `tail` is the stated over the true probability of a gap beyond ten usual
gaps (the median of training), and of a long wait after such a silence.
"""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import timing_report
from benchmarks.simulated import PROCESSES, START, derived_posts, simulated_posts
from benchmarks.streams import argument_parser, load_streams, measure_streams
from benchmarks.timing_scores import (
    TIMING,
    Setting,
    by_silence,
    coverage_band,
    crps,
    difference,
    expected_posts,
    long_silences,
    pairs,
    per_origin,
    reliability,
    tail,
    tail_origins,
    true_forecasts,
)
from retrainer.algorithms.manager import load_algorithm
from retrainer.errors import RetrainerError, UsageError
from retrainer.model_types.base import Origins, evenly_spaced, hours_between, utc_times
from retrainer.model_types.timing import LEVELS, TimingForecasts, TimingTargets

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    import pandas as pd
    from numpy.typing import NDArray

    from benchmarks.simulated import Process

    Floats = NDArray[np.float64]
    Predict = Callable[[Origins], TimingForecasts]

MAX_POSTS = 12_000
TRAINING_SHARE = 0.8
TRAINING_TIMES = 20_000
MIN_POSTS = 20  # with four test posts
TAIL_ORIGINS = 200
NAIVE = "baseline"
TRUTH = "truth"


def main(arguments: list[str] | None = None) -> None:
    parser = argument_parser(__doc__, "bench-timing.json")
    parser.add_argument("--streams", choices=("files", "derived", "simulated"), default="files")
    parser.add_argument(
        "--algorithms", default="prophet", help=f"names with commas between; `{NAIVE}` always comes first"
    )
    parser.add_argument("--options", type=json.loads, default={}, help="options of `prophet`, as JSON")
    parser.add_argument("--origins", type=int, default=500, help="the maximum number of origins of each kind")
    parser.add_argument("--seed", type=int, default=1, help="of simulated and derived streams")
    parser.add_argument("--process", choices=PROCESSES, help="only this one of the simulated streams")
    parser.add_argument("--posts", type=int, help="the length of simulated streams, instead of their own")
    parser.add_argument("--against", type=Path, help="an earlier result of the same streams")
    parser.add_argument("--png", type=Path, help="a folder for reliability diagrams")
    options = parser.parse_args(arguments)
    try:
        earlier = None if options.against is None else read_earlier(options.against)
        measured = partial(measure, algorithms=options.algorithms.split(","), options=options)
        results = measure_streams(load(options), measured)
    except RetrainerError as error:
        parser.exit(error.exit_code, f"{error}\n")
    document = {"options": options.options, "streams": results}
    options.json.write_text(json.dumps(document, indent=None, separators=(",", ":")) + "\n", encoding="utf-8")
    timing_report.print_all(results, earlier)
    if options.png:
        timing_report.save_diagrams(results, options.png)
    print(f"All results: {options.json}")


def read_earlier(path: Path) -> dict[str, dict[str, Any]]:
    """Return the streams of an earlier result by name."""
    try:
        streams = json.loads(path.read_text(encoding="utf-8"))["streams"]
        return {stream["stream"]: stream for stream in streams if "wait_hours" in stream["post"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"cannot read '{path}': {error}", hint="Name the JSON file of an earlier run") from error


def load(options: argparse.Namespace) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the streams to measure, by name."""
    if options.streams == "simulated":
        for name in [options.process] if options.process else PROCESSES:
            yield name, prepare(simulated_posts(name, options.seed, options.posts))
        return
    streams = load_streams(options.data, prepare, min_posts=MIN_POSTS, unit="posts")
    if options.streams == "files":
        yield from streams
        return
    for name, posts in streams:
        for how, derived in derived_posts(posts, options.seed).items():
            if len(derived) >= MIN_POSTS:
                yield f"{name}, {how}", prepare(derived)


def prepare(posts: pd.DataFrame) -> pd.DataFrame:
    """Return the last posts in order, without repeated times."""
    ordered = posts.sort_values(["created_at", "post_id"]).drop_duplicates("created_at")
    return ordered[["post_id", "created_at", "content"]].tail(MAX_POSTS).reset_index(drop=True)


def measure(name: str, posts: pd.DataFrame, algorithms: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Train and score every algorithm on a stream."""
    times = utc_times(posts)
    training = int(len(posts) * TRAINING_SHARE)
    usual_gap = float(np.median(hours_between(times[: training - 1], times[1:training])))
    settings = {
        "post": after_posts(posts, training, options.origins),
        "clock": at_clock_times(posts, training, options.origins),
    }
    silences = long_silences(times, training, options.origins)
    process = PROCESSES[name][0] if options.streams == "simulated" else None
    result: dict[str, Any] = {"stream": name, "posts": len(posts), "usual_gap_hours": usual_gap, "fit_seconds": {}}
    result |= {origin: describe(setting) for origin, setting in settings.items()}
    for algorithm_name in [
        NAIVE,
        *(name for name in algorithms if name != NAIVE),
    ]:  # first: others are compared with it
        algorithm = load_algorithm(algorithm_name, "timing")
        config = algorithm.options(options.options if algorithm_name == "prophet" else {}, "timing")
        started = time.perf_counter()
        model = algorithm.train(posts.iloc[:training], config, "timing")
        result["fit_seconds"][algorithm_name] = time.perf_counter() - started
        predict = partial(algorithm.predict, model, posts, config=config, model_type="timing")
        for origin, setting in settings.items():
            result[origin][algorithm_name] = score(predict, setting, result[origin], usual_gap)
        if silences is not None:
            origins, hours, ended = silences
            expected = expected_posts(predict(origins), hours)
            found = {"observed": ended, "expected": expected, "ratio": ended / expected}
            result.setdefault("long_silences", {})[algorithm_name] = found
        if process is not None:
            result.setdefault("tail", {})[algorithm_name] = score_tail(predict, process, times, training, usual_gap)
    if process is not None:
        result["fit_seconds"][TRUTH] = 0.0
        for origin, setting in settings.items():
            predict = partial(
                true_forecasts, process, hours_between(np.asarray(START), times), setting.silence, usual_gap
            )
            result[origin][TRUTH] = score(predict, setting, result[origin], usual_gap)
    names = list(result["fit_seconds"])
    for origin, setting in settings.items():
        figures = {name: result[origin][name]["per_origin"] for name in names}
        result[origin]["differences"] = {
            f"{one} − {other}": difference(figures[one], figures[other], setting.effective_gaps)
            for one, other in pairs(names)
        }
    return result


def score(predict: Predict, setting: Setting, known: dict[str, Any], usual_gap: float) -> dict[str, Any]:
    """Score the forecasts from the origins of a setting.

    Args:
        predict: makes the forecasts.
        setting: the origins.
        known: what was found for the setting so far: the constants, the reference, and `baseline`.
        usual_gap: hours.
    """
    started = time.perf_counter()
    forecasts = predict(setting.origins)
    seconds = time.perf_counter() - started
    waits = setting.targets.wait_hours
    metrics = TIMING.score(forecasts, setting.targets)
    naive = known.get(NAIVE, metrics)["crps_hours"]
    median = TIMING.score(TimingForecasts(forecasts.quantiles, forecasts.median), setting.targets)
    return {
        **metrics,
        "num_predictions": len(setting.origins),
        "log_crps": float(np.log(metrics["crps_hours"])),
        "skill": 1 - metrics["crps_hours"] / known["reference"]["crps_hours"],
        "skill_over_baseline": 1 - metrics["crps_hours"] / naive,
        "overall_score_of_the_median": median["overall_score"],
        "predict_seconds": seconds,
        "by_silence": by_silence(forecasts, setting, usual_gap, crps(reference(setting), waits)),
        "reliability": np.round(reliability(forecasts, waits), 4).tolist(),
        "per_origin": per_origin(forecasts, setting.targets),
    }


def score_tail(
    predict: Predict, process: Process, times: NDArray[np.datetime64], training: int, usual_gap: float
) -> dict[str, Any]:
    """Compare the tail of the forecasts after some test posts with the truth."""
    rows = training + evenly_spaced(len(times) - training, TAIL_ORIGINS)
    forecasts = {
        "post": predict(Origins(times[rows], rows)),
        "silence": predict(tail_origins(times, rows, usual_gap)),
    }
    return tail(process, hours_between(np.asarray(START), times), rows, usual_gap, forecasts)


def after_posts(posts: pd.DataFrame, training: int, max_origins: int) -> Setting:
    times = utc_times(posts)
    rows = training + evenly_spaced(len(posts) - training, max_origins)
    gaps = hours_between(times[: training - 1], times[1:training])
    origins = Origins.before(posts, rows)
    return Setting(origins, TimingTargets(hours_between(times[rows - 1], times[rows])), np.zeros(len(rows)), gaps)


def at_clock_times(posts: pd.DataFrame, training: int, max_origins: int) -> Setting:
    times = utc_times(posts)
    at, known, waits = waits_at(times, times[training], times[-1], max_origins)
    _, _, training_waits = waits_at(times[:training], times[0], times[training - 1], TRAINING_TIMES)
    return Setting(Origins(at, known), TimingTargets(waits), hours_between(times[known], at), training_waits)


def waits_at(
    times: NDArray[np.datetime64], start: np.datetime64, end: np.datetime64, count: int
) -> tuple[NDArray[np.datetime64], NDArray[np.int64], Floats]:
    """Return evenly spaced times, the last post before each, and the wait until the next post."""
    at = start + (np.arange(1, count + 1) / (count + 1) * (end - start).astype(float)).astype("timedelta64[us]")
    known = np.searchsorted(times, at, side="right") - 1
    return at, known, hours_between(at, times[known + 1])


def describe(setting: Setting) -> dict[str, Any]:
    """Return the waits, the two constants and the reference with their scores, and the band of the coverage."""
    waits = setting.training_waits
    candidates = np.unique(np.quantile(waits, np.linspace(0, 1, 401)))
    scores = [overall_score(point, TimingTargets(waits)) for point in candidates]
    points = {"constant_median": float(np.median(waits)), "constant_best": float(candidates[int(np.argmax(scores))])}
    found: dict[str, Any] = {
        name: {
            "point_hours": point,
            **TIMING.score(constant_forecasts(point, setting.targets.wait_hours), setting.targets),
        }
        for name, point in points.items()
    }
    return {
        **found,
        "reference": TIMING.score(reference(setting), setting.targets),
        "wait_hours": np.round(setting.targets.wait_hours, 6).tolist(),
        "effective_gaps": setting.effective_gaps,
        "coverage_band": coverage_band(setting.effective_gaps),
    }


def reference(setting: Setting) -> TimingForecasts:
    """Return the distribution of the training waits, from every origin."""
    quantiles = np.tile(np.quantile(setting.training_waits, LEVELS), (len(setting.origins), 1))
    return TimingForecasts(quantiles, quantiles[:, 49])


def overall_score(point: float, targets: TimingTargets) -> float:
    """Return the overall score of a constant."""
    count = len(targets.wait_hours)
    forecasts = TimingForecasts(np.empty((count, 0)), np.full(count, point))
    return float(TIMING.overall_score(TIMING.score_components(forecasts, targets).mean(axis=0)))


def constant_forecasts(point: float, waits: Floats) -> TimingForecasts:
    return TimingForecasts(np.full((len(waits), len(LEVELS)), point), np.full(len(waits), point))


if __name__ == "__main__":
    main()
