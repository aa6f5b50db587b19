"""Rollback by evidence over many streams: decided together, at a false-rollback rate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from retrainer.live.ab_tests import start_test
from retrainer.live.fleet import review_fleet
from retrainer.live.review import review
from retrainer.live.scores import load_evidence
from retrainer.pipeline.promotion import promote_version
from retrainer.pipeline.run import retrain
from tests.conftest import configure, open_project, regular_posts, runtime_of
from tests.notify.receiver import Receiver
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from retrainer.registry.live_tables import LiveComparison
    from tests.command_line import Runner
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins

START = datetime(2024, 6, 1, tzinfo=UTC)
GAP = timedelta(hours=5)
NAMES = [f"s{number:02d}" for number in range(12)]
BAD = NAMES[2:5]
END = START + 40 * GAP

on_sqlite = pytest.mark.parametrize("folder_on_each_database", ["sqlite"], indirect=True)  # nothing about the database


def _add_fleet(folder: Path) -> None:
    """Add twelve streams whose posts come every 5 hours: a good version is followed by a bad one in three of them."""
    project = open_project(folder)
    for name in NAMES:
        own = project.for_stream(name)
        own.posts.add(regular_posts(170, start=START - 130 * GAP), START)
        before, after = ("five", "six") if name in BAD else ("six", "four")  # four is as far off as six
        for algorithm in (before, after):
            run = retrain(
                own, runtime_of(own), "timing", START, as_of=True, algorithm=algorithm, auto_promote=False
            ).run
            assert run
            promote_version(own, runtime_of(own), str(run.model_version_id), "by hand", START)
    project.close()


@pytest.fixture
def fleet(folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch, prepare: Prepare) -> Project:
    """A project with these streams."""
    for name, hours in {"four": 4.0, "five": 5.0, "six": 6.0}.items():
        plugins.add(name, timing_algorithm(name, hours))
    monkeypatch.syspath_prepend(plugins.site)
    monkeypatch.setenv("PYTHONPATH", str(plugins.site))
    configure(folder, rollback="true")
    prepare(folder, _add_fleet)
    return open_project(folder)


def _algorithms(project: Project) -> dict[str, str]:
    versions = project.registry.across(None).list_production_at(datetime.now(UTC))
    return {version.stream: version.algorithm for version in versions}


def _comparison_of(project: Project, stream: str) -> LiveComparison:
    """Return the comparison of a stream's production version with the one before."""
    current = project.for_stream(stream).registry.list_current_live_comparisons()
    (found,) = (one for one in current if one.against == "previous")
    return found


def _update(project: Project, now: datetime) -> None:
    for name in NAMES:
        own = project.for_stream(name)
        review(own, runtime_of(own), "timing", now, roll_back=False)


@pytest.mark.parametrize("folder_on_each_database", ["postgresql"], indirect=True)  # the other tests are on SQLite
@pytest.mark.slow
def test_three_bad_streams_of_twelve_are_rolled_back_together(fleet: Project, retrainer: Runner) -> None:
    train = (
        "train",
        "timing",
        "--all-streams",
        "--if-due",
        "--algorithm",
        "baseline",
        "--no-auto-promote",
        "--jobs",
        "2",
    )
    trained = retrainer(*train, "--as-of", f"{START + GAP:%FT%T}", "--json")
    assert trained.code == 0, trained.err
    assert trained.json["reviews"] == []
    with Receiver() as receiver:
        env = {"RETRAINER_NOTIFICATIONS__WEBHOOK__URL_VARIABLE": "HOOK", "HOOK": receiver.url}
        done = retrainer(*train, "--as-of", f"{END:%FT%T}", "--json", env=env)
        (message,) = [one.json for one in receiver.received]
    assert done.code == 0, done.err
    rolled_back = {one["stream"]: one for one in done.json["reviews"]}
    assert rolled_back.keys() == set(BAD)
    assert {one["outcome"] for one in rolled_back.values()} == {"rollback"}
    evidence = rolled_back[BAD[0]]["evidence"]
    assert (evidence["num_comparisons"], evidence["limit"]) == (12, 100), "12 / (0.1 · 3) is less"
    assert message["event"] == "fleet"
    assert f"{BAD[0]} timing was rolled back to five_timing_" in message["text"]
    assert _algorithms(fleet) == {name: "five" if name in BAD else "four" for name in NAMES}
    for name in NAMES:
        assert (fleet.for_stream(name).registry.get_hold("timing") is not None) == (name in BAD)
    again = retrainer(*train, "--as-of", f"{END:%FT%T}", "--json")
    assert again.json["reviews"] == []


@on_sqlite
@pytest.mark.slow
def test_one_bad_stream_needs_more_evidence_among_many(fleet: Project) -> None:
    configure(fleet.folder, false_rollback_rate="0.04")
    project = open_project(fleet.folder)
    now = START + 12 * GAP
    _update(project, now)
    worse = load_evidence(_comparison_of(project, BAD[0])).worse
    assert 150 < worse < 300
    assert review_fleet(project, runtime_of(project), BAD[:1], ["timing"], now) == [], "alone, it needs 300"
    first = review_fleet(project, runtime_of(project), BAD[:2], ["timing"], now)
    assert {one.stream for one in first} == set(BAD[:2]), "together, they need 150 each"
    earlier = now - GAP
    assert review_fleet(project, runtime_of(project), BAD[2:], ["timing"], earlier) == [], "the others came later"
    (last,) = review_fleet(project, runtime_of(project), BAD[2:], ["timing"], now)
    assert last.evidence is not None
    assert last.evidence["num_comparisons"] == 12, "what was rolled back this year counts with its evidence"
    assert last.evidence["limit"] == pytest.approx(100)


@on_sqlite
@pytest.mark.slow
@pytest.mark.parametrize("watched", [1, 2])
def test_a_model_among_few_needs_as_much_as_alone(fleet: Project, watched: int) -> None:
    names = ", ".join(f"{name}: {{live: {{rollback: true}}}}" for name in BAD[:watched])
    configure(fleet.folder, rollback="false", streams=f"{{{names}}}")
    project = open_project(fleet.folder)
    now = START + 9 * GAP
    _update(project, now)
    assert 20 < load_evidence(_comparison_of(project, BAD[0])).worse < 100, "the rate alone would ask for 10"
    assert review_fleet(project, runtime_of(project), NAMES, ["timing"], now) == []
    _update(project, END)
    assert len(review_fleet(project, runtime_of(project), NAMES, ["timing"], END)) == watched


@on_sqlite
@pytest.mark.slow
def test_workers_do_not_decide_alone_and_streams_may_differ(fleet: Project) -> None:
    _update(fleet, END)
    assert set(_algorithms(fleet).values()) == {"four", "six"}
    configure(fleet.folder, streams="{s02: {live: {rollback: false}}}")
    project = open_project(fleet.folder)
    reviews = review_fleet(project, runtime_of(project), NAMES, ["timing"], END)
    assert {one.stream for one in reviews} == set(BAD) - {"s02"}
    assert reviews[0].evidence is not None
    assert reviews[0].evidence["num_comparisons"] == 11


@on_sqlite
@pytest.mark.slow
def test_the_ab_tests_that_are_decided_are_reported(fleet: Project, retrainer: Runner) -> None:
    own = fleet.for_stream(BAD[0])
    (challenger,) = [one for one in own.registry.list_versions("timing") if one.algorithm == "five"]
    start_test(own, runtime_of(own), "timing", challenger.version_id, "a try", START)
    with Receiver() as receiver:
        env = {
            "RETRAINER_NOTIFICATIONS__WEBHOOK__URL_VARIABLE": "HOOK",
            "RETRAINER_NOTIFICATIONS__WEBHOOK__EVENTS": "[ab_test]",
            "HOOK": receiver.url,
        }
        train = ("train", "timing", "--stream", "s0[23]", "--algorithm", "baseline", "--no-auto-promote")
        done = retrainer(*train, "--as-of", f"{END:%FT%T}", "--json", env=env)
        assert done.code == 0, done.err
        (message,) = [one.json for one in receiver.received]
    (ended,) = done.json["ended_tests"]
    assert (ended["stream"], ended["challenger_id"], ended["outcome"]) == (BAD[0], challenger.version_id, "promoted")
    assert _algorithms(fleet)[BAD[0]] == "five"
    assert f"{BAD[0]} timing: the A/B test has ended, promoted: " in message["text"]
    assert message["ended_tests"] == done.json["ended_tests"]
