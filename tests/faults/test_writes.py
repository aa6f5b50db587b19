"""A disk that fails in a command: whichever change of a file it is, nothing is lost."""

from __future__ import annotations

import random
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
@pytest.mark.parametrize(
    "command", ["history", "show @production", "versions", "production", "predict timing", "posts count", "doctor"]
)
def test_looking_works_on_a_full_disk(projects: Projects, tmp_path: Path, command: str) -> None:
    with projects.copied(command, tmp_path / "case/project") as folder:
        fault = FileFault(Action.FULL, 1, folder, tmp_path / "report")
        done = run_as_worker(folder, *command.split(), env=environ_of(projects.plugins), fault=fault)
        assert done.code == 0, (done, fault.what)


@pytest.mark.parametrize("step", [pytest.param(10, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("action", [Action.FULL, Action.IO_ERROR, Action.KILL], ids=lambda action: action.name)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_fails_at_any_moment(
    projects: Projects, tmp_path: Path, name: str, action: Action, step: int
) -> None:
    if "backup" in name or name == "fetch":
        step *= 10  # they write most of a database, page by page
    if name.startswith("ab "):
        step *= 3
    number = random.Random(f"{SEED} {name} {action}").randint(1, step)  # noqa: S311
    while fail_once(projects, tmp_path, name, action, number):
        number += step
