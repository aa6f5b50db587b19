"""A disk that fails in a command: whichever change of a file it is, nothing is lost."""

from __future__ import annotations

import random
from itertools import cycle
from typing import TYPE_CHECKING

import pytest

from tests.faults.injection import Action, FileFault
from tests.faults.project import environ_of, run_as_worker
from tests.faults.survival import COMMANDS, survive

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.conftest import Projects

SEED = 20240601

pytestmark = pytest.mark.usefixtures("needs_compiler")


def fail_once(projects: Projects, place: Path, name: str, action: Action, number: int) -> bool:
    """Let a change of a file fail; return whether the command has as many."""
    return bool(survive(projects, place, name, FileFault(action, number, place / "case", place / "report"))[1])


def test_an_init_without_space_leaves_no_half_configuration(projects: Projects, tmp_path: Path) -> None:
    assert fail_once(projects, tmp_path, "init", Action.FULL, 5)


@pytest.mark.slow
def test_looking_works_on_a_full_disk(projects: Projects, tmp_path: Path) -> None:
    commands = ["history", "show @production", "versions", "production", "predict timing", "posts count", "doctor"]
    with projects.copied("looking", tmp_path / "case/project") as folder:
        for command in commands:
            fault = FileFault(Action.FULL, 1, folder, tmp_path / "report")
            done = run_as_worker(folder, *command.split(), env=environ_of(projects.plugins), fault=fault)
            assert done.code == 0, (command, done, fault.what)


ACTIONS = [Action.KILL, Action.FULL, Action.IO_ERROR]


@pytest.mark.parametrize(
    ("step", "actions"),
    [
        pytest.param(7, ACTIONS, marks=pytest.mark.slow, id="in turn"),
        *(pytest.param(1, [action], marks=pytest.mark.soak, id=action.name) for action in ACTIONS),
    ],
)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_fails_at_any_moment(
    projects: Projects, tmp_path: Path, name: str, step: int, actions: list[Action]
) -> None:
    """Every seventh change fails, each in another way than the one before; in a soak every one, in every way."""
    if "backup" in name or name == "fetch":
        step *= 10  # they write most of a database, page by page
    if name.startswith("ab "):
        step *= 3
    counted = FileFault(Action.COUNT, 0, tmp_path / "case", tmp_path / "report")
    survive(projects, tmp_path, name, counted)
    first = min(step, counted.count // 2 + 1)  # the count differs a little from run to run
    number = random.Random(f"{SEED} {name} {projects.server is None}").randint(1, first)  # noqa: S311
    ways = cycle(actions)
    is_hit = fail_once(projects, tmp_path, name, next(ways), number)
    assert is_hit or not counted.count
    while is_hit:
        number += step
        is_hit = fail_once(projects, tmp_path, name, next(ways), number)
