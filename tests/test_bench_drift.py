"""The benchmark of drift changes streams as it says, and counts alarms before a change as false."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks import drift
from benchmarks.drift import CHANGED, DAY, QUIET_DAYS, STATIONARY, Stream, Tally, reorder, simulate

if TYPE_CHECKING:
    from pathlib import Path

TWICE, HALF, MOVED = CHANGED
WEEKS = 104


def regular() -> Stream:
    """Ten posts on each Tuesday at ten, and one at noon on every other day."""
    tuesday = [(day, 10) for day in range(1, WEEKS * 7, 7) for _ in range(10)]
    others = [(day, 12) for day in range(WEEKS * 7 + 1) if day % 7 != 1]  # the last one ends the last week
    times = np.array([drift.MONDAY + day * DAY + hour * DAY // 24 for day, hour in sorted(tuesday + others)])
    return Stream(times, np.arange(len(times), dtype=np.float64))


@pytest.mark.parametrize("unit", ["days", "weeks"])
def test_days_keep_their_weekday(unit: str) -> None:
    found = reorder(regular(), unit, STATIONARY[0], np.random.default_rng(1))
    assert np.array_equal(found.times, regular().times[:-1]), "all Tuesdays are alike"
    assert sorted(found.lengths) == sorted(regular().lengths[:-1]), "their posts are not"
    assert not np.array_equal(found.lengths, regular().lengths[:-1])


def test_the_change_comes_after_the_quiet_days() -> None:
    change = drift.MONDAY + (WEEKS // 2 * 7 + QUIET_DAYS) * DAY
    usual = regular().times[:-1]
    later = (usual >= change).sum()
    for scenario, factor in ((TWICE, 2.0), (HALF, 0.5), (MOVED, 1.0)):
        found = reorder(regular(), "days", scenario, np.random.default_rng(1)).times
        assert np.array_equal(found[found < change], usual[usual < change])
        assert (found >= change).sum() == pytest.approx(factor * later, rel=0.15)
        assert (np.diff(found) >= 0).all()
    assert set((found[found >= change] % DAY * 24 // DAY).tolist()) == {16, 18}


def test_a_simulated_stream_is_the_same_up_to_the_change() -> None:
    change = drift.MONDAY + (drift.TRAINING_DAYS + QUIET_DAYS) * DAY
    usual, later = (simulate(5.0, "independent", one, np.random.default_rng(1)).times for one in (STATIONARY[0], MOVED))
    assert np.array_equal(usual[usual < change], later[later < change])
    assert len(usual) == len(later)


def test_an_alarm_before_the_change_is_false() -> None:
    tally = Tally()
    for alarm in (None, 50, 120, 199):
        tally.add(alarm, 100, 200)
    assert (tally.false_alarms, tally.quiet_days, tally.streams, tally.delays) == (
        1,
        100 + 51 + 100 + 100,
        3,
        [21, 100],
    )
    tally.add(150, None, 200)
    assert (tally.false_alarms, tally.quiet_days, tally.streams) == (2, 502, 3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of river
def test_all_detectors_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("river", reason="river is installed by `make bench-drift` alone")
    monkeypatch.setattr(drift, "RATES", (5.0,))
    path = tmp_path / "drift.json"
    drift.main(["--streams", "1", "--orders", "1", "--data", str(tmp_path / "none"), "--json", str(path)])
    out = capsys.readouterr().out
    found = json.loads(path.read_text())
    assert [one["stream"] for one in found["as they are"]] == ["(synthetic sample)"]
    for detector in drift.DETECTORS:
        assert f"| {detector} | " in out
        for streams in ("simulated", "days", "weeks"):
            assert set(found[streams][detector]) == {scenario.name for scenario in (*STATIONARY, *CHANGED)}
