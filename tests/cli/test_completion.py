"""What the shell completes, and what is suggested for an unknown command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import open_project

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Runner


def complete(retrainer: Runner, line: str, cwd: Path | None = None) -> list[str]:
    """Return what bash offers for the last word of a command line."""
    words = line.split(" ")
    done = retrainer(
        cwd=cwd, _RETRAINER_COMPLETE="complete_bash", COMP_WORDS=line.rstrip(), COMP_CWORD=str(len(words) - 1)
    )
    assert not done.err
    return done.out.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("retrainer predict ", ["timing", "content"]),
        ("retrainer versions --type c", ["content"]),
        ("retrainer train --algorithm base", ["baseline"]),
        ("retrainer evaluate timing@p", ["timing@production", "timing@previous"]),
        ("retrainer rollback timing --to timing@l", ["timing@latest"]),
        ("retrainer replay --policy daily:sched", ["daily:schedule_days="]),
        ("retrainer replay content --policy x:max_", ["x:max_cost_increase="]),
    ],
)
def test_the_shell_completes_names(line: str, offered: list[str], trained: str, retrainer: Runner) -> None:
    assert complete(retrainer, line) == offered


def test_the_shell_completes_versions_and_runs(trained: str, folder: Path, retrainer: Runner) -> None:
    project = open_project(folder)
    runs = [run.run_id for run in project.registry.list_runs()]
    for command in ("promote", "pin", "export", "compare x"):
        assert complete(retrainer, f"retrainer {command} baseline_ti") == [trained]
    assert complete(retrainer, "retrainer show run_2") == runs


def test_without_a_project_nothing_is_completed_and_nothing_made(tmp_path: Path, retrainer: Runner) -> None:
    assert complete(retrainer, "retrainer show base", cwd=tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("run", "Did you mean 'train'?"),
        ("runs", "Did you mean 'history'?"),
        ("rollbak", "Did you mean 'rollback'?"),
        ("prun", ""),
        ("restore-backup-x", "Did you mean 'restore'?"),
        ("posts delet", ""),
        ("posts cuont", "Did you mean 'count'?"),
    ],
)
def test_an_unknown_command_suggests_one_that_deletes_nothing(
    words: str, hint: str, retrainer: Runner, tmp_path: Path
) -> None:
    done = retrainer(*words.split(), cwd=tmp_path)
    assert done.code == 2
    assert done.err.partition(" `")[0] == f"Error: unknown command '{words.rsplit(maxsplit=1)[-1]}'. {hint}".strip()
