"""The checks of the conformance suite, each of which raises ConformanceError."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from retrainer.algorithms.conformance_case import Case, ConformanceError, change_posts_after, save_and_load
from retrainer.algorithms.model import NOT_DETERMINISTIC
from retrainer.errors import RetrainerError
from retrainer.model_types.base import Origins, utc_times
from retrainer.model_types.timing import LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrainer.model_types.likelihood import Likelihoods

SHIFT = np.timedelta64(28, "D")
SHIFT_TOLERANCE = 1e-3  # relative, and in hours: an iterative fit stops at slightly different places

SIMULATED_PATHS = 400
# In probability: a share of independent futures is this far off once in a thousand times, one of stratified ones never.
SIMULATION_TOLERANCE = 0.1

# Of log-likelihoods, relative and in nats: a network computes the same text in another batch slightly differently.
LIKELIHOOD_TOLERANCE = 1e-3
SHORT_TEXTS = tuple("abcdefghijklmnopqrstuvwxyz0123456789!?")  # probable ones, whose probabilities must not exceed 1

RANDOM_TRIALS = 20  # of a search space


def check_forecasts_are_deterministic(case: Case) -> None:
    """The same call returns the same forecasts, for all origins at once and for each alone.

    Otherwise no other check means anything. Randomness must be seeded; predict must not change the model or options.
    """
    case.require_equal(case.forecasts, case.predict(case.posts, case.origins), NOT_DETERMINISTIC)
    for index in range(len(case.origins)):
        alone = case.predict(case.posts, case.origins[[index]])
        case.require_equal(alone, case.predict(case.posts, case.origins[[index]]), NOT_DETERMINISTIC)


def check_later_posts_do_not_matter(case: Case) -> None:
    """The forecast from an origin stays the same when every later post is changed."""
    for index in range(len(case.origins)):
        changed = change_posts_after(case.posts, int(case.origins.position[index]))
        forecast = case.predict(changed, case.origins[[index]])
        problem = f"looks into the future: the forecast {case.describe_origin(index)} changes with later posts"
        case.require_equal(case.forecast_at(index), forecast, problem)


def check_later_posts_are_not_required(case: Case) -> None:
    """The forecast from an origin stays the same when there are no later posts."""
    for index in range(len(case.origins)):
        position = int(case.origins.position[index])
        forecast = case.predict(case.posts.iloc[: position + 1], case.origins[[index]])
        problem = f"the forecast {case.describe_origin(index)} changes when later posts are removed"
        case.require_equal(case.forecast_at(index), forecast, problem)


def check_the_context_is_enough(case: Case) -> None:
    """The forecast from an origin stays the same with no more posts than `context_posts` says, if it says something."""
    count = case.algorithm.description.context_posts.get(case.model_type)
    for index in range(len(case.origins) if count is not None else 0):
        end = int(case.origins.position[index]) + 1
        known = case.posts.iloc[max(0, end - (count or 1)) : end].reset_index(drop=True)
        origin = replace(case.origins[[index]], position=np.array([len(known) - 1]))
        problem = f"the forecast {case.describe_origin(index)} depends on more than the last {count} posts"
        case.require_equal(case.forecast_at(index), case.predict(known, origin), problem)


def check_a_state_stands_for_the_posts(case: Case) -> None:
    """The forecast from an origin is the same with a state, and the posts after it, as with all posts."""
    state: bytes | None = None
    begins = 0
    for last in [case.training_count - 1, case.training_count + 10] if case.algorithm.can_condense else []:
        posts = case.posts.iloc[begins : last + 1].reset_index(drop=True)
        found = case.algorithm.condense(case.model, posts, case.options, case.model_type, state)
        if found is None:
            continue
        (state, _), begins = found, last
        later = case.posts.iloc[begins:].reset_index(drop=True)
        for index in map(int, np.flatnonzero(case.origins.position >= begins)):
            origin = case.origins[[index]]
            alone = case.predict(case.posts, origin)
            shifted = replace(origin, position=origin.position - begins)
            forecast = case.algorithm.predict(case.model, later, shifted, case.options, case.model_type, state=state)
            problem = f"the forecast {case.describe_origin(index)} changes with the state after row {begins}"
            case.require_equal(alone, forecast, problem)


def check_later_posts_of_the_same_second_do_not_matter(case: Case) -> None:
    """A later post with the origin's own time changes nothing either."""
    right_after_a_post = case.origins.time == utc_times(case.posts)[case.origins.position]
    index = int(np.flatnonzero(right_after_a_post)[-1])
    position = int(case.origins.position[index])
    changed = change_posts_after(case.posts, position)
    changed.loc[position + 1 : position + 3, "created_at"] = changed["created_at"].iloc[position]
    forecast = case.predict(changed, case.origins[[index]])
    problem = f"a post of the same second as row {position}, but after it, changes the forecast"
    case.require_equal(case.forecast_at(index), forecast, problem)


def check_forecasts_are_independent(case: Case) -> None:
    """The forecasts stay the same in another order."""
    order = np.arange(len(case.origins))[::-1]
    backwards = case.predict(case.posts, case.origins[order])
    for index in order:
        reordered = case.forecast_at(len(order) - 1 - int(index), backwards)
        case.require_equal(case.forecast_at(int(index)), reordered, "forecasts depend on their order")


def check_training_is_deterministic(case: Case) -> None:
    """Trained again on the same posts, the model forecasts the same."""
    model = case.train(case.posts.iloc[: case.training_count])
    problem = "training twice on the same posts gives two different models"
    case.require_equal(case.forecasts, case.predict(case.posts, case.origins, model), problem)


def check_warm_starts_are_deterministic(case: Case) -> None:
    """Trained twice from the same earlier model, the model forecasts the same, and the earlier one is unchanged."""
    if not case.algorithm.can_warm_start:
        return
    models = (case.train(case.posts.iloc[: case.training_count], case.model) for _ in range(2))
    one, other = (case.predict(case.posts, case.origins, model) for model in models)
    case.require_equal(one, other, "training twice from the same earlier model gives two different models")
    problem = "training changes the model that it starts from"
    case.require_equal(case.forecasts, case.predict(case.posts, case.origins), problem)


def check_loading_again_changes_nothing(case: Case) -> None:
    """Saved and loaded once more, the model forecasts the same."""
    forecasts = case.predict(case.posts, case.origins, save_and_load(case.algorithm, case.model))
    case.require_equal(case.forecasts, forecasts, "the forecasts change when the model is saved and loaded")


def check_few_posts_are_enough(case: Case) -> None:
    """Fifty posts, the default minimum, are enough to train and forecast."""
    few = case.posts.iloc[:50]
    model = case.train(few.iloc[:40])
    origins = Origins.before(few, np.array([41, 49]), target_time_known=case.definition.target_time_known)
    case.predict(few, origins, model)


def check_bursts_and_repeated_times_are_handled(case: Case) -> None:
    """Several posts in one second, and a hundred in one minute, are no problem."""
    burst = case.posts.copy()
    times = utc_times(burst).copy()
    middle = len(times) // 2
    times[middle : middle + 100] = times[middle] + np.arange(100) * np.timedelta64(600_000, "us")
    times[middle + 100 : middle + 105] = times[middle + 99]
    burst["created_at"] = pd.DatetimeIndex(np.maximum.accumulate(times)).tz_localize("UTC")
    case.predict(burst, case.origins, case.train(burst.iloc[: case.training_count]))


def check_recorded_options_are_restored(case: Case) -> None:
    """Options recorded as JSON come back as the same options."""
    recorded = case.options.model_dump(mode="json")
    if case.algorithm.recorded_options(recorded, case.model_type) != case.options:
        raise ConformanceError(f"{case.label}: its options change when they are recorded as JSON")


def check_long_silences_are_handled(case: Case) -> None:
    """A timing model can forecast long after the last post."""
    if case.model_type == "timing":
        later = case.origins.time + np.timedelta64(400, "D")
        case.predict(case.posts, Origins(later, case.origins.position, None))


def check_forecasts_shift_with_the_posts(case: Case) -> None:
    """Trained on the same posts four weeks later, a timing model forecasts the same waits.

    To a relative 0.001, or 0.001 h. Four weeks preserve the hours of the day and of the week; options that depend on
    the calendar, such as holidays or a time zone with daylight saving time, cannot pass.
    """
    if case.model_type != "timing":
        return
    later = case.posts.assign(created_at=case.posts["created_at"] + pd.Timedelta(SHIFT))
    origins = Origins(case.origins.time + SHIFT, case.origins.position)
    shifted = case.predict(later, origins, case.train(later.iloc[: case.training_count])).quantiles
    if not np.allclose(shifted, case.forecasts.quantiles, rtol=SHIFT_TOLERANCE, atol=SHIFT_TOLERANCE):
        largest = np.abs(shifted - case.forecasts.quantiles).max()
        raise ConformanceError(
            f"{case.label}: the same posts four weeks later give different forecasts: a quantile differs by "
            f"{largest:.3g} h"
        )


def check_simulations_agree_with_forecasts(case: Case) -> None:
    """`simulate`, if implemented, is deterministic, blind to later posts, and starts with the wait of `predict`."""
    if case.model_type != "timing" or "simulate" not in case.algorithm.hook_names:
        return
    for index in (0, len(case.origins) - 1):  # right after a post, and in the middle of a gap
        origin, position = case.origins[[index]], int(case.origins.position[index])
        futures = case.simulate(case.posts, origin, paths=SIMULATED_PATHS, max_posts=1)
        share = (futures[:, :1] <= case.forecast_at(index).quantiles).mean(axis=0)
        difference = np.abs(share - LEVELS).max()
        if difference > SIMULATION_TOLERANCE:
            raise ConformanceError(
                f"{case.label}: the first wait of the simulated futures {case.describe_origin(index)} differs from the "
                f"forecast by {difference:.3f} in probability (allowed: {SIMULATION_TOLERANCE})"
            )
        few = case.simulate(case.posts, origin, paths=5, max_posts=10)
        if not np.array_equal(few, case.simulate(case.posts, origin, paths=5, max_posts=10)):
            raise ConformanceError(f"{case.label}: simulate returns other futures when it is called again")
        changed = change_posts_after(case.posts, position)
        if not np.allclose(few, case.simulate(changed, origin, paths=5, max_posts=10)):
            raise ConformanceError(
                f"{case.label}: looks into the future: the simulation {case.describe_origin(index)} changes with later "
                "posts"
            )


def check_likelihoods_are_probabilities(case: Case) -> None:
    """`likelihood`, if implemented, is repeatable, blind to later posts, and sums to at most 1 over different texts."""
    if case.model_type != "content" or "likelihood" not in case.algorithm.hook_names:
        return
    following = [str(text) for text in case.posts["content"].iloc[case.origins.position + 1]]
    for index in range(len(case.origins)):
        position = int(case.origins.position[index])
        origins = case.origins[np.full(len(following), index)]
        first = case.likelihood(case.posts, origins, following)
        if not np.array_equal(first.nats, case.likelihood(case.posts, origins, following).nats):
            raise ConformanceError(f"{case.label}: its likelihood {NOT_DETERMINISTIC}")
        for what, posts in (
            ("with later posts", change_posts_after(case.posts, position)),
            ("when later posts are removed", case.posts.iloc[: position + 1]),
        ):
            _require_close(case, first, case.likelihood(posts, origins, following), index, what)
    together = case.likelihood(case.posts, case.origins, following)
    for index, text in enumerate(following):
        alone = case.likelihood(case.posts, case.origins[[index]], [text])
        _require_close(case, _nth(together, index), alone, index, "when it is asked for alone")
    elsewhere = case.likelihood(case.posts, case.origins[::-1], following)
    if not np.array_equal(together.tokens, elsewhere.tokens):
        raise ConformanceError(f"{case.label}: the number of tokens of a text depends on the origin")
    for index in (0, len(case.origins) - 1):
        origins = case.origins[np.full(len(SHORT_TEXTS), index)]
        total = float(np.exp(case.likelihood(case.posts, origins, SHORT_TEXTS).nats).sum())
        if total > 1 + LIKELIHOOD_TOLERANCE:
            raise ConformanceError(
                f"{case.label}: the probabilities of {len(SHORT_TEXTS)} different texts {case.describe_origin(index)} "
                f"sum to {total:.3g}"
            )


def _require_close(case: Case, one: Likelihoods, other: Likelihoods, index: int, what: str) -> None:
    if not np.allclose(one.nats, other.nats, rtol=LIKELIHOOD_TOLERANCE, atol=LIKELIHOOD_TOLERANCE):
        raise ConformanceError(f"{case.label}: the likelihood {case.describe_origin(index)} changes {what}")


def _nth(likelihoods: Likelihoods, index: int) -> Likelihoods:
    return replace(likelihoods, nats=likelihoods.nats[[index]], tokens=likelihoods.tokens[[index]])


def check_explanations_are_deterministic(case: Case) -> None:
    """`explain`, if implemented, returns the same importances for the same model."""
    first = case.algorithm.explain(case.model, case.options, case.model_type)
    second = case.algorithm.explain(save_and_load(case.algorithm, case.model), case.options, case.model_type)
    if first != second:
        raise ConformanceError(f"{case.label}: explain returned {first}, and then {second}")


def check_parts_of_the_context_can_be_left_out(case: Case) -> None:
    """Without each part that `context_parts` names, and without all of them, `predict` still forecasts."""
    parts = case.algorithm.context_parts(case.model, case.options, case.model_type)
    names = [part.name for part in parts]
    for without in [*(frozenset([name]) for name in names), *([frozenset(names)] if len(names) > 1 else [])]:
        arguments = (case.model, case.posts, case.origins[[0]], case.options, case.model_type, None, without)
        one, other = case.algorithm.predict(*arguments), case.algorithm.predict(*arguments)
        case.require_equal(one, other, f"without {', '.join(sorted(without))}, it {NOT_DETERMINISTIC}")


def check_the_search_space_is_valid(case: Case) -> None:
    """`search_space`, if implemented, returns valid options, the same for the same trial, and contains the defaults."""
    algorithm = case.algorithm
    if "search_space" not in algorithm.hook_names:
        return
    import optuna  # noqa: PLC0415  slow to import, and only needed here

    from retrainer.algorithms.trial_views import ConfiguredTrial, OutsideOfSpace  # noqa: PLC0415

    defaults = algorithm.options({}, case.model_type)
    trial = ConfiguredTrial(defaults)
    try:
        reached = algorithm.search_space(trial, defaults, case.model_type)
    except RetrainerError as error:
        if not isinstance(error.__cause__, OutsideOfSpace):
            raise
        raise ConformanceError(
            f"{case.label}: its default options lie outside of its search space: the parameter '{error.__cause__}' "
            "has no such value, or no option has its name"
        ) from error
    if reached != defaults:
        raise ConformanceError(f"{case.label}: the default values of its search space give {reached}, not {defaults}")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(RANDOM_TRIALS):
        random = study.ask()
        options = algorithm.search_space(random, case.options, case.model_type)
        repeated = algorithm.search_space(optuna.trial.FixedTrial(random.params), case.options, case.model_type)
        if options != repeated:
            raise ConformanceError(f"{case.label}: search_space returned {options} for a trial, and then {repeated}")


CHECKS: tuple[Callable[[Case], None], ...] = (
    check_forecasts_are_deterministic,
    check_later_posts_do_not_matter,
    check_later_posts_are_not_required,
    check_the_context_is_enough,
    check_a_state_stands_for_the_posts,
    check_later_posts_of_the_same_second_do_not_matter,
    check_forecasts_are_independent,
    check_training_is_deterministic,
    check_warm_starts_are_deterministic,
    check_loading_again_changes_nothing,
    check_few_posts_are_enough,
    check_bursts_and_repeated_times_are_handled,
    check_recorded_options_are_restored,
    check_long_silences_are_handled,
    check_forecasts_shift_with_the_posts,
    check_simulations_agree_with_forecasts,
    check_likelihoods_are_probabilities,
    check_explanations_are_deterministic,
    check_parts_of_the_context_can_be_left_out,
    check_the_search_space_is_valid,
)
