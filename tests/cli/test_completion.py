"""What the shell completes, and what is suggested for an unknown command."""

from __future__ import annotations

import os
import pty
import re
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import open_project

if TYPE_CHECKING:
    from tests.command_line import Runner


def complete(retrainer: Runner, line: str, cwd: Path | None = None) -> list[str]:
    """Return what bash offers for the last word of a command line."""
    words = [part for word in line.split(" ") for part in re.split(r"([@:=]+)", word) if part or not word]  # as bash
    done = retrainer(
        cwd=cwd, _RETRAINER_COMPLETE="complete_bash", COMP_WORDS="\n".join(words), COMP_CWORD=str(len(words) - 1)
    )
    assert not done.err
    return done.out.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("retrainer predict ", ["timing", "content"]),
        ("retrainer versions --type c", ["content"]),
        ("retrainer train --algorithm base", ["baseline"]),
        ("retrainer evaluate timing@p", ["@production", "@previous"]),
        ("retrainer rollback timing --to timing@l", ["@latest"]),
        ("retrainer versions --type=c", ["content"]),
        ("retrainer replay --policy daily:sched", ["schedule_days="]),
        ("retrainer replay --policy daily:schedule_days=1,min_c", ["1,min_confidence="]),
        ("retrainer replay content --policy x:max_", ["max_cost_increase="]),
        ("retrainer tune timing --metric c", ["crps"]),
        ("retrainer tune timing --algorithm ensem", ["ensemble"]),
        ("retrainer promote @production --rea", ["--reason"]),
        ("retrainer predict timing --at 2024-10-30T12:00 --inter", ["--interval"]),
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "completed"), [("timing@pro", "timing@production"), ("daily:sched", "daily:schedule_days=")]
)
def test_bash_completes_names_that_it_splits(typed: str, completed: str, trained: str, folder: Path) -> None:
    bin_folder = Path(sys.executable).parent
    process, terminal = pty.fork()
    if not process:
        os.chdir(folder)
        environ = {**os.environ, "TERM": "dumb", "PATH": f"{bin_folder}:{os.environ['PATH']}"}
        os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"], environ)  # noqa: S606  no shell
    command = "evaluate" if "@" in typed else "replay --policy"
    os.write(terminal, b"PS1=; bind 'set enable-bracketed-paste off'; source <(retrainer --show-completion bash)\n")
    os.write(
        terminal, f"retrainer {command} {typed}\t#\x01echo completed: \n".encode()
    )  # \x01 goes to the line's start
    os.write(terminal, b"exit\n")
    shown = b""
    try:
        while part := os.read(terminal, 65536):
            shown += part
    except OSError:  # bash ended
        pass
    os.close(terminal)
    os.waitpid(process, 0)
    assert f"\ncompleted: retrainer {command} {completed}" in shown.decode().replace("\r", "")


def test_completion_changes_no_database(trained: str, folder: Path, retrainer: Runner) -> None:
    database = folder / "data" / "retrainer.db"
    with closing(sqlite3.connect(database)) as connection:  # the schema of an earlier release
        connection.execute("ALTER TABLE retrainer_training_runs DROP COLUMN project_folder")
        connection.execute("UPDATE retrainer_alembic_version SET version_num = '0011'")
        connection.commit()
    content = database.read_bytes()
    assert complete(retrainer, "retrainer promote baseline_t") == [trained]
    assert database.read_bytes() == content
    database.unlink()
    shutil.rmtree(folder / "models")
    assert complete(retrainer, "retrainer promote baseline_t") == []
    assert not database.exists()


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
