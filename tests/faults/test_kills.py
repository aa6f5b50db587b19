"""A command that is killed at any moment loses nothing that was reported as done."""

from __future__ import annotations

import random
import signal
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.faults.injection import Action, FileFault, StatementFault
from tests.faults.survival import COMMANDS, survive

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.conftest import Projects

SEED = 20240601


@pytest.mark.usefixtures("needs_compiler")
@pytest.mark.parametrize("kills", [pytest.param(25, marks=pytest.mark.slow), pytest.param(250, marks=pytest.mark.soak)])
def test_a_command_that_is_killed_at_any_moment(projects: Projects, tmp_path: Path, kills: int) -> None:
    """Every second kill is aimed at a change of a file, or on PostgreSQL at a statement; the others at any moment."""
    choose = random.Random(SEED)  # noqa: S311
    report = tmp_path / "report"

    def files(number: int, action: Action = Action.KILL) -> FileFault:
        return FileFault(action, number, tmp_path / "case", report)

    @cache
    def measure(name: str) -> tuple[float, int, int]:
        """Return the seconds that a command takes, its changes of files, and its statements to a server."""
        counted = files(0, Action.COUNT)
        done, _ = survive(projects, tmp_path, name, counted)
        changes = counted.count
        if projects.server is None:
            return done.seconds, changes, 0
        statements = StatementFault(0, report)
        survive(projects, tmp_path, name, statements)
        return done.seconds, changes, statements.count

    killed = attempts = 0
    while killed < kills:
        assert attempts < 4 * kills + 20, f"{killed} were killed while they were running"
        name = COMMANDS[attempts // 2 % len(COMMANDS)]
        seconds, changes, statements = measure(name)
        if attempts % 2 == 0:
            done, _ = survive(projects, tmp_path, name, kill_after=choose.uniform(0, seconds))
        else:
            number = choose.randint(1, changes + statements)
            fault = files(number) if number <= changes else StatementFault(number - changes, report)
            done, _ = survive(projects, tmp_path, name, fault)
        killed += done.code == -signal.SIGKILL
        attempts += 1


@pytest.mark.slow
def test_a_kill_between_a_decision_and_its_promotion(postgresql_projects: Projects, tmp_path: Path) -> None:
    """Five kills, each at a statement of the command that decides an A/B test: it is done, or nothing is."""
    report = tmp_path / "report"
    counted = StatementFault(0, report)
    done, _ = survive(postgresql_projects, tmp_path, "ab status", counted)
    assert done.code == 0
    for number in random.Random(SEED).sample(range(1, counted.count + 1), 5):  # noqa: S311
        done, _ = survive(postgresql_projects, tmp_path, "ab status", StatementFault(number, report))
        assert done.code == -signal.SIGKILL
