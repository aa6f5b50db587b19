"""What other packages offer: looked up once, and again where the packages change."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from retrainer.entry_points import ALGORITHMS, find_entry_points, installed_algorithms
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from tests.plugins_for_tests import Plugins


def test_the_packages_are_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = find_entry_points(ALGORITHMS)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: pytest.fail("looked through again"))
    assert find_entry_points(ALGORITHMS) is before


def test_what_is_installed_or_removed_meanwhile_is_seen(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(plugins.site)
    assert "late" not in installed_algorithms()
    plugins.add("late", timing_algorithm("late", 1.0))
    assert "late" in installed_algorithms()
    assert [offer.origin for offer in find_entry_points(ALGORITHMS) if offer.name == "late"] == ["retrainer-late 1.0"]
    for path in plugins.site.glob("*.dist-info"):
        shutil.rmtree(path)
    assert "late" not in installed_algorithms()
