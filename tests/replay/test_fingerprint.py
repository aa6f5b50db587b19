"""The code of a plugin as a hash."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.algorithms import hookimpl
from retrainer.algorithms.events import observed_by
from retrainer.algorithms.manager import find_algorithm
from retrainer.replay.fingerprint import fingerprint
from tests.conftest import constant_timing

if TYPE_CHECKING:
    from collections.abc import Generator

    import pytest

    from tests.conftest import Plugins


def test_a_module_alone_is_known_by_its_file(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.add("lonely", constant_timing("lonely", 5.0))
    monkeypatch.syspath_prepend(str(plugins.site))
    first = fingerprint(find_algorithm("lonely"))
    (plugins.site / "another.txt").write_text("none of its files")
    assert fingerprint(find_algorithm("lonely")) == first
    (plugins.site / "retrainer_lonely_module.py").write_text("# edited")
    assert fingerprint(find_algorithm("lonely")) != first


def test_a_package_is_known_by_all_of_its_files(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = plugins.site / "package_of_deep" / "inner"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "__init__.py").touch()
    plugins.add("deep", constant_timing("deep", 5.0))
    (plugins.site / "retrainer_deep_module.py").rename(inner / "code.py")
    entry_points = plugins.site / "retrainer_deep-1.0.dist-info" / "entry_points.txt"
    entry_points.write_text("[retrainer.algorithms]\ndeep = package_of_deep.inner.code\n")
    monkeypatch.syspath_prepend(str(plugins.site))
    first = fingerprint(find_algorithm("deep"))
    assert fingerprint(find_algorithm("deep")) == first
    (inner.parent / "weights.json").write_text("[1, 2]")
    assert fingerprint(find_algorithm("deep")) != first


def test_an_observer_counts_only_where_it_may_change_an_answer(
    plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.add("lonely", constant_timing("lonely", 5.0))
    monkeypatch.syspath_prepend(str(plugins.site))
    alone = fingerprint(find_algorithm("lonely"))

    class Hearing:
        @hookimpl
        def on_event(self, event: object) -> None: ...

    class Wrapping:
        @hookimpl(wrapper=True)
        def predict(self) -> Generator[None, object, object]:
            return (yield)

    with observed_by("hearing", Hearing()):
        assert fingerprint(find_algorithm("lonely")) == alone
    with observed_by("wrapping", Wrapping()):
        assert fingerprint(find_algorithm("lonely")) != alone


def test_a_module_that_cannot_be_read_leaves_the_version_to_tell(
    plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.add("fleeting", constant_timing("fleeting", 5.0))
    monkeypatch.syspath_prepend(str(plugins.site))
    found = find_algorithm("fleeting")
    (plugins.site / "retrainer_fleeting_module.py").unlink()
    assert fingerprint(found)
