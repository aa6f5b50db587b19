"""A PostgreSQL server that terminates the connections of a command: whichever statement it is at, nothing is lost."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.faults.injection import StatementFault
from tests.faults.project import CHANGES
from tests.faults.survival import survive

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.conftest import Projects
    from tests.faults.project import TimedResult

SEED = 20240601


def terminate_once(projects: Projects, place: Path, name: str, number: int) -> tuple[TimedResult, str]:
    """Terminate the connections before a statement; return the result, and the statement if there are as many."""
    return survive(projects, place, name, StatementFault(number, place / "report", terminates=True))


@pytest.mark.slow
def test_a_terminated_connection_is_one_clear_line(postgresql_projects: Projects, tmp_path: Path) -> None:
    done, statement = terminate_once(postgresql_projects, tmp_path, "promote", 12)
    assert statement
    assert done.err.endswith(" closed the connection. Run the command again\n")


@pytest.mark.parametrize("step", [pytest.param(20, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", [*CHANGES, "migrate"])
def test_connections_that_are_terminated_at_any_moment(
    postgresql_projects: Projects, tmp_path: Path, name: str, step: int
) -> None:
    number = random.Random(f"{SEED} {name}").randint(1, step)  # noqa: S311
    assert terminate_once(postgresql_projects, tmp_path, name, number)[1]
    while terminate_once(postgresql_projects, tmp_path, name, number := number + step)[1]:
        pass
