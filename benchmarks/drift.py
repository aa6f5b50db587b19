"""Hold the test for drift against river's detectors, on the same days: false alarms a year, and days until an alarm.

    make bench-drift                 simulated streams, and every CSV file of the folder DATA

Simulated streams have 1, 5 or 20 posts a day, in a weekly and daily rhythm: of independent days, of days of very
different numbers of posts (gamma, shape 1.5), or of days that resemble the day before (the logarithm of the rate is
autoregressive: .3, standard deviation .6). A year is trained on. Real streams are made stationary by drawing the order
of their days, each among those of its weekday, or of their weeks, so that the days of a week still resemble each other;
the first half is trained on. 100 days later nothing changes; or twice or half as many posts come, by adding the posts
of another day or leaving out each second one at random; or all come 6 hours later. An alarm before the change counts
as false, and ends the stream. The delay is the median of the streams with an alarm after it, beside their share.

river's detectors, with their default settings, see the ranks of the days, first those of the training days; ADWIN
scaled to [0, 1], which it assumes. Last, the real streams in their order: what has changed in their second half?
"""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.streams import argument_parser, load_streams
from retrainer.evaluation.drift import DRIFT_KINDS, THRESHOLD, Changes, DriftKind, measure_changes, rank
from retrainer.model_types.base import utc_times
from retrainer.posts.sample import BY_HOUR, BY_WEEKDAY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

DAY = 86_400_000_000  # in microseconds
MONDAY = 18_267 * DAY  # 2020-01-06
TRAINING_DAYS = 365
QUIET_DAYS = 100  # before the change
LATER_DAYS = 730
RATES = (1.0, 5.0, 20.0)
RHYTHMS = ("independent", "uneven", "autocorrelated")
OURS = "e-detector"
DETECTORS = (OURS, "ADWIN", "PageHinkley", "KSWIN")
NO_TEXT = 0.05  # the share of the simulated posts


class Stream(NamedTuple):
    """Posts: (n,) ascending times in microseconds since the epoch, and (n,) lengths; NaN without text."""

    times: Integers
    lengths: Floats


class Scenario(NamedTuple):
    """What changes, and the kind of drift that should notice it."""

    name: str
    kind: DriftKind
    factor: float = 1.0
    hours: int = 0


STATIONARY = (Scenario("rate, nothing changes", "rate"), Scenario("hours, nothing changes", "hours"))
CHANGED = (
    Scenario("twice as many posts", "rate", factor=2.0),
    Scenario("half as many posts", "rate", factor=0.5),
    Scenario("6 hours later", "hours", hours=6),
)


@dataclass
class Tally:
    """The alarms of a detector in the streams of a scenario."""

    false_alarms: int = 0
    quiet_days: int = 0
    streams: int = 0
    delays: list[int] | None = None

    def add(self, alarm: int | None, change: int | None, days: int) -> None:
        """Count a stream.

        Args:
            alarm: the first day with an alarm.
            change: the day of the change; None if nothing changes.
            days: the number of days.
        """
        until = days if change is None else change
        is_false = alarm is not None and alarm < until
        self.false_alarms += is_false
        self.quiet_days += min(alarm + 1 if alarm is not None else until, until)
        self.streams += change is not None and not is_false
        self.delays = self.delays or []
        if change is not None and alarm is not None and not is_false:
            self.delays.append(alarm - change + 1)


def main(arguments: list[str] | None = None) -> None:
    parser = argument_parser(__doc__, "bench-drift.json")
    parser.add_argument("--streams", type=int, default=10, help="simulated ones of each rate and rhythm")
    parser.add_argument("--orders", type=int, default=3, help="of the weeks of each real stream")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    results: dict[str, Any] = {"simulated": _measure(_simulated(options.streams, options.seed))}
    _print("simulated streams", results["simulated"])
    real = dict(load_streams(options.data, lambda posts: posts, min_posts=1_000, unit="posts"))
    if real:
        for unit in ("days", "weeks"):
            results[unit] = _measure(_reordered(real, unit, options.orders, options.seed))
            _print(f"real streams, their {unit} in a random order", results[unit])
        results["as they are"] = [_in_order(name, _stream_of(posts)) for name, posts in real.items()]
    options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"\nAll results: {options.json}")


def _measure(streams: Iterator[tuple[Callable[[Scenario], Stream], int, int]]) -> dict[str, dict[str, Any]]:
    """Return what each detector does in each scenario."""
    tallies = {(name, scenario): Tally() for name in DETECTORS for scenario in (*STATIONARY, *CHANGED)}
    for make, training_days, days in streams:
        for scenario in (*STATIONARY, *CHANGED):
            stream = make(scenario)
            changes = changes_of(stream, training_days, days)
            change = None if scenario in STATIONARY else QUIET_DAYS
            for name in DETECTORS:
                alarms = list_alarms(name, changes, scenario.kind)
                tallies[name, scenario].add(alarms[0] if alarms else None, change, changes.days)
    found: dict[str, dict[str, Any]] = {name: {} for name in DETECTORS}
    for (name, scenario), tally in tallies.items():
        delays = tally.delays or []
        found[name][scenario.name] = (
            {"false_alarms_a_year": tally.false_alarms / tally.quiet_days * 365}
            if scenario in STATIONARY
            else {
                "median_delay": float(np.median(delays)) if delays else None,
                "found": len(delays) / tally.streams if tally.streams else None,
            }
        )
    return found


def changes_of(stream: Stream, training_days: int, days: int) -> Changes:
    """Measure how a stream has changed after so many days, up to a day."""
    start = int(stream.times[0] // DAY)
    training = int(np.searchsorted(stream.times, (start + training_days) * DAY))
    end = np.datetime64(start + days, "D")
    return measure_changes(stream.times.view("datetime64[us]"), stream.lengths, training, end)


def list_alarms(detector: str, changes: Changes, kind: DriftKind) -> list[int]:
    """Return the later days on which a detector alarms: of ours the first, of river's all."""
    change = changes.kinds[kind]
    if detector == OURS:
        return [int(row) for row in np.flatnonzero((change.evidence >= THRESHOLD) & change.matters)[:1]]
    known = change.training[~np.isnan(change.training)]
    found, river = [], _river(detector)
    for row, x in enumerate([*rank(known, known).tolist(), *change.ranks.tolist()], start=-len(known)):
        if not np.isnan(x):
            river.update((x + 1) / 2 if detector == "ADWIN" else x)
            if river.drift_detected and row >= 0:
                found.append(row)
    return found


def _river(name: str) -> Any:
    from river import drift

    return drift.KSWIN(seed=1) if name == "KSWIN" else getattr(drift, name)()


def _simulated(count: int, seed: int) -> Iterator[tuple[Callable[[Scenario], Stream], int, int]]:
    for rate, rhythm, number in product(RATES, RHYTHMS, range(count)):
        key = (seed, RATES.index(rate), RHYTHMS.index(rhythm), number)

        def make(scenario: Scenario, rate: float = rate, rhythm: str = rhythm, key: Any = key) -> Stream:
            generator = np.random.default_rng(key)
            return simulate(rate, rhythm, scenario, generator)

        yield make, TRAINING_DAYS, TRAINING_DAYS + LATER_DAYS


def simulate(rate: float, rhythm: str, scenario: Scenario, generator: np.random.Generator) -> Stream:
    """Return a stream of posts that changes after `TRAINING_DAYS` and `QUIET_DAYS`.

    Args:
        rate: posts a day.
        rhythm: how the days differ, one of `RHYTHMS`.
        scenario: what changes.
        generator: of the random numbers.
    """
    days = TRAINING_DAYS + LATER_DAYS
    day = np.arange(days)
    weekly = np.array(BY_WEEKDAY) / np.mean(BY_WEEKDAY)
    rates = rate * weekly[day % 7] * _unevenness(rhythm, days, generator)
    is_later = day >= TRAINING_DAYS + QUIET_DAYS
    counts = generator.poisson(rates * np.where(is_later, scenario.factor, 1.0))
    counts[0] = max(counts[0], 1)  # the stream starts on the first day
    days_of = np.repeat(day, counts)
    hours = generator.choice(24, len(days_of), p=np.array(BY_HOUR) / sum(BY_HOUR)) + generator.random(len(days_of))
    hours = (hours + scenario.hours * is_later[days_of]) % 24
    times = np.sort(MONDAY + days_of * DAY + (hours / 24 * DAY).astype(np.int64))
    lengths: Floats = generator.lognormal(4.4, 0.6, len(times)).astype(np.float64)
    lengths[generator.random(len(times)) < NO_TEXT] = np.nan
    return Stream(times, lengths)


def _unevenness(rhythm: str, days: int, generator: np.random.Generator) -> Floats:
    if rhythm == "independent":
        return np.ones(days)
    if rhythm == "uneven":
        return np.asarray(generator.gamma(1.5, 1 / 1.5, days))
    levels, steps = np.zeros(days), generator.normal(0, 0.6 * np.sqrt(1 - 0.3**2), days)
    for row in range(1, days):
        levels[row] = 0.3 * levels[row - 1] + steps[row]
    return np.asarray(np.exp(levels))


def _reordered(
    real: dict[str, pd.DataFrame], unit: str, orders: int, seed: int
) -> Iterator[tuple[Callable[[Scenario], Stream], int, int]]:
    for (number, posts), order in product(enumerate(real.values()), range(orders)):
        stream = _stream_of(posts)
        weeks = int((stream.times[-1] - stream.times[0]) // (7 * DAY))
        training = weeks // 2 * 7

        def make(scenario: Scenario, stream: Stream = stream, key: Any = (seed, number, order)) -> Stream:
            return reorder(stream, unit, scenario, np.random.default_rng(key))

        yield make, training, weeks * 7


def reorder(stream: Stream, unit: str, scenario: Scenario, generator: np.random.Generator) -> Stream:
    """Return a stream with its `days` or `weeks` in a random order, that changes `QUIET_DAYS` after its first half."""
    start = stream.times[0] // DAY * DAY
    weeks = int((stream.times[-1] - stream.times[0]) // (7 * DAY))
    whole = stream.times < start + weeks * 7 * DAY
    times, lengths = stream.times[whole], stream.lengths[whole]
    week, weekday = (times - start) // (7 * DAY), (times - start) // DAY % 7
    columns = 7 if unit == "days" else 1
    orders = [generator.permuted(np.tile(np.arange(weeks)[:, None], columns), axis=0) for _ in range(2)]
    moved, others = (times + (order[week, weekday % columns] - week) * 7 * DAY for order in orders)
    change = start + (weeks // 2 * 7 + QUIET_DAYS) * DAY
    keep = generator.random(len(moved)) < min(scenario.factor, 1.0)
    is_later = moved >= change
    moved = np.where(is_later, moved - moved % DAY + (moved + scenario.hours * (DAY // 24)) % DAY, moved)[
        keep | ~is_later
    ]
    kept_lengths = lengths[keep | ~is_later]
    if scenario.factor > 1:
        added = others >= change
        moved, kept_lengths = np.concatenate([moved, others[added]]), np.concatenate([kept_lengths, lengths[added]])
    order = np.argsort(moved, kind="stable")
    return Stream(moved[order], kept_lengths[order])


def _stream_of(posts: pd.DataFrame) -> Stream:
    lengths: Floats = np.asarray(posts["content"].str.len(), dtype=np.float64)
    return Stream(utc_times(posts).astype(np.int64), lengths)


def _in_order(name: str, stream: Stream) -> dict[str, Any]:
    """Print and return what each detector finds in the second half of a stream."""
    days = int((stream.times[-1] - stream.times[0]) // DAY)
    changes = changes_of(stream, days // 2, days)
    print(f"\n{name}: trained on {days // 2} days, then {changes.days} days")
    found: dict[str, Any] = {"stream": name, "days": changes.days, "alarms": {}}
    for kind in DRIFT_KINDS:
        first = list_alarms(OURS, changes, kind)
        counts = {other: len(list_alarms(other, changes, kind)) for other in DETECTORS[1:]}
        found["alarms"][kind] = {OURS: first[0] if first else None, **counts}
        others = ", ".join(f"{other} {count} times" for other, count in counts.items())
        change = changes.kinds[kind]
        figures = "" if change.before is None else f" ({change.before:.3g} before, {change.latest or 0:.3g} at the end)"
        print(f"  {kind:8} {f'alarm on day {first[0] + 1}' if first else 'no alarm'}{figures}; {others}")
    return found


def _print(title: str, found: dict[str, dict[str, Any]]) -> None:
    names: Sequence[str] = [scenario.name for scenario in CHANGED]
    print(f"\n{title}\n\n| detector | false alarms a year: rate | hours | days until: {' | '.join(names)} |")
    print("|---" * (3 + len(names)) + "|")
    for detector, of in found.items():
        rates = [f"{of[scenario.name]['false_alarms_a_year']:.2f}" for scenario in STATIONARY]
        delays = [
            "–" if of[name]["median_delay"] is None else f"{of[name]['median_delay']:.0f} ({of[name]['found']:.0%})"
            for name in names
        ]
        print(f"| {detector} | {' | '.join([*rates, *delays])} |")


if __name__ == "__main__":
    logging.getLogger("retrainer").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning, module="river")
    main()
