"""The trials of a study as a queue of several processes and threads."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from retrainer.tuning.queue import TrialQueue
from retrainer.tuning.storage import close_storage, open_storage
from retrainer.tuning.study import OpenStudy, load_study
from tests.tuning.conftest import tuned

if TYPE_CHECKING:
    from retrainer.project import Project

TRIALS, WORKERS = 30, 4


@pytest.fixture
def study_name(five_hours: Project) -> str:
    """A study with two trials, which ended."""
    return tuned(five_hours, trials=2).report.summary.name


def open_study(project: Project, name: str) -> OpenStudy:
    return load_study(open_storage(project), name)


@pytest.mark.slow  # 28 claims, of four threads that wait for each other
def test_no_trial_is_claimed_twice_and_no_more_are_made_than_wanted(five_hours: Project, study_name: str) -> None:
    study = open_study(five_hours, study_name)
    for _ in range(TRIALS - 10):
        study.optuna.enqueue_trial({})
    start = threading.Barrier(WORKERS)
    claimed: list[int] = []

    def work() -> None:
        own = open_study(five_hours, study_name)
        queue = TrialQueue(own, TRIALS)
        start.wait()
        while (trial := queue.claim()) is not None:
            claimed.append(trial.number)
        close_storage(own.storage)

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(claimed) == Counter(range(2, TRIALS))
    close_storage(study.storage)


def test_a_result_that_comes_after_its_trial_was_given_away_is_dropped(five_hours: Project, study_name: str) -> None:
    slow, other = (TrialQueue(open_study(five_hours, study_name), 3) for _ in range(2))
    trial = slow.claim()
    assert trial is not None
    slow.release(trial)  # as if its process had been silent for too long
    again = other.claim()
    assert again is not None
    assert again.number == trial.number
    assert not slow.complete(trial, [0.1])
    assert other.complete(again, [0.2])
    assert other.read(again).values == [0.2]
    assert other.is_finished()


def test_one_process_ends_a_study(five_hours: Project, study_name: str) -> None:
    queues = [TrialQueue(open_study(five_hours, study_name), 2) for _ in range(2)]
    ended: list[int] = []

    def work(number: int) -> None:
        with queues[number].finalize(lambda: bool(ended)) as is_ours:
            if is_ours:
                ended.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 1
