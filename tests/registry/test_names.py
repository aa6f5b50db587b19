"""Versions and runs by what people type: an id, a unique part of it, `timing@production`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from retrainer.errors import UnknownName, UsageError
from tests.conftest import open_project

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from tests.command_line import Runner


@pytest.fixture
def project(trained: str, folder: Path) -> Project:
    assert trained
    return open_project(folder)


def test_a_unique_beginning_or_end_names_a_version(project: Project, trained: str) -> None:
    find = project.registry.find_version
    assert find(trained).version_id == trained
    assert find(project.registry.short_ids()[trained]).version_id == trained
    assert find(trained[:-2]).version_id == trained
    names = [version.version_id for version in project.registry.list_versions()]
    common = "baseline_"
    assert sum(name.startswith(common) for name in names) > 1
    with pytest.raises(UsageError, match=f"'{common}' matches 2 versions, such as "):
        project.registry.find_version(common)


def test_the_short_id_of_a_version_or_run_names_it_and_no_other(project: Project) -> None:
    versions, runs = project.registry.list_versions(), project.registry.list_runs()
    ids = [version.version_id for version in versions] + [run.run_id for run in runs]
    short = project.registry.short_ids()
    assert short.keys() == set(ids)
    for one in ids:
        assert [other for other in ids if other.endswith(short[one])] == [one]
    assert project.registry.find_version(short[ids[0]]).version_id == ids[0]


def test_an_unknown_name_is_refused_with_the_most_similar_one(project: Project, trained: str) -> None:
    for name in ("", "a", "%", "_", "a\0b", "no_such_version", "x" * 300):
        with pytest.raises(UnknownName):
            project.registry.find_version(name)
        with pytest.raises(UnknownName, match="unknown run"):
            project.registry.find_run_id(name)
    wrong = trained[:-3] + "zzz"
    with pytest.raises(UnknownName) as caught:
        project.registry.find_version(wrong)
    assert caught.value.hint == f"Did you mean '{trained}'?"
    with pytest.raises(UnknownName) as caught:
        project.registry.find_version("timing@producton")
    assert caught.value.hint == "Did you mean 'timing@production'?"
    for name in ("@nobody", "timing@"):
        with pytest.raises(UnknownName):
            project.registry.find_version(name)


def test_roles_name_the_versions_of_a_type(project: Project, trained: str) -> None:
    registry = project.registry
    assert registry.find_version("timing@production").version_id == trained
    assert registry.find_version("@production", "timing").version_id == trained
    with pytest.raises(UsageError) as caught:
        registry.find_version("@production")
    assert caught.value.hint == "Write timing@production or content@production"
    with pytest.raises(UnknownName, match="there is no version 'timing@previous'"):
        registry.find_version("timing@previous")


@pytest.mark.slow_on_postgresql
def test_previous_is_what_a_rollback_returns_to(project: Project, trained: str, retrainer: Runner) -> None:
    assert retrainer("train", "timing").code == 0
    new = project.registry.find_version("timing@latest").version_id
    assert new != trained
    assert retrainer("promote", "timing@latest").code == 0
    assert project.registry.find_version("@previous").version_id == trained, "only one type has a previous version"
    assert retrainer("rollback", "timing", "--to", "@previous").code == 0
    assert project.registry.find_version("timing@production").version_id == trained


@pytest.mark.slow_on_postgresql
def test_commands_take_names(project: Project, trained: str, retrainer: Runner) -> None:
    assert retrainer("show", "timing@production", "--json").json["version_id"] == trained
    short = project.registry.short_ids()  # four random digits may be those of another one, too
    assert retrainer("evaluate", short[trained], "--json").json["version_id"] == trained
    assert f"{trained} is now pinned" in retrainer("pin", "timing@production").out
    run = project.registry.list_runs("timing")[0]
    shown = retrainer("show", short[run.run_id])
    assert run.run_id in shown.out, shown.err
    assert trained in shown.out
    assert retrainer("show", run.run_id, "--json").json["run_id"] == run.run_id
    done = retrainer("show", "nothing")
    assert done.code == 2
    assert "unknown version 'nothing'" in done.err
