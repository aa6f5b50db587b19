"""The fingerprint of a plugin changes with its code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.algorithms.fingerprint import fingerprint
from retrainer.algorithms.manager import load_algorithm
from retrainer.replay.cached_algorithm import AlgorithmCache
from retrainer.replay.sandbox import PostHistory
from retrainer.replay.store import ReplayStore
from tests.conftest import regular_posts
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.plugins_for_tests import Plugins


def test_a_single_module_is_identified_by_its_file(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.add("lonely", timing_algorithm("lonely", 5.0))
    monkeypatch.syspath_prepend(str(plugins.site))
    first = fingerprint(load_algorithm("lonely"))
    (plugins.site / "another.txt").write_text("none of its files")
    assert fingerprint(load_algorithm("lonely")) == first
    (plugins.site / "retrainer_lonely_module.py").write_text("# edited")
    assert fingerprint(load_algorithm("lonely")) != first


def test_a_package_is_identified_by_all_of_its_files(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = plugins.site / "package_of_deep" / "inner"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "__init__.py").touch()
    plugins.add("deep", timing_algorithm("deep", 5.0))
    (plugins.site / "retrainer_deep_module.py").rename(inner / "code.py")
    entry_points = plugins.site / "retrainer_deep-1.0.dist-info" / "entry_points.txt"
    entry_points.write_text("[retrainer.algorithms]\ndeep = package_of_deep.inner.code\n")
    monkeypatch.syspath_prepend(str(plugins.site))
    first = fingerprint(load_algorithm("deep"))
    assert fingerprint(load_algorithm("deep")) == first
    (inner.parent / "weights.json").write_text("[1, 2]")
    assert fingerprint(load_algorithm("deep")) != first


def test_only_an_observer_that_wraps_hooks_changes_the_fingerprint(
    plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.add("lonely", timing_algorithm("lonely", 5.0))
    monkeypatch.syspath_prepend(str(plugins.site))
    alone = fingerprint(load_algorithm("lonely"))

    plugins.add_observer("listening", "@hookimpl\ndef on_event(event):\n    pass\n")
    assert fingerprint(load_algorithm("lonely")) == alone
    plugins.add_observer("wrapping", "@hookimpl(wrapper=True)\ndef predict():\n    return (yield)\n")
    assert fingerprint(load_algorithm("lonely")) != alone


def test_an_unreadable_module_is_identified_by_its_version(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.add("fleeting", timing_algorithm("fleeting", 5.0))
    monkeypatch.syspath_prepend(str(plugins.site))
    found = load_algorithm("fleeting")
    (plugins.site / "retrainer_fleeting_module.py").unlink()
    assert fingerprint(found)


def test_an_algorithm_is_identified_by_the_code_of_its_members_too(
    plugins: Plugins, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plugins.add("inner", timing_algorithm("inner", 5.0))
    monkeypatch.syspath_prepend(str(plugins.site))
    store = ReplayStore(tmp_path / "replay.db")

    def identity(*members: str) -> tuple[str, ...]:
        algorithms = AlgorithmCache(load_algorithm, store, PostHistory(regular_posts(5), "here"))
        ensemble = algorithms("ensemble")
        return ensemble.identity(ensemble.options({"members": dict.fromkeys(members)}, "timing"), "timing")

    first, other = identity("inner", "baseline"), identity("prophet", "baseline")
    with (plugins.site / "retrainer_inner_module.py").open("a") as file:
        file.write("# edited\n")
    assert identity("inner", "baseline") != first
    assert identity("prophet", "baseline") == other
    store.close()
