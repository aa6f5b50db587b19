"""The commands `ab start`, `ab status` and `ab stop`, and the callers that an A/B test answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import NOW, open_project, regular_posts
from tests.live.ab_project import Versions, add_algorithms, add_posts_since_start, train_versions
from tests.worker import Worker, command, release

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Runner
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins


@pytest.fixture
def environ(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment with the algorithms of the versions."""
    add_algorithms(plugins)
    monkeypatch.syspath_prepend(str(plugins.site))
    return plugins.environ


@pytest.fixture
def versions(environ: dict[str, str], folder: Path, prepare: Prepare) -> Versions:
    """The versions of the project."""
    return prepare(folder, train_versions)


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_a_test_is_started_watched_and_decided(
    versions: Versions, environ: dict[str, str], folder: Path, retrainer: Runner
) -> None:
    nothing = retrainer("ab", "status", env=environ)
    assert (nothing.code, nothing.out) == (0, "No A/B test. Start one with `retrainer ab start TYPE CHALLENGER`\n")
    assert retrainer("ab", "status", "timing", "--json", env=environ).json == {"tests": [], "count": 0}
    started = retrainer(
        "ab", "start", "timing", versions.near, "--share", "20", "--reason", "smaller gaps", env=environ
    )
    assert started.code == 0, started.err
    lines = started.out.splitlines()
    assert lines[0].startswith("A/B test of timing, running since ")
    assert lines[1] == f"  Production: {versions.production}, score -"
    assert lines[2] == f"  Challenger, answers 20% of subjects: {versions.near}, score -"
    assert lines[3] == "No live post has been scored yet."
    assert lines[4].startswith(
        "Evidence: 1.0 for the challenger, 1.0 for production; 40 decides. Ends undecided after "
    )
    assert f"A/B test of {versions.near} since " in retrainer("status", env=environ).out
    again = retrainer("ab", "start", "timing", versions.near, env=environ)
    assert again.code == 1
    assert "of timing is running. End it first with `retrainer ab stop timing`" in again.err

    project = open_project(folder)
    status = retrainer("ab", "status", "--json", env=environ).json
    (document,) = status["tests"]
    assert (document["status"], document["share"], document["problem"]) == ("running", 20, None)
    add_posts_since_start(project, 40)
    done = retrainer("ab", "status", "timing", env=environ)
    assert ", the challenger was promoted on " in done.out
    assert "Reason: The challenger won the A/B test on " in done.out
    assert versions.near in retrainer("production", env=environ).out
    shown = retrainer("show", versions.near, env=environ).out
    assert "became the challenger of an A/B test" in shown
    assert "smaller gaps" in shown
    assert retrainer("rollback", "timing", env=environ).code == 0


@pytest.mark.slow
def test_a_train_decides_the_test_of_its_stream(environ: dict[str, str], folder: Path, retrainer: Runner) -> None:
    project = open_project(folder)
    for stream in ("news", "garden"):
        project.posts.for_stream(stream).add(regular_posts(120), NOW)
    ids = {}
    for stream in ("news", "garden"):
        for algorithm in ("far", "near"):
            done = retrainer(
                "--quiet", "train", "timing", "--stream", stream, "--algorithm", algorithm, "--json", env=environ
            )
            ids[stream, algorithm] = done.json["training_runs"][0]["model_version_id"]
        retrainer("promote", ids[stream, "far"], env=environ)
        start = ("ab", "start", "timing", "@latest", "--stream", stream)
        assert retrainer(*start, "--share", "50", env=environ).code == 0
    assert retrainer("ab", "start", "timing", ids["garden", "far"], "--stream", "news", env=environ).code == 2
    both = retrainer("ab", "status", env=environ)
    assert [line for line in both.out.splitlines() if line.startswith("A/B test of timing of the stream 'garden', ")]
    assert [line for line in both.out.splitlines() if line.startswith("A/B test of timing of the stream 'news', ")]
    assert retrainer("ab", "stop", "timing", env=environ).code == 2, "which of the two streams?"
    add_posts_since_start(project.for_stream("news"), 40)
    due = retrainer("train", "timing", "--stream", "news", "--if-due", env=environ)
    assert due.code == 0, due.err
    news, garden = (
        retrainer("ab", "status", "--stream", stream, "--json", env=environ).json["tests"][0]
        for stream in ("news", "garden")
    )
    assert (news["outcome"], news["num_posts"], garden["status"]) == ("promoted", 40, "running")
    live = retrainer("production", "--stream", "news", "--json", env=environ).json["timing_model"]["version_id"]
    assert live == ids["news", "near"]
    assert (
        "A/B test of timing of the stream 'garden', running since"
        in retrainer("ab", "status", "--stream", "garden", env=environ).out
    )


@pytest.mark.slow
def test_only_one_of_two_processes_starts_a_test(
    versions: Versions, environ: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    output.mkdir()
    workers = [
        Worker.start(output, command, folder, "ab", "start", "timing", challenger, env=environ)
        for challenger in (versions.near, versions.farther)
    ]
    release(workers)
    assert sorted(worker.finish() for worker in workers) == [0, 1]
    errors = "".join(worker.err for worker in workers)
    assert "of timing is running. End it first" in errors
    project = open_project(folder)
    assert len(project.registry.list_tests("timing")) == 1


BAD = [
    (("start", "timing", "@production"), 1, "it is in production. Choose another version as challenger"),
    (("start", "timing", "no_such"), 2, "unknown version 'no_such'"),
    (("start", "content", "timing@latest"), 2, "it is a timing version"),
    (("start", "timing", "@latest", "--share", "101"), 2, "--share"),
    (("start", "timing", "@latest", "--share", "nan"), 2, "--share"),
    (("start", "timing", "@latest", "--level", "0"), 2, "--level"),
    (("start", "timing", "@latest", "--max-posts", "0"), 2, "--max-posts"),
    (("start", "timing"), 2, "Missing argument 'CHALLENGER'"),
    (("stop", "timing"), 1, "no A/B test of timing is running. Start one with `retrainer ab start timing"),
    (("stop", "timing", "--promote", "--keep"), 2, "--promote and --keep exclude each other. Choose one"),
    (("stp", "timing"), 2, "Did you mean 'stop'?"),
]


def test_bad_input_is_one_line(versions: Versions, environ: dict[str, str], retrainer: Runner) -> None:
    for arguments, code, message in BAD:
        done = retrainer("ab", *arguments, env=environ)
        assert (done.code, message in done.err) == (code, True), done
        assert len(done.err.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_subject_is_answered_by_its_side(versions: Versions, environ: dict[str, str], retrainer: Runner) -> None:
    assert retrainer("predict", "timing", "--subject", "ada", "--json", env=environ).json["side"] is None
    assert retrainer("ab", "start", "timing", versions.near, "--share", "50", env=environ).code == 0
    sides: dict[str, set[str]] = {"production": set(), "challenger": set()}
    for subject in ("ada", "ada", *map(str, range(12)), "a\nb", "x" * 10_000, "\udcff"):
        document = retrainer("predict", "timing", "--subject", subject, "--json", env=environ).json
        sides[document["side"]].add(subject)
        assert document["version_id"] == (versions.near if document["side"] == "challenger" else versions.production)
    assert sides["production"]
    assert sides["challenger"]
    assert not sides["production"] & sides["challenger"]
    text = retrainer("predict", "timing", "--subject", "ada", env=environ).out
    assert " of the A/B test), last post " in text
    assert retrainer("predict", "timing", "--json", env=environ).json["side"] is None
    stopped = retrainer("ab", "stop", "timing", "--keep", "--json", env=environ).json
    assert (stopped["outcome"], stopped["reason"]) == ("kept", "A/B test stopped by hand")


def test_the_challenger_is_promoted_by_hand(versions: Versions, environ: dict[str, str], retrainer: Runner) -> None:
    assert retrainer("ab", "start", "timing", versions.farther, env=environ).code == 0
    done = retrainer("ab", "stop", "timing", "--promote", "--reason", "trust me", env=environ)
    assert done.code == 0
    assert ", the challenger was promoted on " in done.out
    assert "Reason: trust me" in done.out
    assert retrainer("production", "--json", env=environ).json["timing_model"]["version_id"] == versions.farther
