"""Measure how soon live scores show that a forecaster is worse, and how often they show it falsely.

    make bench-live                   every CSV of ../shared/data, and the synthetic sample
    make bench-live DATA=folder       every CSV of a folder

Of each stream, without repeated times, the first half is for training, and up to 3,000 later posts are live. The worse
of two forecasters is in production, the better one is `prophet`. The worse one is `prophet` with all waits longer
("slow") or shorter ("quick"), so that its CRPS is 15% or 30% larger; `baseline`; or `prophet` that takes the time of
every post as 12 hours later (and as 520 weeks earlier, before the end of its training, since it would learn from later
posts that something is wrong). The e-process is started at 100 evenly spaced live posts and sees every live post once,
going round. "Worse" is said at E ≥ 20, an A/B test is decided at E ≥ 40, a rollback is made at E ≥ 100: after how many
posts, the median and 90%; ∞ is beyond these posts.

`waits` is the mean forecast wait, as a multiple of `prophet`'s. `in 2x` is the share of the starts with a rollback
within twice the median. `t test` is how many posts a single one-sided t test at 5% needs to find the difference with a
probability of 50% and 90%, if their number is fixed before: whether a difference is hard to find at all.
`wrong` counts the starts after which the one with the smaller losses was ever called worse at E ≥ 20. `split` is how
many times the posts a split would need for the same standard error: the difference of the mean losses has the variance
2 (Var a + Var b) / n if each post is forecast by one of the two, Var(a − b) / n if by both.

False calls are two-sided at 5%, with a look after each of 2,000 posts; beside them is a bootstrap repeated every 20
posts. For the streams, outcomes are drawn from `prophet` and `baseline` so that both are equally good. In the fleet,
450 streams of equal forecasters and 50 with one 15% slow are rolled back by e-BH at a rate of 0.1, looking every 20
posts, and for comparison each by itself at E ≥ 20.
"""

from __future__ import annotations

import json
from datetime import timedelta
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.equal_forecasters import (
    POSTS,
    SEED,
    DrawnOutcomes,
    autocorrelated,
    false_calls,
    independent,
    of_changing_size,
    skewed,
)
from benchmarks.streams import argument_parser, load_streams, measure_streams
from retrainer.algorithms.manager import load_algorithm
from retrainer.errors import RetrainerError
from retrainer.evaluation.sequential import (
    INTERVAL_THRESHOLD,
    ROLLBACK_THRESHOLD,
    VERDICT_THRESHOLD,
    EProcess,
    Stakes,
    crps_stakes,
    select_by_e_bh,
)
from retrainer.model_types.base import Origins, hours_between, utc_times
from retrainer.model_types.timing import pinball_loss

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MIN_POSTS = 600
MAX_LIVE_POSTS = 3000
STARTS = 100
STREAMS = 1000  # of equal forecasters, of each kind
DRAWN_STREAMS = 300
FLEET, WORSE, RATE, LOOK_EVERY = 500, 50, 0.1, 20
THRESHOLDS = {"verdict": VERDICT_THRESHOLD, "ab_test": INTERVAL_THRESHOLD, "rollback": ROLLBACK_THRESHOLD}
LEVEL = 1 / VERDICT_THRESHOLD
SHIFT = timedelta(hours=12, weeks=-520)
SIMULATED = {
    "independent, like the score": independent,
    "independent, skewed": skewed,
    "of changing size": of_changing_size,
    "autocorrelated 0.05": autocorrelated(0.05),
    "autocorrelated 0.1": autocorrelated(0.1),
    "autocorrelated 0.2": autocorrelated(0.2),
}


def main(arguments: list[str] | None = None) -> None:
    parser = argument_parser(__doc__, "bench-live.json")
    options = parser.parse_args(arguments)
    try:
        streams = measure_streams(load_streams(options.data, prepare, min_posts=MIN_POSTS, unit="posts"), measure)
    except RetrainerError as error:
        parser.exit(error.exit_code, f"{error}\n")
    simulated = {name: false_calls(draw, STREAMS) for name, draw in SIMULATED.items()}
    document = {"streams": streams, "simulated": simulated}
    options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print_all(streams, simulated)
    print(f"All results: {options.json}")


def prepare(posts: pd.DataFrame) -> pd.DataFrame:
    """Return the posts in order, without repeated times."""
    ordered = posts.sort_values(["created_at", "post_id"]).drop_duplicates("created_at")
    return ordered[["post_id", "created_at", "content"]].reset_index(drop=True)


def measure(name: str, posts: pd.DataFrame) -> dict[str, Any]:
    """Measure the posts until a call, and the false calls, on a stream."""
    training = len(posts) // 2
    rows = np.arange(training, min(len(posts), training + MAX_LIVE_POSTS))
    times = utc_times(posts)
    waits = hours_between(times[rows - 1], times[rows])
    prophet = forecast("prophet", posts, training, rows)
    baseline = forecast("baseline", posts, training, rows)
    worse = {
        f"{share:.0%} {how}": rescaled(prophet, waits, share, slow=how == "slow")
        for share in (0.15, 0.3)
        for how in ("slow", "quick")
    }
    worse |= {"`baseline`": baseline, "shifted by 12 h": forecast("prophet", posts, training, rows, SHIFT)}
    drawn = DrawnOutcomes(prophet[:POSTS], baseline[:POSTS])
    return {
        "stream": name,
        "live_posts": len(rows),
        "power": {pair: power(quantiles, prophet, waits) for pair, quantiles in worse.items()},
        "false_calls": false_calls(drawn, DRAWN_STREAMS, len(rows[:POSTS])),
        "fleet": fleet(drawn, crps_stakes(worse["15% slow"], prophet, waits)),
    }


def forecast(
    algorithm_name: str, posts: pd.DataFrame, training: int, rows: NDArray[np.int64], shift: timedelta = timedelta()
) -> Floats:
    """Return (n, 99) forecasts of the posts at `rows`, each from the post before it, by a model trained on the first.

    Args:
        algorithm_name: the algorithm.
        posts: the stream.
        training: how many of them to train on.
        rows: (n,) the posts to forecast.
        shift: by how much the forecasts see all times shifted.
    """
    algorithm = load_algorithm(algorithm_name, "timing")
    config = algorithm.options({}, "timing")
    model = algorithm.train(posts.iloc[:training], config, "timing")
    seen = posts.assign(created_at=posts["created_at"] + shift)
    quantiles: Floats = algorithm.predict(model, seen, Origins.before(seen, rows), config, "timing").quantiles
    return quantiles


def mean_crps(quantiles: Floats, waits: Floats) -> float:
    return float(2 * pinball_loss(quantiles, waits).mean())


def rescaled(quantiles: Floats, waits: Floats, share: float, *, slow: bool) -> Floats:
    """Return forecasts with all waits multiplied by the factor that makes their CRPS larger by a share."""
    wanted = (1 + share) * mean_crps(quantiles, waits)
    near, far = 0.0, 6.0 if slow else -6.0  # logarithms of the factor
    for _ in range(50):
        middle = (near + far) / 2
        near, far = (middle, far) if mean_crps(np.exp(middle) * quantiles, waits) < wanted else (near, middle)
    scaled: Floats = np.exp(near) * quantiles
    return scaled


def power(worse: Floats, better: Floats, waits: Floats) -> dict[str, Any]:
    """Return after how many posts it shows that production is worse."""
    stakes = crps_stakes(worse, better, waits)
    difference = stakes.loss - stakes.other_loss
    wrong = 1 if difference.mean() > 0 else 0
    evidence = [EProcess().trace(rotated(stakes, start)) for start in starts(len(waits))]
    rolled_back = first_posts(evidence, ROLLBACK_THRESHOLD)
    latest = 2 * np.quantile(rolled_back, 0.5, method="higher")
    return {
        "crps_percent": 100 * (mean_crps(worse, waits) / mean_crps(better, waits) - 1),
        "waits": float(worse.mean() / better.mean()),
        **{name: posts_until(evidence, threshold) for name, threshold in THRESHOLDS.items()},
        "within_twice_the_median": float(np.mean((rolled_back <= latest) & np.isfinite(rolled_back))),
        "t_test": t_test_posts(difference),
        "wrong": sum(bool(log[:, wrong].max() >= np.log(VERDICT_THRESHOLD)) for log in evidence),
        "split": float(2 * (stakes.loss.var() + stakes.other_loss.var()) / difference.var()),
    }


def starts(count: int) -> list[int]:
    return [int(start) for start in np.linspace(0, count, STARTS, endpoint=False)]


def rotated(stakes: Stakes, start: int) -> Stakes:
    return Stakes(*(np.roll(column, -start) for column in stakes))


def posts_until(evidence: list[Floats], threshold: float) -> list[int | None]:
    """Return the median and the 90% quantile of the posts until "worse" reaches a threshold; None beyond the posts."""
    quantiles = np.quantile(first_posts(evidence, threshold), [0.5, 0.9], method="higher")
    return [int(found) if np.isfinite(found) else None for found in quantiles]


def first_posts(evidence: list[Floats], threshold: float) -> Floats:
    """Return from each start the posts until "worse" reaches a threshold; ∞ beyond the posts."""
    reached = [log[:, 0] >= np.log(threshold) for log in evidence]
    return np.array([np.argmax(row) + 1 if row.any() else np.inf for row in reached])


def t_test_posts(difference: Floats) -> list[int]:
    """Return the posts that one t test of the differences needs for a power of 50% and 90%, by the normal quantiles."""
    noise = difference.std() / difference.mean()
    normal = NormalDist()
    return [int(np.ceil(((normal.inv_cdf(1 - LEVEL) + normal.inv_cdf(wanted)) * noise) ** 2)) for wanted in (0.5, 0.9)]


def fleet(equal: DrawnOutcomes, worse: Stakes) -> dict[str, Any]:
    """Return how many of a fleet are rolled back rightly and wrongly, together and each by itself."""
    rng = np.random.default_rng(SEED)
    streams = [rotated(worse, int(rng.integers(len(worse.loss)))) for _ in range(WORSE)]
    streams += [equal(rng, POSTS) for _ in range(FLEET - WORSE)]
    looks = range(LOOK_EVERY - 1, min(POSTS, *(len(stakes.loss) for stakes in streams)), LOOK_EVERY)
    evidence = np.stack([np.exp(np.minimum(EProcess().trace(stakes)[looks, 0], 700)) for stakes in streams])
    rolled_back: dict[int, int] = {}  # the stream: the look
    for look in range(len(looks)):
        current = {stream: evidence[stream, rolled_back.get(stream, look)] for stream in range(FLEET)}
        rolled_back |= dict.fromkeys(select_by_e_bh(current, FLEET, RATE) - set(rolled_back), look)
    alone = evidence[WORSE:].max(axis=1) >= VERDICT_THRESHOLD
    posts = [(look + 1) * LOOK_EVERY for stream, look in rolled_back.items() if stream < WORSE]
    return {
        "found": len(posts),
        "wrong": len(rolled_back) - len(posts),
        "median_posts": int(np.median(posts)) if posts else None,
        "wrong_each_by_itself": int(alone.sum()),
    }


def print_all(streams: list[dict[str, Any]], simulated: dict[str, tuple[float, float]]) -> None:
    for stream in streams:
        print(f"{stream['stream']}: {stream['live_posts']} live posts")
        reached = " ".join(f"{f'E ≥ {threshold:.0f}':>10}" for threshold in THRESHOLDS.values())
        print(f"  {'in production':<16} {'CRPS':>5} waits {reached}  in 2x  {'t test':>9}  wrong  split")
        for pair, found in stream["power"].items():
            reached = " ".join(f"{_pair(found[name]):>10}" for name in THRESHOLDS)
            print(
                f"  {pair:<16} {found['crps_percent']:+4.0f}% {found['waits']:4.2f}x {reached}  "
                f"{found['within_twice_the_median']:5.0%}  {_pair(found['t_test']):>9}  {found['wrong']:5}  "
                f"{found['split']:4.0f}x"
            )
        found = stream["fleet"]
        print(
            f"  fleet: {found['found']} of {WORSE} worse ones rolled back, after {found['median_posts']} posts in the "
            f"median; {found['wrong']} of {FLEET - WORSE} equal ones ({found['wrong_each_by_itself']} each by itself)"
        )
    print(f"\n{'false calls of equal forecasters':<46} {'e-process':>9} {'bootstrap':>9}")
    rows = simulated | {
        f"drawn: {stream['stream']}, {min(stream['live_posts'], POSTS)} posts": stream["false_calls"]
        for stream in streams
    }
    for name, (evidence, bootstrap) in rows.items():
        print(f"{name:<46} {evidence:>9.1%} {bootstrap:>9.1%}")


def _pair(found: list[int | None]) -> str:
    return ", ".join("∞" if posts is None else str(posts) for posts in found)


if __name__ == "__main__":
    main()
