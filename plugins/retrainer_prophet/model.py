"""The model of `prophet`: training, and forecasts of the wait from any origin.

The hazard treats posts at the same time as one event; the share of posts that have the same time as the one before is
counted separately.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.algorithms import LEVELS, PseudoOrigins, TimingForecasts, best_constant, hours_between, utc_times
from retrainer.errors import ArtifactError, InsufficientData
from retrainer_prophet import format_3
from retrainer_prophet.checkpoint_state import known_gaps_of, state_at
from retrainer_prophet.condensed import Condensed
from retrainer_prophet.features import LOOKBACK_GAPS, History, typical_log_gap
from retrainer_prophet.hazard import MAX_GAPS, GapRows, RegressionData, first_fitted_gap, fit_hazard
from retrainer_prophet.importance import feature_importance
from retrainer_prophet.known_gaps import GAPS_BEFORE, KnownGaps, Segment
from retrainer_prophet.level import STAGES, level_shape
from retrainer_prophet.one_thread import ONE_THREAD
from retrainer_prophet.paths import Paths
from retrainer_prophet.pauses import pause_scale
from retrainer_prophet.seasonality import fit_profile, hours_since_monday
from retrainer_prophet.simulation import WaitSampler, simulate_posts
from retrainer_prophet.stream import FittedModel, Stream, digest_of
from retrainer_prophet.time_grid import EDGES, cell_shapes
from retrainer_prophet.waits import RULE_GAPS, decide_rules, quantiles_of_waits

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from retrainer.algorithms import Origins, PointRule
    from retrainer_prophet import ProphetOptions
    from retrainer_prophet.time_grid import Floats, Integers

FORMAT = 5
_SERVED = (4, FORMAT)

_IN_TRAINING = -1  # instead of a checkpoint, of origins before the last training post


def train_model(posts: pd.DataFrame, options: ProphetOptions) -> dict[str, Any]:
    """Fit the weekly profile and the hazard, and decide the rules for the point.

    The hazard is fitted to the last 7,500 gaps, or fewer if they are so long that they take 150,000 rows; the profile
    to the last `weeks` weeks, or more, up to two years, if these hold few posts.

    Args:
        posts: training posts in order, with at least two different times.
        options: see `seasonality.fit_profile`.

    Raises:
        InsufficientData: all gaps are longer than the grid, about a year.
    """
    all_times = utc_times(posts)
    distinct = _distinct(all_times)
    times = distinct[-(MAX_GAPS + LOOKBACK_GAPS) :]
    hours = hours_since_monday(times)
    typical_gap = typical_log_gap(hours)
    gaps = np.diff(hours)
    first = first_fitted_gap(gaps)
    with ONE_THREAD:
        profile = fit_profile(times, options)
        shapes = cell_shapes(gaps[first:])
        history = History.from_hours(hours, profile, typical_gap, first)
        rows = GapRows.from_history(history, first, len(gaps), shapes)
        if not rows.ended.any():
            raise InsufficientData(
                f"all gaps between training posts are longer than the {EDGES[-1] / 24:.0f} days that `prophet` models",
                hint="Choose another algorithm, such as baseline",
            )
        data = RegressionData.from_rows(rows)
        hazard = fit_hazard(data, shapes)
        importances = feature_importance(data, hazard, profile, hours)
        recent = all_times[all_times >= times[0]]
        origins = PseudoOrigins.inside(gaps, np.arange(len(gaps)))
        fitted = FittedModel(
            hazard,
            profile,
            typical_gap,
            same_time=float((recent[1:] == recent[:-1]).mean()),
            trained_through=float(hours[-1]),
            training_gaps=len(distinct) - 1,
            pause_scale=pause_scale(gaps),
            constants=(best_constant(gaps, np.ones(len(gaps))), best_constant(origins.wait, origins.weight)),
        )
        stream = Stream(fitted, hours, rows)
        segment = Segment.of(stream, 0, max(-RULE_GAPS - GAPS_BEFORE, stream.first), 0)
        fitted = replace(fitted, rules=decide_rules(stream, KnownGaps.of(segment), 0))
        model = {"format": FORMAT, **fitted.to_dict(), "importances": importances}
        # The features of the gaps are at hand: the next forecast in this process finds the state in the cache.
        state_at(Stream(replace(fitted, digest=digest_of(model)), hours, rows), 0)
    return model


def predict_waits(
    model: dict[str, Any], posts: pd.DataFrame, origins: Origins, state: bytes | None = None
) -> TimingForecasts:
    """Return the quantiles of the wait from each origin, in hours, and the point.

    Args:
        posts: all posts or, with a state, those from the last one that it knows on.
        state: see `condense_posts`.

    Raises:
        ArtifactError: the model was trained by a release with an unknown format.
    """
    with ONE_THREAD:
        if model.get("format") == format_3.FORMAT:
            return format_3.predict_waits(model, posts, origins)
        if model.get("format") not in _SERVED:
            raise ArtifactError("this version was trained by an older release of `prophet`", hint="Train a new version")
        return _predict(FittedModel.from_dict(model), utc_times(posts), origins, state)


def condense_posts(model: dict[str, Any], posts: pd.DataFrame, state: bytes | None) -> tuple[bytes, int] | None:
    """Return what all posts mean for forecasts after them, and for how many posts that will do; None if nothing.

    Args:
        posts: all posts or, with a state, those from the last one that it knows on.
        state: an earlier state.
    """
    if model.get("format") not in _SERVED:
        return None
    fitted = FittedModel.from_dict(model)
    with ONE_THREAD:
        condensed = Condensed.of(_stream(fitted, utc_times(posts), state))
    return None if condensed is None else (condensed.to_bytes(), condensed.good_for(fitted.training_gaps))


def simulate_futures(
    model: dict[str, Any],
    posts: pd.DataFrame,
    origins: Origins,
    *,
    horizon_hours: float,
    max_posts: int,
    paths: int,
    seed: int,
    state: bytes | None = None,
) -> Floats:
    """Return (paths, k) hours to the posts of simulated futures; see the hook `simulate`.

    Raises:
        ArtifactError: the model was trained by a release that could not simulate.
    """
    if model.get("format") not in _SERVED:
        raise ArtifactError(
            "this version was trained by an older release of `prophet` and forecasts the next post only",
            hint="Train a new version",
        )
    fitted = FittedModel.from_dict(model)
    with ONE_THREAD:
        stream, numbers, silence, checkpoints = _open_stream(fitted, utc_times(posts), origins, state)
        known, _ = _known_gaps(stream, int(checkpoints[0]), numbers)
        number = int(numbers[0])
        shape = level_shape(known.stages[:, 0])
        sampler = WaitSampler(
            stream.hazard(max(int(checkpoints[0]), 0)),
            known.levels[-1][STAGES],
            known.factors(numbers, np.zeros(1), fitted)[0],
            np.random.default_rng((seed, 1)).gamma(shape, 1 / shape, paths),
        )
        return simulate_posts(
            Paths.after(stream.history(number, number), stream.hours, stream.most_in_a_day, paths, max_posts),
            sampler,
            quantiles_of_waits(stream, known, numbers, silence, fitted.same_time)[0],
            float(hours_since_monday(origins.time)[0]),
            fitted.same_time,
            horizon_hours=horizon_hours,
            max_posts=max_posts,
            seed=seed,
        )


def _predict(
    fitted: FittedModel, times: NDArray[np.datetime64], origins: Origins, state: bytes | None
) -> TimingForecasts:
    stream, numbers, silence, checkpoints = _open_stream(fitted, times, origins, state)
    quantiles, points = np.empty((len(origins), len(LEVELS))), np.empty(len(origins))
    for checkpoint in np.unique(checkpoints):
        here = np.flatnonzero(checkpoints == checkpoint)
        known, rules = _known_gaps(stream, int(checkpoint), numbers[here])
        quantiles[here] = quantiles_of_waits(stream, known, numbers[here], silence[here], fitted.same_time)
        for rule, kind in zip(rules, (silence[here] == 0, silence[here] > 0), strict=True):
            points[here[kind]] = rule.points(quantiles[here[kind]], silence[here[kind]])
    return TimingForecasts(quantiles, points)


def _open_stream(
    fitted: FittedModel, times: NDArray[np.datetime64], origins: Origins, state: bytes | None
) -> tuple[Stream, Integers, Floats, Integers]:
    """Return the stream, and (n,) the gap of each origin, the silence in hours and the checkpoint in force."""
    last_times = times[origins.position]
    stream = _stream(fitted, times[: int(origins.position.max()) + 1], state)
    numbers = np.searchsorted(stream.hours, hours_since_monday(last_times), side="right") - 1 - stream.offset
    checkpoints = np.where(numbers < 0, _IN_TRAINING, stream.checkpoints(numbers))
    return stream, numbers, hours_between(last_times, origins.time), checkpoints


def _stream(fitted: FittedModel, times: NDArray[np.datetime64], state: bytes | None) -> Stream:
    hours = hours_since_monday(_distinct(times))
    if state is None:
        return Stream(fitted, hours)
    condensed = Condensed.from_bytes(state, fitted)
    return Stream(fitted, condensed.followed_by(hours), condensed=condensed)


def _known_gaps(stream: Stream, checkpoint: int, numbers: Integers) -> tuple[KnownGaps, tuple[PointRule, PointRule]]:
    """Return the known gaps up to the last of some with the same checkpoint in force, and the rules for the point."""
    last = int(numbers.max())
    if checkpoint == _IN_TRAINING:
        segment = Segment.of(stream, 0, max(int(numbers.min()) - GAPS_BEFORE, stream.first), last)
        return KnownGaps.of(segment), stream.fitted.rules
    return known_gaps_of(stream, checkpoint, int(numbers.min()), last), state_at(stream, checkpoint).rules


def _distinct(times: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    """Return the different ones of ascending times."""
    distinct: NDArray[np.datetime64] = times[np.append(True, times[1:] != times[:-1])]
    return distinct
