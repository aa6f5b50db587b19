"""Several streams in one project: each has models, runs, holds and settings of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from retrainer.errors import InsufficientData, NothingToRollBack, RunInProgress, UnknownName, UsageError
from retrainer.pipeline.promotion import roll_back
from retrainer.pipeline.run import retrain
from retrainer.streams import check_stream_name, matches, stream_id
from tests.conftest import NOW, open_project, regular_posts, runtime_of

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from tests.command_line import Runner

NAMES = ["default", "News", "news", "../x y/ü*"]


@pytest.fixture
def project(folder: Path) -> Project:
    """Return a project with a few streams, each with posts of the same ids."""
    project = open_project(folder)
    for name in NAMES:
        project.posts.for_stream(name).add(regular_posts(120), NOW)
    return project


def test_a_stream_has_versions_runs_and_holds_of_its_own(project: Project) -> None:
    assert project.list_streams() == sorted(NAMES)
    for name in NAMES[1:]:
        own = project.for_stream(name)
        runs = [retrain(own, runtime_of(own), "timing", NOW).run for _ in range(2)]
        assert all(run is not None and run.stream == name for run in runs)
        live = own.registry.get_production("timing")
        assert live is not None
        assert live.version_id == runs[0].model_version_id  # type: ignore[union-attr]  # equal models: not promoted
        assert own.registry.hold("timing", f"for {name}", NOW)
        link = own.models_dir / "streams" / stream_id(name) / "timing_model"
        assert link.resolve() == (own.models_dir / "timing" / live.version_id).resolve()
    assert project.registry.get_production("timing") is None
    assert project.registry.get_hold("timing") is None
    assert project.registry.list_runs() == []
    assert {run.stream for run in project.registry.across(None).list_runs()} == set(NAMES[1:])
    assert len(project.registry.across(["news", "News"]).list_versions()) == 4
    assert len(project.for_stream("news").registry.list_ledger_entries()) == 3


def test_train_repairs_the_links_of_its_stream(project: Project, retrainer: Runner) -> None:
    own = project.for_stream("news")
    assert retrain(own, runtime_of(own), "timing", NOW).promoted
    link = own.models_dir / "streams" / stream_id("news") / "timing_model"
    target = link.readlink()
    link.unlink()  # as if the run had been killed before it set it
    assert retrainer("train", "timing", "--stream", "news", "--if-due").code == 0
    assert link.readlink() == target


def test_a_rollback_concerns_one_stream(project: Project) -> None:
    live = {}
    for name in ("news", "News"):
        own = project.for_stream(name)
        runs = [retrain(own, runtime_of(own), "timing", NOW).run for _ in range(2)]
        first, second = (str(run.model_version_id) for run in runs if run is not None)
        own.registry.promote(second, first, "by hand", NOW)
        live[name] = (first, second)
    own, other = project.for_stream("news"), project.for_stream("News")
    with pytest.raises(NothingToRollBack, match="it is of the stream 'News'"):
        roll_back(own, runtime_of(own), "timing", "it is worse", NOW, to=live["News"][0])
    change = roll_back(own, runtime_of(own), "timing", "it is worse", NOW)
    assert (change.stream, change.to_version) == ("news", live["news"][0])
    assert own.registry.get_hold("timing") is not None
    assert other.registry.get_hold("timing") is None
    production = other.registry.get_production("timing")
    assert production is not None
    assert production.version_id == live["News"][1]


def test_runs_of_two_streams_may_be_in_progress_of_one_stream_not(project: Project) -> None:
    for name in ("news", "News"):
        project.for_stream(name).registry.start_run("timing", "baseline", NOW, None)
    with pytest.raises(RunInProgress):
        project.for_stream("news").registry.start_run("timing", "baseline", NOW, None)


def test_a_stream_must_be_chosen_among_several(project: Project) -> None:
    assert project.choose_stream("news").stream == "news"
    with pytest.raises(UnknownName, match="unknown stream 'new'") as unknown:
        project.choose_stream("new")
    assert "news" in unknown.value.hint
    with pytest.raises(UsageError, match="4 streams"):
        project.choose_stream()


def test_a_name_that_looks_like_a_pattern_is_a_name(project: Project) -> None:
    for name in ("a[b]", "ab"):
        project.posts.for_stream(name).add(regular_posts(3), NOW)
    assert project.select_streams(["a[b]"]) == ["a[b]"]
    assert project.select_streams(["[a]*", "news"]) == ["a[b]", "ab", "news"]


def test_the_only_stream_is_chosen(folder: Path) -> None:
    project = open_project(folder)
    assert project.choose_stream().stream == "default"
    with pytest.raises(InsufficientData):
        retrain(project, runtime_of(project), "timing", NOW)
    project.posts.for_stream("news").add(regular_posts(3), NOW)
    assert project.choose_stream().stream == "news"
    assert project.choose_stream().posts.summary(NOW).count == 3


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x00", "x" * 201, "\ud800"])
def test_a_name_is_1_to_200_characters_without_controls(name: str) -> None:
    with pytest.raises(ValueError, match="must"):
        check_stream_name(name)


def test_patterns_are_globs_and_names_are_exact() -> None:
    assert matches("news_*", "news_a")
    assert matches("[a]", "[a]")  # an exact name, though it is a pattern too
    assert not matches("News_*", "news_a")
    assert not matches("news", "news_a")
