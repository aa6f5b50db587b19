"""The conformance suite: what every algorithm must pass, for the tests of whoever writes one.

    from retrainer.algorithms.testing import check_algorithm

    def test_my_algorithm_conforms():
        check_algorithm("my_algorithm")

`check_conditioning` is a stricter test for a timing algorithm that claims to give a distribution.

It trains on a small synthetic stream and makes forecasts; an algorithm that calls a service calls it, so its tests
point it at a server of their own.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from retrainer.algorithms.manager import LoadedAlgorithm, load_algorithm
from retrainer.algorithms.model import NOT_DETERMINISTIC
from retrainer.errors import RetrainerError
from retrainer.model_types import get_model_type
from retrainer.model_types.base import Origins, evenly_spaced, utc_times
from retrainer.posts.sample import sample_posts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel

    from retrainer.model_types import ModelTypeName

ORIGINS = 6  # of each kind: right after a post, and for timing in the middle of the gap after it
TRAINING_SHARE = 0.8
SHIFT = np.timedelta64(28, "D")
SHIFT_TOLERANCE = 1e-3  # relative, and in hours: a fit by iteration stops at slightly other places

SILENCE_LEVELS = (0.25, 0.5)  # conditioned on a silence as long as these quantiles of the wait …
CONDITIONED_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)  # … the wait is compared at these
# In probability. Straight lines between 99 quantiles are within 0.01 of the curve, and after a silence that half of the
# waits survive that counts twice, at both ends.
CONDITIONING_TOLERANCE = 0.03


class ConformanceError(AssertionError):
    """An algorithm that does not keep what the hooks promise. Names the check and what was seen."""


@dataclass(frozen=True)
class _Case:
    """An algorithm trained on the sample, and some forecasts of it."""

    algorithm: LoadedAlgorithm
    model_type: ModelTypeName
    options: BaseModel
    posts: pd.DataFrame
    training_count: int
    model: Any
    origins: Origins
    forecasts: Any

    def predict(self, posts: pd.DataFrame, origins: Origins, model: Any = None) -> Any:
        chosen = self.model if model is None else model
        return self.algorithm.predict(chosen, posts, origins, self.options, self.model_type)

    def require_same(self, one: Any, other: Any, problem: str) -> None:
        if not get_model_type(self.model_type).are_equal(one, other):
            raise ConformanceError(f"'{self.algorithm.name}' ({self.model_type}): {problem}")

    def only(self, forecasts: Any, index: int) -> Any:
        kind = get_model_type(self.model_type)
        keep = np.arange(len(self.origins)) == index
        return kind.select(forecasts, kind.targets(self.posts, self.origins, self.origins.position + 1), keep)[0]

    def place(self, index: int) -> str:
        return f"at {self.origins.time[index]} UTC, which knows the posts up to row {self.origins.position[index]},"


def check_algorithm(
    algorithm: str | LoadedAlgorithm,
    *,
    options: Mapping[str, Any] | None = None,
    posts: pd.DataFrame | None = None,
) -> None:
    """Put an algorithm through every check, for each model type that it forecasts.

    Args:
        algorithm: its entry point's name, or one loaded from a plugin object by `LoadedAlgorithm.from_plugin`.
        options: as they would stand in config.yaml under its name.
        posts: other posts to try it on than the synthetic sample: `post_id`, `created_at` (UTC), and `content`, which
            an algorithm gets for content only.

    Raises:
        ConformanceError: a check failed; the first one is named.
    """
    loaded = load_algorithm(algorithm) if isinstance(algorithm, str) else algorithm
    for model_type in loaded.description.model_types:
        case = _case(loaded, model_type, options or {}, sample_posts() if posts is None else posts)
        for check in CHECKS:
            try:
                check(case)
            except RetrainerError as error:
                name = check.__name__.removeprefix("check_")
                raise ConformanceError(
                    f"'{loaded.name}' ({model_type}) failed in the check '{name}': {error}"
                ) from error


def check_conditioning(
    algorithm: str | LoadedAlgorithm,
    *,
    options: Mapping[str, Any] | None = None,
    posts: pd.DataFrame | None = None,
    tolerance: float = CONDITIONING_TOLERANCE,
) -> float:
    """Check that a timing forecast made later, with no post in between, is the earlier one conditioned on the silence.

    With F the earlier distribution of the wait and s the silence, the later one must be
    (F(s + w) − F(s)) / (1 − F(s)). They are compared in probability, at the levels 0.1, 0.25, 0.5, 0.75 and 0.9 of the
    later one, after silences as long as the 0.25 and the 0.5 quantile of the earlier one. Not part of
    `check_algorithm`: a point forecast that takes no notice of the silence is allowed, and cannot pass.

    Args:
        algorithm: as in `check_algorithm`.
        options: as in `check_algorithm`.
        posts: as in `check_algorithm`.
        tolerance: the largest difference allowed.

    Returns:
        The largest difference in probability that was found.

    Raises:
        ConformanceError: a difference is larger, or the algorithm cannot forecast.
    """
    loaded = load_algorithm(algorithm) if isinstance(algorithm, str) else algorithm
    case = _case(loaded, "timing", options or {}, sample_posts() if posts is None else posts)
    largest = 0.0
    for index in range(ORIGINS):
        for level in SILENCE_LEVELS:
            try:
                difference, where = _off_by(case, index, level)
            except RetrainerError as error:
                raise ConformanceError(f"'{loaded.name}' failed in the check 'conditioning': {error}") from error
            if difference > tolerance:
                raise ConformanceError(
                    f"'{loaded.name}' (timing): the forecast {case.place(index)} is not conditioned on the silence "
                    f"after it: {where}, {difference:.3f} too far off (allowed: {tolerance})"
                )
            largest = max(largest, difference)
    return largest


def _off_by(case: _Case, index: int, level: float) -> tuple[float, str]:
    """Return how far a forecast after a silence is from the conditioned one, in probability, and where."""
    earlier = case.only(case.forecasts, index)
    silence = earlier.quantile(level)
    position = case.origins.position[[index]]
    after = Origins(case.origins.time[[index]] + (silence * 3.6e9).astype("timedelta64[us]"), position)
    later = case.predict(case.posts.iloc[: position[0] + 1], after)
    gone = earlier.probability_within(silence)
    found = []
    for wanted in CONDITIONED_LEVELS:
        wait = later.quantile(wanted)
        conditioned = float(((earlier.probability_within(silence + wait) - gone) / (1 - gone))[0])
        where = (
            f"after {silence[0]:.2f} h its {wanted:.0%} quantile is {wait[0]:.2f} h, where the conditioned one "
            f"stands at {conditioned:.1%}"
        )
        found.append((abs(conditioned - wanted), where))
    return max(found)


def check_the_same_question_gets_the_same_answer(case: _Case) -> None:
    """Asked the same again, all at once and each alone, a model forecasts the same; else no other check means anything.

    It may not answer by chance without a seed, nor change the model or the options when it forecasts.
    """
    case.require_same(case.forecasts, case.predict(case.posts, case.origins), NOT_DETERMINISTIC)
    for index in range(len(case.origins)):
        alone = case.predict(case.posts, case.origins[[index]])
        case.require_same(alone, case.predict(case.posts, case.origins[[index]]), NOT_DETERMINISTIC)


def check_the_future_changes_nothing(case: _Case) -> None:
    """The forecast from an origin stays the same when every later post is changed."""
    for index in range(len(case.origins)):
        position = int(case.origins.position[index])
        forecast = case.predict(_with_another_future(case.posts, position), case.origins[[index]])
        problem = f"looks into the future: the forecast {case.place(index)} changes with later posts"
        case.require_same(case.only(case.forecasts, index), forecast, problem)


def check_later_posts_are_not_needed(case: _Case) -> None:
    """The forecast from an origin is the same when there is no later post at all."""
    for index in range(len(case.origins)):
        position = int(case.origins.position[index])
        forecast = case.predict(case.posts.iloc[: position + 1], case.origins[[index]])
        problem = f"the forecast {case.place(index)} is another one when later posts are taken away"
        case.require_same(case.only(case.forecasts, index), forecast, problem)


def check_posts_of_the_same_second_stay_unknown(case: _Case) -> None:
    """A later post that carries the origin's own time changes nothing either."""
    right_after_a_post = case.origins.time == utc_times(case.posts)[case.origins.position]
    index = int(np.flatnonzero(right_after_a_post)[-1])
    position = int(case.origins.position[index])
    changed = _with_another_future(case.posts, position)
    changed.loc[position + 1 : position + 3, "created_at"] = changed["created_at"].iloc[position]
    forecast = case.predict(changed, case.origins[[index]])
    problem = f"a post of the same second as row {position}, but after it, changes the forecast"
    case.require_same(case.only(case.forecasts, index), forecast, problem)


def check_forecasts_do_not_depend_on_each_other(case: _Case) -> None:
    """Asked for in another order, the forecasts are the same."""
    order = np.arange(len(case.origins))[::-1]
    backwards = case.predict(case.posts, case.origins[order])
    for index in order:
        there = case.only(backwards, len(order) - 1 - int(index))
        case.require_same(case.only(case.forecasts, int(index)), there, "forecasts depend on their order")


def check_the_same_posts_give_the_same_model(case: _Case) -> None:
    """Trained twice on the same posts, the model forecasts the same."""
    again = case.algorithm.train(case.posts.iloc[: case.training_count], case.options, case.model_type)
    forecasts = case.predict(case.posts, case.origins, _saved_and_loaded(case.algorithm, again))
    case.require_same(case.forecasts, forecasts, "training twice on the same posts gives two different models")


def check_a_second_load_forecasts_the_same(case: _Case) -> None:
    """Saved and loaded once more, the model forecasts the same."""
    forecasts = case.predict(case.posts, case.origins, _saved_and_loaded(case.algorithm, case.model))
    case.require_same(case.forecasts, forecasts, "a model that was saved and loaded forecasts something else")


def check_few_posts_are_enough(case: _Case) -> None:
    """Fifty posts, the fewest that the settings allow by default, give a model that forecasts."""
    few = case.posts.iloc[:50]
    model = case.algorithm.train(few.iloc[:40], case.options, case.model_type)
    origins = Origins.before(
        few, np.array([41, 49]), target_time_known=get_model_type(case.model_type).target_time_known
    )
    case.predict(few, origins, _saved_and_loaded(case.algorithm, model))


def check_repeated_times_and_bursts_are_borne(case: _Case) -> None:
    """Several posts of one second, and a hundred of one minute, are no trouble."""
    burst = case.posts.copy()
    times = utc_times(burst).copy()
    middle = len(times) // 2
    times[middle : middle + 100] = times[middle] + np.arange(100) * np.timedelta64(600_000, "us")
    times[middle + 100 : middle + 105] = times[middle + 99]
    burst["created_at"] = pd.DatetimeIndex(np.maximum.accumulate(times)).tz_localize("UTC")
    model = case.algorithm.train(burst.iloc[: case.training_count], case.options, case.model_type)
    case.predict(burst, case.origins, _saved_and_loaded(case.algorithm, model))


def check_recorded_options_can_be_read_back(case: _Case) -> None:
    """What is recorded of the options gives the same options again."""
    recorded = case.options.model_dump(mode="json")
    if case.algorithm.recorded_options(recorded, case.model_type) != case.options:
        raise ConformanceError(f"'{case.algorithm.name}': its options are other ones after they were recorded as JSON")


def check_it_forecasts_after_a_silence(case: _Case) -> None:
    """A forecast can be made long after the last post."""
    if case.model_type == "timing":
        later = case.origins.time + np.timedelta64(400, "D")
        case.predict(case.posts, Origins(later, case.origins.position, None))


def check_a_shift_of_all_times_shifts_the_forecast(case: _Case) -> None:
    """Trained on and asked about the same posts four weeks later, a timing model forecasts the same waits.

    To a relative 0.001, or 0.001 h. Four weeks keep the hours of the day and of the week; an option that knows the
    calendar, such as holidays or a time zone with summer time, is not for this check.
    """
    if case.model_type != "timing":
        return
    later = case.posts.assign(created_at=case.posts["created_at"] + pd.Timedelta(SHIFT))
    model = case.algorithm.train(later.iloc[: case.training_count], case.options, case.model_type)
    origins = Origins(case.origins.time + SHIFT, case.origins.position)
    shifted = case.predict(later, origins, _saved_and_loaded(case.algorithm, model)).quantiles
    if not np.allclose(shifted, case.forecasts.quantiles, rtol=SHIFT_TOLERANCE, atol=SHIFT_TOLERANCE):
        most = np.abs(shifted - case.forecasts.quantiles).max()
        raise ConformanceError(
            f"'{case.algorithm.name}' ({case.model_type}): the same posts four weeks later give another forecast: "
            f"a quantile differs by {most:.3g} h"
        )


def check_what_it_leans_on_is_told_the_same_twice(case: _Case) -> None:
    """`explain`, where there is one, answers with what can be shown, the same for the same model."""
    told = case.algorithm.explain(case.model, case.options, case.model_type)
    again = case.algorithm.explain(_saved_and_loaded(case.algorithm, case.model), case.options, case.model_type)
    if told != again:
        raise ConformanceError(f"'{case.algorithm.name}' ({case.model_type}): explain answers {told}, and then {again}")


CHECKS: tuple[Callable[[_Case], None], ...] = (
    check_the_same_question_gets_the_same_answer,
    check_the_future_changes_nothing,
    check_later_posts_are_not_needed,
    check_posts_of_the_same_second_stay_unknown,
    check_forecasts_do_not_depend_on_each_other,
    check_the_same_posts_give_the_same_model,
    check_a_second_load_forecasts_the_same,
    check_few_posts_are_enough,
    check_repeated_times_and_bursts_are_borne,
    check_recorded_options_can_be_read_back,
    check_it_forecasts_after_a_silence,
    check_a_shift_of_all_times_shifts_the_forecast,
    check_what_it_leans_on_is_told_the_same_twice,
)


def _case(
    algorithm: LoadedAlgorithm, model_type: ModelTypeName, given: Mapping[str, Any], posts: pd.DataFrame
) -> _Case:
    usable = _as_loaded(posts, model_type)
    training_count = int(len(usable) * TRAINING_SHARE)
    options = algorithm.options(given, model_type)
    try:
        trained = algorithm.train(usable.iloc[:training_count], options, model_type)
        model = _saved_and_loaded(algorithm, trained)
        rows = training_count + evenly_spaced(len(usable) - training_count - 3, ORIGINS)
        origins = Origins.before(usable, rows, target_time_known=get_model_type(model_type).target_time_known)
        if model_type == "timing":
            origins = _with_silences(usable, origins)
        forecasts = algorithm.predict(model, usable, origins, options, model_type)
    except RetrainerError as error:
        raise ConformanceError(f"'{algorithm.name}' ({model_type}) cannot train and forecast: {error}") from error
    return _Case(algorithm, model_type, options, usable, training_count, model, origins, forecasts)


def _as_loaded(posts: pd.DataFrame, model_type: ModelTypeName) -> pd.DataFrame:
    """Return the posts as `pipeline.posts.load_posts` gives them to a run: for timing, without their texts."""
    usable = get_model_type(model_type).usable_posts(posts)
    columns = {
        "post_id": usable["post_id"].astype(object),
        "created_at": usable["created_at"].astype("datetime64[us, UTC]"),
    }
    if model_type == "content":
        columns["content"] = pd.Series(usable["content"].tolist())  # whatever pandas takes texts for
    return pd.DataFrame(columns)


def _with_silences(posts: pd.DataFrame, origins: Origins) -> Origins:
    """Return the origins, and after them as many in the middles of the gaps that begin at them."""
    times = utc_times(posts)
    middles = origins.time + (times[origins.position + 1] - origins.time) // 2
    return Origins(np.concatenate([origins.time, middles]), np.concatenate([origins.position, origins.position]))


def _saved_and_loaded(algorithm: LoadedAlgorithm, model: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        algorithm.save(model, Path(folder))
        return algorithm.load(Path(folder))


def _with_another_future(posts: pd.DataFrame, position: int) -> pd.DataFrame:
    """Return the posts with everything after the row at another time and with another text."""
    changed = posts.copy()
    later = np.arange(len(posts)) > position
    shift = pd.to_timedelta(np.cumsum(later) * 7, unit="h") + pd.Timedelta(hours=31)
    changed.loc[later, "created_at"] = (posts["created_at"] + shift)[later]
    if "content" in changed:
        changed.loc[later, "content"] = [f"something else altogether, number {row}" for row in np.flatnonzero(later)]
    changed.loc[later, "post_id"] = [f"another-{row:09d}" for row in np.flatnonzero(later)]
    return changed
