"""The algorithm `ensemble`: averaged quantiles, with weights learnt from known waits."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from retrainer.algorithms.manager import load_algorithm
from retrainer.algorithms.testing import check_algorithm, check_conditioning
from retrainer.errors import ConfigError, MissingCredentials
from retrainer.model_types.base import Origins
from retrainer.model_types.timing import LEVELS
from retrainer.posts.sample import sample_posts
from retrainer_ensemble.hedge import FEW_WAITS, HedgeState, _hedge_weights, crps, learn_weights
from tests.conftest import import_sample
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Runner
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins

ENSEMBLE = load_algorithm("ensemble")

# Forecasts a gap of half to twice the last one, and writes files of its own.
LAST_GAP = timing_algorithm(
    "last_gap",
    setup="""
    import json
    from retrainer.algorithms import LEVELS, hours_between, utc_times
    from retrainer.algorithms import TimingForecasts as Forecasts
    """,
    predict="""
    times = utc_times(posts)
    last = hours_between(times[np.maximum(origins.position - 1, 0)], times[origins.position])
    quantiles = np.maximum(last, 0.1)[:, None] * 2 ** (2 * LEVELS - 1)
    silence = hours_between(times[origins.position], origins.time)[:, None]
    return Forecasts.from_quantiles(np.maximum(quantiles - silence, quantiles / 20))
    """,
    hooks="""
    @hookimpl
    def save(model, directory):
        (directory / "deep").mkdir()
        (directory / "deep" / "hours.txt").write_text(json.dumps(model))
        return ["deep/hours.txt"]

    @hookimpl
    def load(directory):
        return json.loads((directory / "deep" / "hours.txt").read_text())
    """,
)
CHEAP: dict[str, Any] = {"members": {"baseline": {}, "last_gap": {}}}


@pytest.fixture
def last_gap(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    """Install the algorithm `last_gap`, in this process too."""
    plugins.add("last_gap", LAST_GAP)
    monkeypatch.syspath_prepend(str(plugins.site))
    return plugins


@pytest.mark.slow
def test_ensemble_passes_the_conformance_suite() -> None:
    check_algorithm("ensemble")


@pytest.mark.usefixtures("last_gap")
def test_an_ensemble_of_cheap_members_passes_the_conformance_suite() -> None:
    check_algorithm("ensemble", options=CHEAP)


def forecasts_of(*centres: float, spread: float = 1.5) -> np.ndarray:
    """Return (K, 99) quantiles around each of these hours."""
    return np.array([centre * spread ** (4 * LEVELS - 2) for centre in centres])


def adversarial_waits(quantiles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return waits that each hurt the member that leads so far."""
    losses, waits = np.zeros(quantiles.shape[1]), []
    for row in quantiles:
        candidates = np.concatenate([row[:, 0] / 2, row[:, -1] * 3, rng.lognormal(1, 2, 20)])
        each = crps(np.repeat(row[None], len(candidates), axis=0), candidates)
        worst = int(np.argmax(each[:, np.argmin(losses)] - each.min(axis=1)))
        losses += each[worst]
        waits.append(candidates[worst])
    return np.array(waits)


@pytest.mark.parametrize("members", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_the_regret_against_the_best_member_is_bounded(members: int, seed: int) -> None:
    """On waits that an adversary chooses, on heavy tails, and after a change: see `hedge`."""
    rng = np.random.default_rng(seed)
    count = 150
    centres = np.exp(rng.normal(1, 1, members) + rng.normal(0, 0.5, (count, members)))
    quantiles = np.array([forecasts_of(*row) for row in centres])
    heavy = 1 / rng.pareto(0.5, count)
    change = np.where(np.arange(count) < count // 2, centres[:, 0], centres[:, 1])
    for waits in (adversarial_waits(quantiles, rng), heavy, change):
        losses, ends = crps(quantiles, waits), np.arange(count + 1)
        states = learn_weights(HedgeState.start(members), losses, np.zeros_like(ends), ends)
        averaged = np.einsum("nk,nkq->nq", _hedge_weights(states)[:-1], quantiles)
        regret = crps(averaged[:, None], waits).sum() - losses.sum(axis=0).min()
        largest, log_k = np.ptp(losses, axis=1).max(), np.log(members)
        bound = np.sqrt(largest**2 * count * log_k) + largest * (4 / 3 * log_k + 2)
        assert regret <= 2 * states.gap[-1] <= bound
        assert largest <= 2 * np.abs(quantiles[:, :, None] - quantiles[:, None]).mean(axis=3).max()


def test_weights_are_equal_while_few_waits_are_known() -> None:
    count = FEW_WAITS + 20
    losses = crps(np.array([forecasts_of(5, 20)] * count), np.full(count, 5.0))
    first, last = np.array([0, 0, 20]), np.array([FEW_WAITS - 1, count, count])
    weights = learn_weights(HedgeState.start(2), losses, first, last).weights()
    assert weights[0] == pytest.approx([0.5, 0.5])
    assert weights[1, 0] > 0.95
    assert weights[2] == pytest.approx(weights[1], abs=0.05)


def test_members_that_differ_by_rounding_keep_equal_weights() -> None:
    """As where every post is on the hour: the forecast must not depend on how the members were called."""
    losses = 1 + np.array([[0, 1e-13]] * 50)
    state = learn_weights(HedgeState.start(2), losses, np.array([0]), np.array([50]))
    assert state.weights()[0] == pytest.approx([0.5, 0.5], abs=1e-3)


def posts_at(hours: np.ndarray) -> pd.DataFrame:
    times = pd.DatetimeIndex(pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(hours, unit="h")).as_unit("us")
    return pd.DataFrame({"post_id": [f"{row:05d}" for row in range(len(times))], "created_at": times})


@pytest.mark.usefixtures("last_gap")
def test_the_member_that_forecasts_better_gets_the_weight() -> None:
    """Gaps like the last one in the second half: `last_gap` is right there, `baseline` is not."""
    rng = np.random.default_rng(3)
    alike = 20 * np.exp(np.sin(np.arange(300) / 15) + rng.normal(0, 0.1, 300))
    posts = posts_at(np.cumsum(np.concatenate([rng.exponential(5, 400), alike])))
    options: Any = ENSEMBLE.options(CHEAP, "timing")
    model = ENSEMBLE.train(posts.iloc[:400], options, "timing")
    at_first = {found.label: found.value for found in ENSEMBLE.explain(model, options, "timing")}
    assert at_first["baseline"] > 0.6
    assert sum(at_first.values()) == pytest.approx(1)
    origins = Origins.before(posts, np.array([400, 699]))
    forecasts = ENSEMBLE.predict(model, posts, origins, options, "timing")
    members = [
        load_algorithm(name).predict(model.members[name], posts, origins, own, "timing")
        for name, own in options.members.items()
    ]
    for row, expected in ((0, 0), (1, 1)):
        distance = [np.abs(forecasts.quantiles[row] - member.quantiles[row]).mean() for member in members]
        assert int(np.argmin(distance)) == expected


@pytest.mark.usefixtures("last_gap")
def test_an_ensemble_of_few_posts_has_equal_weights() -> None:
    posts = sample_posts()[["post_id", "created_at"]].iloc[:60]
    options = ENSEMBLE.options(CHEAP, "timing")
    model = ENSEMBLE.train(posts, options, "timing")
    assert {found.value for found in ENSEMBLE.explain(model, options, "timing")} == {0.5}
    assert "too few posts" in ENSEMBLE.explain(model, options, "timing")[0].note


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"prophet": {}}, "must name at least two algorithms"),
        ({}, "must name at least two algorithms"),
        (["prophet", "baseline"], "must be a section"),
        ({"prophte": {}, "baseline": {}}, "unknown algorithm 'prophte'. Did you mean 'prophet'?"),
        ({"ensemble": {}, "baseline": {}}, "'ensemble' cannot be a member of itself"),
        ({"claude_api": {}, "baseline": {}}, "the algorithm 'claude_api' forecasts content, not timing"),
        ({"prophet": {"weeks": 0}, "baseline": {}}, "timing_model.ensemble.members.prophet.weeks: invalid value '0'"),
        ({"prophet": {"weks": 3}, "baseline": {}}, "timing_model.ensemble.members.prophet.weks"),
        ({"prophet": 5, "baseline": {}}, "the options of 'prophet' must be keys with values"),
    ],
)
def test_wrong_members_are_refused(members: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=r"timing_model\.ensemble\.members") as refused:
        ENSEMBLE.options({"members": members}, "timing")
    assert problem in str(refused.value)


def test_wrong_members_are_refused_in_one_line(folder: Path, retrainer: Runner, prepare: Prepare) -> None:
    prepare(folder, import_sample)
    environ = {"RETRAINER_TIMING_MODEL__ENSEMBLE__MEMBERS": json.dumps({"baseline": {}, "prophet": {"weeks": 0}})}
    done = retrainer("train", "timing", "--algorithm", "ensemble", "--quiet", env=environ)
    assert done.code == 2
    assert "timing_model.ensemble.members.prophet.weeks: invalid value '0'" in done.err
    assert done.err.count("\n") == 1


def test_a_paid_member_is_refused(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.add("dear", timing_algorithm("dear").replace("summary=", "paid=True, summary="))
    monkeypatch.syspath_prepend(str(plugins.site))
    with pytest.raises(ConfigError, match="forecasts of 'dear' cost money"):
        ENSEMBLE.options({"members": {"dear": {}, "baseline": {}}}, "timing")


def test_a_member_that_is_not_ready_stops_the_run(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    check = """
    @hookimpl
    def check_ready():
        from retrainer.errors import MissingCredentials
        raise MissingCredentials("no key for 'unready'")
    """
    plugins.add("unready", timing_algorithm("unready", hooks=check))
    monkeypatch.syspath_prepend(str(plugins.site))
    options = ENSEMBLE.options({"members": {"unready": {}, "baseline": {}}}, "timing")
    with pytest.raises(MissingCredentials, match="unready"):
        ENSEMBLE.check_ready(options)


@pytest.mark.slow
def test_a_version_holds_the_models_of_its_members(
    folder: Path, retrainer: Runner, prepare: Prepare, plugins: Plugins
) -> None:
    prepare(folder, import_sample)
    plugins.add("last_gap", LAST_GAP)
    config = folder / "config" / "config.yaml"
    wanted = "algorithm: ensemble\n  ensemble:\n    members:\n      baseline:\n      last_gap: {}"
    config.write_text(config.read_text().replace("algorithm: baseline", wanted, 1))
    run = retrainer("train", "timing", "--json", env=plugins.environ)
    assert run.code == 0, run.err
    (run_document,) = run.json["training_runs"]
    version = run_document["model_version_id"]
    files = folder / "models" / "timing" / version
    assert (files / "last_gap" / "deep" / "hours.txt").exists()
    shown = retrainer("show", version, "--json", env=plugins.environ).json
    assert shown["hyperparameters"] == {"members": {"baseline": {"last_gaps": None, "window": 20}, "last_gap": {}}}
    assert {found["label"] for found in shown["importance"]} == {"baseline", "last_gap"}

    shutil.rmtree(files)
    assert retrainer("predict", "timing", env=plugins.environ).code == 0
    assert retrainer("doctor", "--repair", env=plugins.environ).code == 0
    assert (files / "last_gap" / "deep" / "hours.txt").exists()

    gone = retrainer("predict", "timing")
    assert gone.code == 2
    assert "timing_model.ensemble.members: unknown algorithm 'last_gap'" in gone.err


@pytest.mark.usefixtures("last_gap")
def test_the_average_of_conditioned_forecasts_is_not_quite_a_conditioned_one() -> None:
    """The documentation says so; if it ever is, say that instead."""
    few = sample_posts().iloc[:110]  # so that both members have weight
    assert check_conditioning("baseline", posts=few) < 0.03
    assert check_conditioning("ensemble", options=CHEAP, posts=few, tolerance=1) > 0.03
