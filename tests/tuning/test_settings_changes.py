"""The settings file after `tune --apply`: what changes, and what stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from retrainer.errors import ConfigError
from retrainer.settings_edit import change_key
from retrainer.tuning.settings_changes import format_changes, list_changes, write_changes
from tests.conftest import NOW, open_project, regular_posts, runtime_of

if TYPE_CHECKING:
    from pathlib import Path


def text_of(folder: Path) -> str:
    return (folder / "config" / "config.yaml").read_text()


def baseline_options(folder: Path, **changes: object) -> dict[str, object]:
    project = open_project(folder)
    algorithm = runtime_of(project).algorithms("baseline", "timing")
    return {**algorithm.options({}, "timing").model_dump(mode="json"), **changes}


def test_only_what_differs_from_the_file_is_written_and_comments_stay(folder: Path) -> None:
    before = text_of(folder)
    project = open_project(folder)
    options = baseline_options(folder, window=7)
    changes, variables = write_changes(project, runtime_of(project), "timing", "baseline", options)
    assert changes == {("timing_model", "baseline", "window"): 7}
    assert variables == []
    after = text_of(folder)
    assert [line for line in after.splitlines() if line not in before.splitlines()] == ["  baseline:", "    window: 7"]
    assert [line for line in before.splitlines() if line not in after.splitlines()] == []
    assert list_changes(open_project(folder), runtime_of(project), "timing", "baseline", options) == {}


def test_another_algorithm_is_written_with_its_options(folder: Path) -> None:
    project = open_project(folder)
    algorithm = runtime_of(project).algorithms("prophet", "timing")
    options = {**algorithm.options({}, "timing").model_dump(mode="json"), "trend": True}
    changes, _ = write_changes(project, runtime_of(project), "timing", "prophet", options)
    assert changes == {("timing_model", "algorithm"): "prophet", ("timing_model", "prophet", "trend"): True}
    assert format_changes(changes) == "timing_model:\n  algorithm: prophet\n  prophet:\n    trend: true"
    assert open_project(folder).settings.timing_model.algorithm == "prophet"


def test_a_stream_with_settings_of_its_own_gets_the_options_there(folder: Path) -> None:
    path = folder / "config" / "config.yaml"
    path.write_text(path.read_text().replace("streams: {}", "streams: {'news*': {retraining: {keep_versions: 3}}}"))
    project = open_project(folder).for_stream("news_1")
    options = baseline_options(folder, window=9)
    changes, _ = write_changes(project, runtime_of(project), "timing", "baseline", options)
    assert list(changes) == [("streams", "news_1", "timing_model", "baseline", "window")]
    settings = open_project(folder).settings
    assert settings.for_stream("news_1").timing_model.options("baseline") == {"window": 9}
    assert settings.for_stream("news_2").timing_model.options("baseline") == {}


def test_of_several_streams_only_the_tuned_one_changes(folder: Path) -> None:
    project = open_project(folder)
    for name in ("news", "garden"):
        project.posts.for_stream(name).add(regular_posts(3), NOW)
    write_changes(
        project.for_stream("news"), runtime_of(project), "timing", "baseline", baseline_options(folder, window=9)
    )
    settings = open_project(folder).settings
    assert settings.for_stream("news").timing_model.options("baseline") == {"window": 9}
    assert settings.for_stream("garden").timing_model.options("baseline") == {}


def test_options_that_would_be_merged_with_others_are_not_written(folder: Path) -> None:
    members: dict[str, object] = {"prophet": {}, "baseline": {}}
    path = folder / "config" / "config.yaml"
    own = {"n*": {"timing_model": {"algorithm": "ensemble", "ensemble": {"members": members}}}}
    path.write_text(path.read_text().replace("streams: {}", f"streams: {own}"))
    before = text_of(folder)
    project = open_project(folder).for_stream("news")
    algorithm = runtime_of(project).algorithms("ensemble", "timing")
    other = algorithm.options({"members": {"neural_tpp": {}, "baseline": {}}}, "timing").model_dump(mode="json")
    with pytest.raises(ConfigError, match="they would be merged with others of the stream 'news'"):
        write_changes(project, runtime_of(project), "timing", "ensemble", other)
    assert text_of(folder) == before


def test_a_variable_that_overrides_what_is_written_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = open_project(folder)
    with monkeypatch.context() as patch:
        patch.setenv("RETRAINER_TIMING_MODEL__BASELINE__WINDOW", "3")
        _, variables = write_changes(
            project, runtime_of(project), "timing", "baseline", baseline_options(folder, window=9)
        )
    assert variables == ["RETRAINER_TIMING_MODEL__BASELINE__WINDOW"]


@pytest.mark.parametrize("value", [1e-05, 0.1, 1e20, 5.0, -2.5e-12])
def test_a_number_is_read_back_as_it_was(value: float, tmp_path: Path) -> None:
    changed = change_key("a: 1  # one\n", ("b", "c"), yaml.safe_dump(value), tmp_path)
    assert changed.startswith("a: 1  # one\n")
    assert yaml.safe_load(changed)["b"]["c"] == value
