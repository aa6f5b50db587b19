"""Rollback by evidence: when it happens, what it records, and when it does not happen."""

from __future__ import annotations

import random
import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from retrainer.live.rollback import review_production
from retrainer.live.update import update_live
from tests.command_line import packages, run_in_process
from tests.conftest import configure, open_project, regular_posts, runtime_of
from tests.faults.injection import StatementFault
from tests.faults.project import environ_of, require_consistent, run_as_worker
from tests.notify.receiver import Receiver
from tests.plugins_for_tests import Plugins, timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.registry.tables import Hold, LedgerEntry
    from tests.command_line import Completed, Runner
    from tests.conftest import Prepare

START = datetime(2024, 6, 1, tzinfo=UTC)
GAP = timedelta(hours=5)
FEW, MANY = START + 3 * GAP, START + 60 * GAP  # times at which so many live posts have come

on_sqlite = pytest.mark.parametrize("folder_on_each_database", ["sqlite"], indirect=True)  # nothing about the database

QUICK = ("train", "timing", "--algorithm", "baseline", "--no-auto-promote")


class Model:
    """A project whose posts come every 5 hours, and versions that forecast another gap."""

    def __init__(self, folder: Path, plugins: Plugins, retrainer: Runner) -> None:
        self.folder, self._plugins, self._retrainer = folder, plugins, retrainer
        self.env = environ_of(plugins)
        self.project = open_project(folder)

    def run(self, *arguments: str, **variables: str) -> Completed:
        return self._retrainer(*arguments, env={**self.env, **variables})

    def add(self, hours: float, at: datetime = START) -> str:
        """Train a version that forecasts so many hours as of a time, promote it by hand, and return its id."""
        env = environ_of(self._plugins, hours)
        done = self._retrainer("train", "timing", "--no-auto-promote", "--as-of", f"{at:%FT%T}", "--json", env=env)
        assert done.code == 0, done.err
        version_id = str(done.json["training_runs"][0]["model_version_id"])
        self.promote(version_id)
        return version_id

    def promote(self, version_id: str) -> None:
        done = self.run("promote", version_id, "--reason", "reviewed")
        assert done.code == 0, done.err

    def train(self, at: datetime, *arguments: str, **variables: str) -> Completed:
        done = self.run(*(arguments or QUICK), "--as-of", f"{at:%FT%T}", **variables)
        assert done.code == 0, done.err
        return done

    @property
    def production(self) -> str:
        version = self.project.registry.get_production("timing")
        assert version is not None
        return version.version_id

    def ledger(self, *actions: str) -> list[LedgerEntry]:
        return self.project.registry.list_ledger_entries("timing", actions)

    def hold(self) -> Hold | None:
        return self.project.registry.get_hold("timing")


def add_regular_posts(folder: Path) -> None:
    """Store the posts, and have versions rolled back by evidence."""
    configure(folder, rollback="true", min_improvement_threshold="0")
    project = open_project(folder)
    project.posts.add(regular_posts(300, start=START - 150 * GAP), START)
    project.close()


def train_good_then_bad(folder: Path) -> tuple[str, str]:
    """Store the posts, put a good version in production, then a bad one; return both."""
    add_regular_posts(folder)
    site = folder.parent / "site"
    site.mkdir()
    model = Model(folder, Plugins(site), run_in_process(folder))
    versions = model.add(5.0), model.add(20.0)
    model.project.close()
    return versions


@pytest.fixture
def model(folder: Path, plugins: Plugins, retrainer: Runner, prepare: Prepare) -> Model:
    """A project without a version."""
    prepare(folder, add_regular_posts)
    return Model(folder, plugins, retrainer)


@pytest.fixture
def good_and_bad(folder: Path, prepare: Prepare) -> tuple[str, str]:
    """A good version, and a bad one that is in production since."""
    return prepare(folder, train_good_then_bad)


@pytest.fixture
def worse(good_and_bad: tuple[str, str], folder: Path, plugins: Plugins, retrainer: Runner) -> Model:
    """A project with these versions."""
    return Model(folder, plugins, retrainer)


@pytest.mark.slow_on_postgresql
def test_a_worse_version_is_rolled_back_with_its_evidence_and_the_type_is_held(
    worse: Model, good_and_bad: tuple[str, str]
) -> None:
    model, (good, bad) = worse, good_and_bad
    model.train(FEW)
    assert model.production == bad, "three posts prove nothing"
    would = model.run("live", "timing", "--dry-run", "--json")
    assert would.json["models"][0]["next_train"]["outcome"] == "rollback", "by all 149 posts up to now"
    assert model.production == bad
    done = model.train(MANY)
    assert model.production == good
    assert f"Rolled back timing to '{good}'. On 60 live posts the error of '{bad}' is" in done.err
    (rollback,) = model.ledger("rollback")
    assert (rollback.automatic, rollback.from_version_id, rollback.to_version_id) == (True, bad, good)
    assert rollback.evidence["e_value"] >= rollback.evidence["limit"] == 100
    figures = {name: rollback.evidence[name] for name in ("against", "num_posts", "fit", "other_fit", "through")}
    assert figures == {
        "against": "previous",
        "num_posts": 60,
        "fit": bad,
        "other_fit": good,
        "through": f"{MANY:%FT%TZ}",
    }
    assert rollback.evidence["error_smaller_by"]["high"] < 0
    assert model.hold() is not None
    assert model.ledger("hold")[0].automatic


@on_sqlite
@pytest.mark.slow
def test_nothing_is_rolled_back_unless_the_settings_say_so(worse: Model, good_and_bad: tuple[str, str]) -> None:
    model, (_, bad) = worse, good_and_bad
    configure(model.folder, rollback="false")
    model.train(MANY)
    model.train(MANY, *QUICK, RETRAINER_LIVE__FLOOR="naive")
    assert model.production == bad
    assert model.ledger("rollback", "degraded") == []
    configure(model.folder, rollback="true")
    model.run(*QUICK, "--as-of", f"{MANY:%FT%T}", "--dry-run")
    assert model.production == bad
    not_due = model.train(MANY, *QUICK, "--if-due")
    assert model.production != bad, f"also if it is not due: {not_due.err}"


@on_sqlite
@pytest.mark.slow
def test_it_does_not_flap(worse: Model, good_and_bad: tuple[str, str]) -> None:
    model, (good, bad) = worse, good_and_bad
    model.train(MANY)
    assert model.production == good
    better = environ_of(model._plugins, 5.0)
    model.train(MANY, "train", "timing", **better)
    assert model.production == good, "nothing is promoted while it is on hold"
    model.promote(bad)
    assert model.hold() is None
    (release,) = model.ledger("release")
    assert (release.automatic, release.reason) == (True, f"'{bad}' was promoted by hand")
    model.train(MANY)
    assert model.production == bad, "the evidence of the first time is used up"
    model.train(MANY + 3 * GAP)
    assert model.production == bad
    model.train(MANY + 40 * GAP)
    assert model.production == good, "new posts prove it again"
    assert len(model.ledger("rollback")) == 2


@on_sqlite
@pytest.mark.slow
def test_a_promotion_by_hand_does_not_end_a_hold_by_hand(worse: Model, good_and_bad: tuple[str, str]) -> None:
    model, (good, bad) = worse, good_and_bad
    assert model.run("hold", "timing", "--reason", "holidays").code == 0
    model.train(MANY)
    assert model.production == good, "a hold concerns promotions"
    model.promote(bad)
    assert model.hold() is not None
    assert model.run("release", "timing").code == 0
    model.train(MANY, "train", "timing", **environ_of(model._plugins, 5.0))
    assert model.production not in {good, bad}, "after a release versions are promoted again"


@on_sqlite
@pytest.mark.slow
def test_the_naive_forecast_as_the_floor(model: Model) -> None:
    """A version that is worse than naive goes if the one before is not; how they compare is not known yet."""
    bad = model.add(20.0)
    good = model.add(5.0, START + 55 * GAP)
    model.promote(bad)
    at = START + 58 * GAP
    model.train(at)
    assert model.production == bad
    model.train(at, *QUICK, RETRAINER_LIVE__FLOOR="naive")
    assert model.production == good
    (rollback,) = model.ledger("rollback")
    assert (rollback.evidence["against"], rollback.evidence["other_version_id"]) == ("naive", None)


@on_sqlite
@pytest.mark.slow
def test_a_version_before_that_is_worse_than_naive_is_not_restored(model: Model, tmp_path: Path) -> None:
    model.add(15.0)
    bad = model.add(30.0)
    with Receiver() as receiver:
        channel = {"RETRAINER_NOTIFICATIONS__WEBHOOK__URL_VARIABLE": "HOOK", "HOOK": receiver.url}
        model.train(MANY, *QUICK, **channel)
        again = model.train(MANY + GAP, *QUICK, **channel)
        assert receiver.events().count("degraded") == 1, "not every day"
        text = next(one.json for one in receiver.received if one.json["event"] == "degraded")["text"]
    assert model.production == bad
    assert "The timing model is degraded" in text
    assert "is worse than the naive forecast itself (E = " in text
    assert "degraded" not in again.err
    (entry,) = model.ledger("degraded")
    assert (entry.version_id, entry.evidence["problem"]) == (bad, "previous_worse_than_naive")
    assert model.hold() is None


@on_sqlite
@pytest.mark.slow
def test_without_a_version_before_it_is_degraded(model: Model) -> None:
    bad = model.add(20.0)
    done = model.train(MANY, *QUICK, RETRAINER_LIVE__FLOOR="naive")
    assert "but there is no version to go back to" in done.err
    assert model.production == bad
    (entry,) = model.ledger("degraded")
    assert entry.evidence["problem"] == "nothing_before"


@on_sqlite
@pytest.mark.slow
def test_a_version_before_that_cannot_be_loaded_is_not_restored(model: Model) -> None:
    plugin = model._plugins.site / "retrainer_steady_module.py"
    model._plugins.add("steady", timing_algorithm("steady", 5.0))
    done = model.run("train", "timing", "--algorithm", "steady", "--as-of", f"{START:%FT%T}")
    assert done.code == 0, done.err
    bad = model.add(20.0)
    plugin.write_text("raise ImportError('gone')\n")
    for _ in range(2):
        model.train(MANY, *QUICK, RETRAINER_LIVE__FLOOR="naive")
    assert model.production == bad
    (entry,) = model.ledger("degraded")
    assert entry.evidence["problem"] == "previous_unusable"
    plugin.write_text(timing_algorithm("steady", 5.0))
    model.train(MANY, *QUICK, RETRAINER_LIVE__FLOOR="naive")
    assert model.production != bad, "it can be loaded again"


@pytest.mark.slow
def test_nothing_is_rolled_back_if_production_changed_meanwhile(worse: Model, good_and_bad: tuple[str, str]) -> None:
    model, (good, bad) = worse, good_and_bad
    runtime = runtime_of(model.project)
    with packages(model.env["PYTHONPATH"]):
        comparisons = update_live(model.project, runtime, "timing", MANY)
        other = model.add(6.0)
        found = review_production(model.project, runtime, "timing", MANY, comparisons=comparisons)
        assert (found.outcome, model.production) == ("kept", other)
        assert model.run("rollback", "timing", "--no-hold").code == 0
        assert model.run("rollback", "timing", "--no-hold").code == 0
        found = review_production(model.project, runtime, "timing", MANY, comparisons=comparisons)
        assert (found.outcome, model.production) == ("kept", good), f"'{bad}' is gone already"


@on_sqlite
@pytest.mark.slow
def test_a_production_version_that_cannot_forecast_prevents_no_training(model: Model) -> None:
    broken = timing_algorithm("broken", 5.0, predict="if os.environ.get('BREAK'): raise ValueError('a bug')")
    model._plugins.add("broken", broken)
    model.train(START, "train", "timing", "--algorithm", "broken")
    done = model.run(*QUICK, "--as-of", f"{MANY:%FT%T}", BREAK="1")
    assert "on live posts: the plugin 'broken': its hook predict failed: ValueError: a bug" in done.err
    assert [run.status for run in model.project.registry.list_runs("timing")] == ["completed"] * 2


@pytest.mark.parametrize("kills", [pytest.param(3, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.soak)])
def test_a_kill_leaves_the_rollback_done_or_not_begun(
    worse: Model, good_and_bad: tuple[str, str], tmp_path: Path, kills: int
) -> None:
    """The process is killed before one of its statements; the next `train` does what is still to be done."""
    choose = random.Random(18)  # noqa: S311  no secret
    model, (good, bad) = worse, good_and_bad
    _add_posts(model, 100 + 12 * 2 * kills)
    at, killed = MANY, 0
    counted = StatementFault(0, tmp_path / "report")
    arguments = [*QUICK, "--as-of", f"{at:%FT%T}"]
    assert run_as_worker(model.folder, *arguments, env=model.env, fault=counted).code == 0
    first, last = _find_decision((tmp_path / "report").read_text())
    while killed < kills:
        model.promote(bad)
        rollbacks = len(model.ledger("rollback"))
        at += 12 * GAP
        fault = StatementFault(choose.randint(first - 5, last + 10), tmp_path / "report")
        arguments = [*QUICK, "--as-of", f"{at:%FT%T}"]
        killed += run_as_worker(model.folder, *arguments, env=model.env, fault=fault).code == -signal.SIGKILL
        require_consistent(model.project)
        is_done = len(model.ledger("rollback")) > rollbacks
        assert model.production == (good if is_done else bad)
        assert (model.hold() is not None) == is_done, "the hold comes with the rollback"
        model.train(at)
        assert model.production == good
        assert len(model.ledger("rollback")) == rollbacks + 1


def _find_decision(statements: str) -> tuple[int, int]:
    """Return the numbers of the first statement that records the rollback, and of the commit after it."""
    lines = statements.splitlines()
    first = next(number for number, line in enumerate(lines, 1) if "UPDATE retrainer_model_versions" in line)
    return first, lines.index("COMMIT", first) + 1


def _add_posts(model: Model, count: int) -> None:
    """Add posts after the last one, which go on every 5 hours."""
    later = regular_posts(count, start=START + 150 * GAP)
    model.project.posts.add(later.assign(post_id="later " + later["post_id"]), datetime.now(UTC))
