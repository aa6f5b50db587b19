"""Tune algorithms on streams of posts, and measure on the test part, which no trial has seen, whether that pays.

    make bench-tune                              every CSV of ../shared/data, and the synthetic sample
    make bench-tune DATA=folder                  every CSV of a folder
    make bench-tune TUNED=prophet,baseline       these algorithms, each in a study of its own
    make bench-tune TRIALS=10 LATEST=1000        fewer trials, and only the last posts of each stream

Each stream is cut to its last posts, without repeated times. `retrainer tune` does what it does in a project with the
settings of `retrainer init`. Then the configured options and those of the best trial are both fitted on all training
posts, and forecast at most 200 posts of the test part (the last 20%). A gain is the difference of the metric, positive
if the best trial is better, with its 95% interval by a paired bootstrap of the posts:

- `folds`: on the folds by which the best trial was chosen, so it is too high;
- `held back`: on the last fold of the training posts, which decides whether the winner is kept;
- `test`: on the test part, of the best trial, whether it was kept or not.

`-` stands where no trial was better than the configured options on the folds.
"""

from __future__ import annotations

import json
import time
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.streams import argument_parser, load_streams, measure_streams
from retrainer.algorithms.events import EventBus
from retrainer.errors import RetrainerError
from retrainer.pipeline.split import split_by_time
from retrainer.project import Project, create_project
from retrainer.runtime import Runtime
from retrainer.tuning.folds import open_fold
from retrainer.tuning.objective import evaluate_on_fold, paired_gain
from retrainer.tuning.plan import METRICS, FoldBounds
from retrainer.tuning.request import TuningRequest
from retrainer.tuning.run import tune

if TYPE_CHECKING:
    import argparse

    import pandas as pd

    from retrainer.tuning.results import Gain, TuningResult

MIN_POSTS = 200
COUNTS = ("replies_count", "reblogs_count", "favourites_count")


def main(arguments: list[str] | None = None) -> None:
    parser = argument_parser(__doc__, "bench-tune.json")
    parser.add_argument("--algorithms", default="prophet,neural_tpp,baseline", help="names with commas between")
    parser.add_argument("--metric", choices=METRICS, default="overall_score")
    parser.add_argument("--trials", type=int, default=30, help="of each study")
    parser.add_argument("--posts", type=int, default=3000, help="the maximum number of posts of a stream, the latest")
    parser.add_argument("--seed", type=int, default=0, help="of the sampler")
    options = parser.parse_args(arguments)
    streams = load_streams(options.data, partial(prepare, count=options.posts), min_posts=MIN_POSTS, unit="posts")
    results = measure_streams(streams, partial(measure, options=options))
    options.json.write_text(json.dumps({"metric": options.metric, "streams": results}) + "\n", encoding="utf-8")
    print_all(results)
    print(f"All results: {options.json}")


def prepare(posts: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return the last posts in order, without repeated times."""
    ordered = posts.sort_values(["created_at", "post_id"]).drop_duplicates("created_at")
    return ordered.tail(count).reset_index(drop=True).reindex(columns=["post_id", "created_at", "content", *COUNTS])


def measure(name: str, posts: pd.DataFrame, options: argparse.Namespace) -> dict[str, Any]:
    """Tune every algorithm on a stream."""
    found = {}
    for algorithm in options.algorithms.split(","):
        print(f"{name}: {algorithm}", flush=True)
        try:
            found[algorithm] = tune_on(posts, algorithm, options)
        except RetrainerError as error:
            found[algorithm] = {"error": str(error)}
    return {"stream": name, "posts": len(posts), "algorithms": found}


def tune_on(posts: pd.DataFrame, algorithm: str, options: argparse.Namespace) -> dict[str, Any]:
    """Tune an algorithm in a project of its own, and compare the best trial with the defaults on the test part."""
    now = posts["created_at"].iloc[-1].to_pydatetime() + timedelta(minutes=1)
    with TemporaryDirectory() as folder:
        create_project(Path(folder))
        with closing(Project.find(Path(folder), {})) as project:
            project.posts.add(posts.astype(dict.fromkeys(COUNTS, "Int64")), now)
            runtime = Runtime(EventBus(lambda _: {}, mute=True))
            request = TuningRequest(
                "timing",
                (algorithm,),
                trials=options.trials,
                metric=options.metric,
                seed=options.seed,
                auto_promote=False,
            )
            started = time.perf_counter()
            result = tune(project, runtime, request, now)
            seconds = time.perf_counter() - started
            gain = None if result.winner is None else gain_on_test_part(project, runtime, result, now)
    outcome = result.outcome
    return {
        "options": None if result.winner is None else result.winner.options,
        "gain_on_folds": outcome and outcome.gain_on_folds,
        "held_back": describe(outcome.held_back if outcome else None),
        "kept": bool(outcome and outcome.kept),
        "test": describe(gain),
        "seconds": round(seconds, 1),
    }


def gain_on_test_part(project: Project, runtime: Runtime, result: TuningResult, now: Any) -> Gain:
    """Return the gain of the best trial over the configured options on the test part."""
    plan, winner = result.report.summary.plan, result.winner
    algorithm = runtime.algorithms(plan.algorithms[0].name, "timing")
    posts = project.posts.load(now, with_content=False)
    settings = project.settings.retraining
    split = split_by_time(posts, settings.test_split, settings.min_training_samples, "")
    bounds = FoldBounds(split.training_count, len(split.posts))
    fold = open_fold(split.posts, bounds, "timing", plan.max_predictions, plan.origin)
    sides = []
    for options in (plan.algorithms[0].options, {} if winner is None else winner.options):
        with runtime.open_budget() as budget:
            config = algorithm.recorded_options(options, "timing")
            sides.append(evaluate_on_fold(runtime, algorithm, config, fold, plan, budget))
    return paired_gain(sides[0], sides[1], plan.metric)


def describe(gain: Gain | None) -> dict[str, Any] | None:
    if gain is None:
        return None
    return {
        "value": gain.value,
        "interval": gain.interval,
        "default": gain.score_a,
        "tuned": gain.score_b,
        "posts": gain.num_predictions,
    }


def print_all(results: list[dict[str, Any]]) -> None:
    """Print one line a stream and algorithm."""
    columns = ("stream", "posts", "algorithm", "folds", "held back", "kept", "test", "default", "tuned", "seconds")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for stream in results:
        for algorithm, found in stream["algorithms"].items():
            cells = [stream["stream"], str(stream["posts"]), algorithm]
            if "error" in found:
                print("| " + " | ".join([*cells, found["error"]]) + " |")
                continue
            test = found["test"]
            cells += [
                "-" if found["gain_on_folds"] is None else f"{found['gain_on_folds']:+.4f}",
                format_gain(found["held_back"]),
                "yes" if found["kept"] else "no",
                format_gain(test),
                *("-" if test is None else f"{test[side]:.4f}" for side in ("default", "tuned")),
                f"{found['seconds']:.0f}",
            ]
            print("| " + " | ".join(cells) + " |")


def format_gain(gain: dict[str, Any] | None) -> str:
    if gain is None:
        return "-"
    low, high = gain["interval"]
    return f"{gain['value']:+.4f} ({low:+.4f} to {high:+.4f})"


if __name__ == "__main__":
    main()
