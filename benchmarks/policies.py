"""Replay retraining policies on streams of posts: what do the settings of `retraining` cost or gain?

    make bench-policies                             simulated streams, and streams derived from posts of a working week
    make bench-policies STREAMS=files DATA=folder   every CSV of a folder, and the synthetic sample

The last 800 posts of each stream are replayed: `retrainer replay timing`, over the second half, in six steps. A policy
never retrains, or promotes by the 2% rule on up to 20 or up to 500 posts, with or without `min_confidence: 0.95`, or
promotes every version; each with and without `refit`. Test sets have 80 to 160 posts, so 500 posts means all of them.

The live score is that of the version in production at the time of each post. Skill is against the naive forecast, and
the difference that to the skill of the 2% rule on 20 posts; both are means over the streams. Intervals are 95%, by a
bootstrap of the streams, and in each of blocks of posts, the same for all policies. Results are written after each
stream, and streams that are in the file already are not replayed again: delete it after a change of the program.
"""

from __future__ import annotations

import json
import logging
from contextlib import closing
from datetime import timedelta
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from benchmarks import timing
from benchmarks.simulated import PROCESSES, derived_posts, simulated_posts
from benchmarks.streams import argument_parser, load_streams, measure_streams
from retrainer.algorithms.events import EventBus
from retrainer.errors import RetrainerError
from retrainer.evaluation.bootstrap import RESAMPLES, block_length, resampled_means
from retrainer.model_types.timing import Timing
from retrainer.posts.sample import sample_posts
from retrainer.posts.staging import COUNT_COLUMNS
from retrainer.project import Project, create_project
from retrainer.replay.runner import replay
from retrainer.runtime import Runtime

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TIMING = Timing()
REFERENCE = "2% on 20 posts"
# The name in a replay: what it is.
POLICIES = {
    "never": "never retrain",
    "configured": REFERENCE,
    "more": "2% on 500 posts",
    "confident": "2% on 500 posts, min_confidence 0.95",
    "always": "promote every version",
}
EXTRA_POLICIES = (
    "more: evaluation_max_predictions=500",
    "confident: evaluation_max_predictions=500, min_confidence=0.95",
)
WORKING_WEEK_POSTS = 1_600
MIN_POSTS = 200
WITH_REFIT = ", refit"
SEED = 0


def main(arguments: list[str] | None = None) -> None:
    parser = argument_parser(__doc__, "bench-policies.json")
    parser.add_argument("--streams", choices=("synthetic", "files"), default="synthetic")
    parser.add_argument("--stream", action="append", help="only the stream of this name; repeatable")
    parser.add_argument("--posts", type=int, default=800, help="of each stream, the last ones")
    parser.add_argument("--steps", type=int, default=6, help="of each policy, over the second half of the posts")
    parser.add_argument("--seed", type=int, default=1, help="of the synthetic streams")
    options = parser.parse_args(arguments)
    settings = {key: getattr(options, key) for key in ("posts", "steps", "seed")}
    known = _read(options.json, settings)

    def measured(name: str, posts: pd.DataFrame) -> dict[str, Any]:
        if name in known:
            print(f"{name}: from {options.json}")
        else:
            known[name] = measure(name, posts.tail(options.posts).reset_index(drop=True), options.steps)
            document = {**settings, "streams": list(known.values())}
            options.json.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
        return known[name]

    try:
        results = measure_streams(load(options), measured)
    except RetrainerError as error:
        parser.exit(error.exit_code, f"{error}\n")
    if not results:
        parser.exit(2, "No streams to replay\n")
    print_all(results)
    print(f"All results: {options.json}")


def load(options: argparse.Namespace) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the streams to replay, by name."""
    if options.streams == "files":
        streams = load_streams(options.data, timing.prepare, min_posts=MIN_POSTS, unit="posts")
    else:
        week = sample_posts(seed=options.seed, count=WORKING_WEEK_POSTS, working_week=True)
        derived = {"": week, **{f", {how}": posts for how, posts in derived_posts(week, options.seed).items()}}
        streams = chain(
            ((name, simulated_posts(name, options.seed)) for name in PROCESSES),
            ((f"working week{how}", posts) for how, posts in derived.items()),
        )
    for name, posts in streams:
        if options.stream is None or name in options.stream:
            yield name, timing.prepare(posts)


def measure(name: str, posts: pd.DataFrame, steps: int) -> dict[str, Any]:
    """Replay all policies on a stream; return what each live forecast contributed to the score, and the counts."""
    start, end = posts["created_at"].iloc[len(posts) // 2].to_pydatetime(), posts["created_at"].iloc[-1].to_pydatetime()
    policies: dict[str, Any] = {}
    with TemporaryDirectory() as path:
        folder = Path(path)
        create_project(folder)
        for refit in (False, True):
            days = ((end - start) / steps + timedelta(seconds=1)) / timedelta(days=1)  # rounded down, a step is left
            _configure(folder, {"schedule_days": days, "refit": refit})
            with closing(Project.find(folder, {})) as project:
                project.posts.add(posts.reindex(columns=[*posts, *COUNT_COLUMNS]), end)
                # Continuing the first replay, the second finds its models and forecasts.
                report = replay(
                    project,
                    Runtime(EventBus(lambda _: {})),
                    "timing",
                    end,
                    start,
                    policies=EXTRA_POLICIES,
                    resume=refit,
                )
            for short, label in POLICIES.items():
                found = report.policy(short)
                if found.live is None:
                    raise RetrainerError(f"no forecasts of '{name}' under the policy '{short}'")
                policies[label + WITH_REFIT * refit] = {
                    "figures": np.round(found.live.figures, 6).tolist(),
                    "trainings": found.trainings,
                    "promotions": found.promotions,
                    "reversed": found.reversed_promotions,
                    "missed": found.missed,
                }
                naive = np.round(found.live.naive_figures, 6).tolist()
    return {"stream": name, "posts": len(posts), "naive": naive, "policies": policies}


def print_all(results: Sequence[dict[str, Any]]) -> None:
    """Print the skill of each policy on each stream, and the means with their intervals as a Markdown table."""
    labels = list(results[0]["policies"])
    for result in results:
        naive = _score(result["naive"])
        print(f"\n{result['stream']}: {len(result['naive'])} posts forecast, naive score {naive:.4f}")
        for label in labels:
            policy = result["policies"][label]
            skill = (_score(policy["figures"]) - naive) / (1 - naive)
            print(f"  {label:45} skill {skill:+.4f}, {policy['promotions']} of {policy['trainings']} promoted")
    scores, skills = resample(results, labels)
    differences = skills - skills[:, [labels.index(REFERENCE)]]
    print(f"\nMeans of {len(results)} streams\n")
    print("| policy | live score (95%) | skill (95%) | difference in skill (95%) | promoted | reversed | missed |")
    print("|---|---|---|---|---|---|---|")
    for column, label in enumerate(labels):
        counts = [result["policies"][label] for result in results]
        promotions, trainings, wrong, missed = (
            sum(count[key] for count in counts) for key in ("promotions", "trainings", "reversed", "missed")
        )
        difference = "–" if label == REFERENCE else _with_interval(differences[:, column], "+.3f")
        print(
            f"| {label} | {_with_interval(scores[:, column], '.3f')} | {_with_interval(skills[:, column], '+.3f')} "
            f"| {difference} | {promotions} of {trainings} | {wrong} | {missed} |"
        )


def resample(results: Sequence[dict[str, Any]], labels: Sequence[str]) -> tuple[Floats, Floats]:
    """Return the mean live scores and skills of the policies over the streams, measured and resampled.

    Returns:
        Two (1 + RESAMPLES, policies) arrays; the first row is as measured.
    """
    found = []
    for number, result in enumerate(results):
        sides = [np.asarray(result["policies"][label]["figures"]) for label in labels]
        figures = np.hstack([*sides, np.asarray(result["naive"])])
        means = np.vstack([figures.mean(axis=0), resampled_means(figures, block_length(len(figures)), SEED + number)])
        found.append(TIMING.overall_score(means.reshape(len(means), len(labels) + 1, -1)))
    all_scores = np.stack(found)  # (streams, 1 + RESAMPLES, policies and naive)
    scores, naive = all_scores[:, :, :-1], all_scores[:, :, -1:]
    skills = (scores - naive) / (1 - naive)
    drawn = np.random.default_rng(SEED).integers(0, len(results), (RESAMPLES, len(results)))
    chosen = np.vstack([np.arange(len(results)), drawn])
    rows = np.arange(len(chosen))[:, None]
    return scores[chosen, rows].mean(axis=1), skills[chosen, rows].mean(axis=1)


def _configure(folder: Path, changes: dict[str, Any]) -> None:
    """Write the settings of a project: those below, whatever is shipped."""
    rule = {"evaluation_max_predictions": 20, "min_improvement_threshold": 2.0, "min_confidence": None}
    text = yaml.safe_dump({"timing_model": {"algorithm": "prophet"}, "retraining": {**rule, **changes}})
    (folder / "config" / "config.yaml").write_text(text, encoding="utf-8")


def _read(path: Path, settings: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Return the streams of an earlier call with the same settings, by name."""
    if not path.exists():
        return {}
    document = json.loads(path.read_text(encoding="utf-8"))
    if {key: document.get(key) for key in settings} != settings:
        return {}
    return {stream["stream"]: stream for stream in document["streams"]}


def _score(figures: list[list[float]]) -> float:
    return float(TIMING.overall_score(np.asarray(figures).mean(axis=0)))


def _with_interval(values: Floats, form: str) -> str:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return f"{values[0]:{form}} ({low:{form}} to {high:{form}})"


if __name__ == "__main__":
    logging.getLogger("retrainer").setLevel(logging.ERROR)
    main()
