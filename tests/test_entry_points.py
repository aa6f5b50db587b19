"""Entry points are cached until the installed packages change."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from retrainer.entry_points import ALGORITHMS, find_entry_points, installed_algorithms
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from tests.plugins_for_tests import Plugins


def test_entry_points_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    before = find_entry_points(ALGORITHMS)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: pytest.fail("looked through again"))
    assert find_entry_points(ALGORITHMS) is before


def test_installed_and_removed_packages_are_noticed(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(plugins.site)
    assert "late" not in installed_algorithms()
    plugins.add("late", timing_algorithm("late", 1.0))
    assert "late" in installed_algorithms()
    assert [offer.origin for offer in find_entry_points(ALGORITHMS) if offer.name == "late"] == ["retrainer-late 1.0"]
    for path in plugins.site.glob("*.dist-info"):
        shutil.rmtree(path)
    assert "late" not in installed_algorithms()
