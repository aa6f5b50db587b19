"""A decision of a replay is reviewed on later posts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.conftest import NOW, configure, open_project
from tests.plugins_for_tests import timing_algorithm
from tests.replay.conftest import (
    replayed,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.plugins_for_tests import Plugins


# Accurate, then far off if trained on 221 to 259 posts, then accurate again.
DRIFTING = timing_algorithm("drifting", "40.0 if 220 < len(posts) < 260 else 5.0")


@pytest.mark.slow
def test_a_decision_is_wrong_if_later_posts_clearly_contradict_it(
    folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new version is far off, and `always` promotes it: the later review says so."""
    from tests.conftest import regular_posts

    plugins.add("right", timing_algorithm("right", 5.0))
    plugins.add("drifting", DRIFTING)
    monkeypatch.syspath_prepend(str(plugins.site))
    project = open_project(folder)
    project.posts.add(regular_posts(400), NOW)
    report = replayed(
        open_project(folder, {"RETRAINER_TIMING_MODEL__ALGORITHM": "drifting"}),
        start=NOW - timedelta(days=28),
        end=NOW - timedelta(hours=1),
    )
    always, configured = report.policy("always"), report.policy("configured")
    assert [record.later_look for record in always.steps] == [None, "wrong", "stands", "stands"]
    assert always.reversed_promotions == 1
    assert configured.reversed_promotions == 0
    assert (configured.promotions, configured.missed) == (1, 0)
    assert report.best == "configured"
    assert "'configured' and 'never' forecast best" in report.conclusion
    assert report.conclusion.endswith("that is more than noise.")


@pytest.mark.slow
def test_always_says_why_a_version_that_cannot_be_fitted_again_is_not_promoted(
    folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.conftest import regular_posts

    plugins.add("tight", timing_algorithm("tight", "1 / 0 if len(posts) > 280 else 40.0 if len(posts) > 220 else 5.0"))
    monkeypatch.syspath_prepend(str(plugins.site))
    configure(folder, refit="true")
    open_project(folder).posts.add(regular_posts(400), NOW)
    report = replayed(
        open_project(folder, {"RETRAINER_TIMING_MODEL__ALGORITHM": "tight"}),
        start=NOW - timedelta(days=28),
        end=NOW - timedelta(days=15),
    )
    reason = report.policy("always").steps[1].reason
    assert "This policy promotes every version, but: the plugin 'tight': its hook train failed: Zero" in reason


SPARSE = timing_algorithm("sparse", "400.0 if 220 < len(posts) < 260 else 55.0")


@pytest.mark.slow
def test_a_decision_is_reviewed_on_posts_of_later_steps_if_its_own_are_few(
    folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With three posts a week, a decision is reviewed on those of three to four weeks; the last three cannot be."""
    from tests.conftest import regular_posts

    plugins.add("sparse", SPARSE)
    monkeypatch.syspath_prepend(str(plugins.site))
    project = open_project(folder)
    project.posts.add(regular_posts(400, gap_hours=55), NOW)
    report = replayed(
        open_project(folder, {"RETRAINER_TIMING_MODEL__ALGORITHM": "sparse"}),
        start=NOW - timedelta(hours=55 * 126),  # the first version is trained on 220 posts, the second on 222
        end=NOW - timedelta(hours=55 * 126) + timedelta(days=56),
    )
    always = report.policy("always")
    assert [record.later_look for record in always.steps] == [
        None,
        *["wrong"],
        *["stands"] * 3,
        *["not enough posts"] * 3,
    ]
    assert (always.decisions, always.looked_at, always.reversed_promotions) == (7, 4, 1)
    assert all(len(record.rows) <= 4 for record in always.steps)


# Cannot forecast long after its training posts.
TIRING = timing_algorithm(
    "tiring",
    "[5.0, len(posts)]",
    predict="if posts.shape[0] > model['hours'][1] * 1.25 + 50: raise ValueError('too tired')",
    wait="model['hours'][0]",
)


def test_a_decision_is_not_reviewed_if_the_loser_cannot_forecast(
    folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.conftest import regular_posts

    plugins.add("tiring", TIRING)
    monkeypatch.syspath_prepend(str(plugins.site))
    project = open_project(folder)
    project.posts.add(regular_posts(400), NOW)
    report = replayed(
        open_project(folder, {"RETRAINER_TIMING_MODEL__ALGORITHM": "tiring"}),
        start=NOW - timedelta(days=28),
        end=NOW - timedelta(hours=1),
    )
    always = report.policy("always")
    assert [record.later_look for record in always.steps] == [None, *["cannot forecast"] * 3]
    assert (always.failures, always.decisions, always.looked_at) == (0, 3, 0)
