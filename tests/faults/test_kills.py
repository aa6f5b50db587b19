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
    """Every second kill is aimed at a change of a file, on PostgreSQL at a statement; the others at any moment."""
    choose = random.Random(f"{SEED} {projects.server is None}")  # noqa: S311
    names = choose.sample(COMMANDS, len(COMMANDS))
    report = tmp_path / "report"

    def aimed(number: int, action: Action = Action.KILL) -> FileFault | StatementFault:
        if projects.server is None:
            return FileFault(action, number, tmp_path / "case", report)
        return StatementFault(number, report)

    @cache
    def measure(name: str) -> tuple[float, int]:
        """Return the seconds that a command takes, and its changes of files or its statements to a server."""
        counted = aimed(0, Action.COUNT)
        done, _ = survive(projects, tmp_path, name, counted)
        return done.seconds, counted.count

    killed = attempts = 0
    while killed < kills:
        assert attempts < 4 * kills + 20, f"{killed} were killed while they were running"
        name = names[attempts // 2 % len(names)]
        seconds, operations = measure(name)
        if attempts % 2 == 0 or not operations:  # `init` needs no server
            done, _ = survive(projects, tmp_path, name, kill_after=choose.uniform(0, seconds))
        else:
            done, _ = survive(projects, tmp_path, name, aimed(choose.randint(1, operations)))
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
