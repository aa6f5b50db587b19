"""The algorithm `neural_tpp`: exact distributions, honest training, plain files, and a clear word without its extra."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from retrainer.algorithms.manager import load_algorithm
from retrainer.algorithms.testing import check_algorithm, check_conditioning
from retrainer.errors import ArtifactError
from retrainer.model_types.base import Origins, utc_times
from retrainer.pipeline.loading import load_version
from retrainer.pipeline.run import retrain
from retrainer.posts.sample import sample_posts
from tests.conftest import NOW, open_project, regular_posts, runtime_of

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer_neural.network import Mixture
    from tests.command_line import Runner

TINY = {"networks": 2, "units": 3, "components": 2, "max_epochs": 1}
NEURAL = load_algorithm("neural_tpp")
OPTIONS = NEURAL.options(TINY, "timing")


def random_mixture() -> Mixture:
    """Return one mixture of three distributions of each kind, in double precision."""
    import torch

    from retrainer_neural.network import Mixture

    generator = torch.Generator().manual_seed(4)

    def numbers(*shape: int) -> Any:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    return Mixture(
        torch.log_softmax(numbers(1, 6), dim=-1), 3 * numbers(1, 6), 0.3 + numbers(1, 6), 0.02 * numbers(1, 1)
    )


@pytest.mark.parametrize("other", ["neural_tpp", "finetuned_lm"])
@pytest.mark.slow
def test_two_forecasts_at_a_time_leave_torch_with_the_threads_that_it_had(other: str) -> None:
    import torch

    from retrainer_lm import devices
    from retrainer_neural import training

    entered, found = threading.Event(), []

    def forecast() -> None:
        with devices.deterministic() if other == "finetuned_lm" else training.deterministic("cpu"):
            entered.set()
            first.join()

    def forecast_first() -> None:
        with training.deterministic("cpu"):
            second.start()
            entered.wait(0.2)

    first, second = threading.Thread(target=forecast_first), threading.Thread(target=forecast)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first.start()
        first.join()
        second.join()
        later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        later.start()
        later.join()
    finally:
        torch.set_num_threads(threads)
    assert found == [2]


def office_hours(weeks: int) -> pd.DataFrame:
    """Return two posts an hour from 9 to 17 UTC on weekdays, at random minutes, and none at other times."""
    rng = np.random.default_rng(5)
    hours = [168 * week + 24 * day + hour for week in range(weeks) for day in range(5) for hour in range(9, 17)]
    times = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(
        np.sort(np.repeat(hours, 2) + rng.random(2 * len(hours))), unit="h"
    )
    return pd.DataFrame({"post_id": [f"{row:05d}" for row in range(len(times))], "created_at": times.as_unit("us")})


@pytest.mark.slow
def test_neural_tpp_passes_the_conformance_suite() -> None:
    check_algorithm("neural_tpp", options={**TINY, "networks": 1}, posts=sample_posts().iloc[:215])


@pytest.mark.slow
def test_a_later_forecast_is_the_earlier_one_conditioned_but_for_the_recalibration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forecasts at clock times are recalibrated by waits from clock times, which those right after posts are not."""
    from retrainer_neural import forecast

    monkeypatch.setattr(forecast, "RECALIBRATION_GAPS", 0)
    check_conditioning("neural_tpp", options={**TINY, "networks": 1}, posts=sample_posts().iloc[:215])


@pytest.mark.slow
def test_networks_of_the_usual_size_pass_the_conformance_suite() -> None:
    check_algorithm("neural_tpp", options={"max_epochs": 5})


@pytest.mark.slow
def test_the_density_is_the_derivative_of_the_survival_which_follows_the_clock() -> None:
    import torch

    from retrainer_neural.inputs import hours_by_clock, log_hours
    from retrainer_neural.network import log_activity_hours

    mixture = random_mixture()
    activity = torch.as_tensor(1 + 0.9 * np.sin(np.arange(168)))
    hours = np.array([0.2, 1.3, 9.7, 40.2, 200.6, 400.1])
    step = 1e-5

    def log_survival(gap: np.ndarray) -> Any:
        clock = torch.as_tensor(hours_by_clock(np.full(len(gap), 100.25), gap))
        return mixture.log_survival(torch.as_tensor(log_hours(gap)), log_activity_hours(clock, activity))

    clock = torch.as_tensor(hours_by_clock(np.full(len(hours), 100.25), hours))
    log_activity = torch.log(activity)[torch.as_tensor((100.25 + hours).astype(int) % 168)]
    density = mixture.log_density(
        torch.as_tensor(log_hours(hours)), log_activity_hours(clock, activity), log_activity
    ).exp()
    slope = (log_survival(hours - step).exp() - log_survival(hours + step).exp()) / (2 * step)
    assert density.numpy() == pytest.approx(slope.numpy(), rel=1e-5)


def test_a_gap_of_more_than_a_year_counts_as_longer_than_a_year() -> None:
    import torch

    from retrainer_neural.inputs import Scale, gaps_of
    from retrainer_neural.network import build_network, weekly_basis
    from retrainer_neural.training import TrainingData, _log_likelihood

    days = np.array([0, 1, 2, 3, 403, 404])
    likelihoods = []
    for shift in (0, 500):
        times = np.datetime64("2020-01-06", "us") + (days + (days > 3) * shift) * np.timedelta64(24, "h")
        scale = Scale(mean=3.0, spread=1.0)
        data = TrainingData.from_times(times, scale, "cpu")
        assert data.ended.tolist() == [True, True, True, False, True]
        torch.manual_seed(0)
        network = build_network(3, 2)
        basis = torch.as_tensor(weekly_basis().astype(np.float32))
        likelihoods.append(_log_likelihood(network, data.rows(torch.arange(4)[None]), scale, basis)[0].tolist())
        assert gaps_of(times).max() > 365 * 24
    assert likelihoods[0] == likelihoods[1]


def test_the_networks_are_averaged_by_their_distributions() -> None:
    from dataclasses import replace

    from retrainer_neural.distribution import GapDistributions

    mixture = random_mixture()
    other = replace(mixture, mean=mixture.mean + 1)
    activity = np.arange(169.0)
    index, hours = np.zeros(3, dtype=np.int64), np.array([[1.0], [10.0], [50.0]])

    def survival(*mixtures: Any) -> np.ndarray:
        distributions = GapDistributions(np.array([5.0]), mixtures, [activity] * len(mixtures))
        return np.exp(-distributions.cumulative_hazard(index, hours))

    assert survival(mixture, other) == pytest.approx((survival(mixture) + survival(other)) / 2)


def test_a_silence_conditions_the_distribution_exactly() -> None:
    """Without recalibration, the survival after a silence is a ratio of survivals, however deep the silence."""
    from retrainer.algorithms import LEVELS, Recalibration
    from retrainer_neural.forecast import _GRID, Calibration

    even = Recalibration(np.linspace(0, 1, 21))
    calibration = Calibration(even, even)
    hazard = 0.3 * _GRID**0.8
    for silence in (0.5, 12.0, 1e5):
        later = 0.3 * (silence + _GRID) ** 0.8
        wait = calibration.quantiles(later, silence, 0.0)
        reached = 0.3 * (silence + wait) ** 0.8 - 0.3 * silence**0.8
        assert 1 - np.exp(-reached) == pytest.approx(LEVELS, abs=1e-3)
    assert calibration.quantiles(hazard, 0.0, 0.3)[:29] == pytest.approx(0), "the share of posts at the same time"


@pytest.mark.slow
def test_training_does_not_depend_on_the_threads_and_random_numbers_of_the_process() -> None:
    import torch

    posts = regular_posts(80)[["post_id", "created_at"]]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = NEURAL.train(posts, OPTIONS, "timing")
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.set_num_threads(1)
    torch.manual_seed(2)
    second = NEURAL.train(posts, OPTIONS, "timing")
    torch.set_num_threads(threads)
    assert first.description == second.description
    for one, other in zip(first.networks, second.networks, strict=True):
        assert all((one[name] == other[name]).all() for name in one)


@pytest.mark.slow
def test_a_warm_start_is_noted_by_the_hash_of_the_weights_in_the_manifest(folder: Path) -> None:
    environ = {f"RETRAINER_TIMING_MODEL__NEURAL_TPP__{name.upper()}": str(value) for name, value in TINY.items()}
    project = open_project(folder, {"RETRAINER_TIMING_MODEL__ALGORITHM": "neural_tpp", **environ})
    project.posts.add(sample_posts().iloc[-150:], NOW)
    first, second = (
        retrain(project, runtime_of(project), "timing", now, as_of=True).run for now in (NOW - timedelta(days=60), NOW)
    )
    assert first is not None
    assert second is not None
    versions = [project.registry.get_version(str(run.model_version_id)) for run in (first, second)]
    models = [load_version(project, runtime_of(project), version).model for version in versions]
    folder_of_first = project.folder / versions[0].file_path
    manifest = json.loads((folder_of_first / "manifest.json").read_text())
    assert set(manifest["files"]) == {"model.json", "weights.safetensors"}
    assert models[0].description["started_from"] is None
    assert models[1].description["started_from"] == manifest["files"]["weights.safetensors"]["sha256"]
    assert models[1].description["scale"] == models[0].description["scale"], "the weights depend on it"
    weights, described = (folder_of_first / name for name in ("weights.safetensors", "model.json"))
    assert models[0].sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert weights.stat().st_mode == described.stat().st_mode, "both can be read by others, or neither"


@pytest.mark.slow
def test_a_forecast_of_the_past_depends_on_no_other_origin() -> None:
    posts = sample_posts().iloc[:120][["post_id", "created_at"]]
    model = NEURAL.train(posts, OPTIONS, "timing")
    rows = np.array([60, 90])
    origins = Origins(utc_times(posts)[rows] + np.timedelta64(1, "m"), rows)
    together, alone = (NEURAL.predict(model, posts, one, OPTIONS, "timing") for one in (origins, origins[[0]]))
    assert together.quantiles[0] == pytest.approx(alone.quantiles[0], rel=1e-9)


def test_a_distribution_needs_no_earlier_posts_however_dense_they_are() -> None:
    """So dense that the counts of 30 days reach further back than the moving averages."""
    import torch

    from retrainer_neural.distribution import GapDistributions, needed_times
    from retrainer_neural.inputs import Scale
    from retrainer_neural.network import build_network

    gaps = np.random.default_rng(2).exponential(1.05 * 3.6e9, 1200).astype("timedelta64[us]")
    times = np.datetime64("2024-01-01", "us") + np.cumsum(gaps)
    torch.manual_seed(0)
    network = build_network(8, 2).double()
    needed, row = needed_times(times, 1100, 1100)
    assert len(needed) < 900
    hazards = [
        GapDistributions.after(np.array([post]), known, [network], Scale(0.0, 1.0)).cumulative_hazard(
            np.array([0]), np.array([[1.0, 20.0]])
        )
        for post, known in ((1100, times), (row, needed))
    ]
    assert hazards[0] == pytest.approx(hazards[1], rel=1e-12)


@pytest.mark.slow
def test_a_version_of_another_format_says_what_to_do() -> None:
    posts = regular_posts(60)[["post_id", "created_at"]]
    model = NEURAL.train(posts, OPTIONS, "timing")
    model.description["format"] = 0
    with pytest.raises(ArtifactError, match="trained by another release of `neural_tpp`. Train a new version"):
        NEURAL.predict(model, posts, Origins.before(posts, np.array([59])), OPTIONS, "timing")


@pytest.mark.parametrize("missing", ["torch", "safetensors"])
def test_without_the_extra_one_line_says_what_to_install(
    missing: str, folder: Path, retrainer: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    open_project(folder).posts.add(regular_posts(120), NOW)
    done = retrainer("train", "timing", "--algorithm", "neural_tpp")
    assert done.code == 2
    assert f"`neural_tpp` needs the package '{missing}', which is not installed" in done.err
    assert "pip install 'retrainer[neural]'" in done.err
    assert retrainer("plugins").code == 0


@pytest.mark.slow
def test_the_forecast_follows_the_week() -> None:
    """At noon the next post is minutes away; on Friday evening it is a weekend away."""
    posts = office_hours(weeks=26)
    options = NEURAL.options({"networks": 1}, "timing")
    training = posts[posts["created_at"] < pd.Timestamp("2024-06-01", tz="UTC")]
    model = NEURAL.train(training, options, "timing")
    times = np.array(["2024-06-12T12:00", "2024-06-14T17:30", "2024-06-12T20:00"], dtype="datetime64[us]")
    noon, friday, evening = NEURAL.predict(model, posts, Origins.at(posts, times), options, "timing").median
    assert noon < 1.5
    assert 40 < friday < 66
    assert 8 < evening < 16


@pytest.mark.slow
def test_a_warm_start_loses_nothing() -> None:
    """Started from a model of the first half, the held-out density is at least that of a fresh start, less noise."""
    posts = office_hours(weeks=20)
    options = NEURAL.options({"networks": 1}, "timing")
    early = posts.iloc[: len(posts) // 2]
    fresh = NEURAL.train(posts, options, "timing")
    warm = NEURAL.train(posts, options, "timing", NEURAL.train(early, options, "timing"))
    assert warm.description["held_out"][0] > fresh.description["held_out"][0] - 0.1


def test_a_forecast_long_after_the_last_post_stays_finite() -> None:
    posts = regular_posts(80)[["post_id", "created_at"]]
    model = NEURAL.train(posts, OPTIONS, "timing")
    last = utc_times(posts)[[-1]]
    for years in (1, 100):
        origin = Origins(last + np.timedelta64(365 * years, "D"), np.array([79]))
        assert np.isfinite(NEURAL.predict(model, posts, origin, OPTIONS, "timing").quantiles).all()
