"""The conformance suite for algorithms, for the tests of their authors.

    from retrainer.algorithms.testing import check_algorithm

    def test_my_algorithm_conforms():
        check_algorithm("my_algorithm")

`check_conditioning` is a stricter check for timing algorithms that forecast a distribution.

The suite trains on a small synthetic stream and makes forecasts. An algorithm that calls a service calls it, so its
tests should point it at a stand-in server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrainer.algorithms.conformance_case import ORIGINS, Case, ConformanceError, create_case
from retrainer.algorithms.conformance_checks import CHECKS
from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
from retrainer.algorithms.manager import load_algorithm
from retrainer.errors import RetrainerError
from retrainer.model_types.base import Origins
from retrainer.posts.sample import sample_posts

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd


__all__ = ["CONDITIONING_TOLERANCE", "ConformanceError", "check_algorithm", "check_conditioning"]

SILENCE_LEVELS = (0.25, 0.5)  # the quantiles of the wait used as silences …
CONDITIONED_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)  # … and the levels at which the conditioned wait is compared
# In probability. Linear interpolation between 99 quantiles is within 0.01 of the curve; after a silence that half of
# the waits survive this counts twice, at both ends.
CONDITIONING_TOLERANCE = 0.03


def check_algorithm(
    algorithm: str | object,
    *,
    options: Mapping[str, Any] | None = None,
    posts: pd.DataFrame | None = None,
) -> None:
    """Run every check, for each model type that the algorithm forecasts.

    Args:
        algorithm: the name of its entry point, or the plugin itself: a module or object with hooks.
        options: its options, as in config.yaml under its name.
        posts: posts to use instead of the synthetic sample: `post_id`, `created_at` (UTC), and `content`, which only
            content algorithms get.

    Raises:
        ConformanceError: a check failed; the first one is named.
    """
    loaded = _load(algorithm)
    for model_type in loaded.description.model_types:
        case = create_case(loaded, model_type, options or {}, sample_posts() if posts is None else posts)
        for check in CHECKS:
            try:
                check(case)
            except RetrainerError as error:
                name = check.__name__.removeprefix("check_")
                raise ConformanceError(f"{case.label} failed the check '{name}': {error}") from error


def check_conditioning(
    algorithm: str | object,
    *,
    options: Mapping[str, Any] | None = None,
    posts: pd.DataFrame | None = None,
    tolerance: float = CONDITIONING_TOLERANCE,
) -> float:
    """Check that a later timing forecast, without a post in between, is the earlier one conditioned on the silence.

    With F the earlier distribution of the wait and s the silence, the later distribution must be
    (F(s + w) − F(s)) / (1 − F(s)). They are compared in probability, at the levels 0.1, 0.25, 0.5, 0.75 and 0.9 of the
    later one, after silences as long as the 0.25 and the 0.5 quantile of the earlier one. Not part of
    `check_algorithm`: a point forecast that ignores the silence is valid and cannot pass. A forecast that is
    recalibrated in silences (`retrainer.algorithms.Recalibration`) differs by that; allow for it with `tolerance`.

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
    loaded = _load(algorithm)
    case = create_case(loaded, "timing", options or {}, sample_posts() if posts is None else posts)
    largest = 0.0
    for index in range(ORIGINS):
        for level in SILENCE_LEVELS:
            try:
                difference, details = _conditioning_difference(case, index, level)
            except RetrainerError as error:
                raise ConformanceError(f"'{loaded.name}' failed the check 'conditioning': {error}") from error
            if difference > tolerance:
                raise ConformanceError(
                    f"{case.label}: the forecast {case.describe_origin(index)} is not conditioned on the silence "
                    f"after it: {details}, a difference of {difference:.3f} (allowed: {tolerance})"
                )
            largest = max(largest, difference)
    return largest


def _conditioning_difference(case: Case, index: int, level: float) -> tuple[float, str]:
    """Return the largest difference of a later forecast from the conditioned one, in probability, and where it is."""
    earlier = case.forecast_at(index)
    silence = earlier.quantile(level)
    position = case.origins.position[[index]]
    after = Origins(case.origins.time[[index]] + (silence * 3.6e9).astype("timedelta64[us]"), position)
    later = case.predict(case.posts.iloc[: position[0] + 1], after)
    elapsed = earlier.probability_within(silence)
    differences = []
    for expected in CONDITIONED_LEVELS:
        wait = later.quantile(expected)
        conditioned = float(((earlier.probability_within(silence + wait) - elapsed) / (1 - elapsed))[0])
        details = (
            f"after {silence[0]:.2f} h its {expected:.0%} quantile is {wait[0]:.2f} h, where the conditioned "
            f"distribution is at {conditioned:.1%}"
        )
        differences.append((abs(conditioned - expected), details))
    return max(differences)


def _load(algorithm: str | object) -> LoadedAlgorithm:
    if isinstance(algorithm, LoadedAlgorithm):
        return algorithm
    if isinstance(algorithm, str):
        return load_algorithm(algorithm)
    describe = getattr(algorithm, "algorithm", None)
    return LoadedAlgorithm.from_plugin(algorithm, describe().name if describe else "plugin")
