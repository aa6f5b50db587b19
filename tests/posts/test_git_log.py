"""The output of `git log`, as git of this machine writes it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from retrainer.posts.git_log import is_git_log, parse_git_log

if TYPE_CHECKING:
    from pathlib import Path

COMMITS = [
    ("2024-03-05T09:30:00+0100", "Second: 1,2 | 3\n\n  - with a list\n\nand commit deadbeef"),
    ("2024-03-04T10:00:00+0000", "First"),
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    for date, message in reversed(COMMITS):
        options = ["-c", "user.name=A, B", "-c", "user.email=a@b.example"]
        command = ["git", *options, "commit", "-q", "--allow-empty", "--date", date, "-m", message]
        subprocess.run(command, cwd=folder, check=True)
    return folder


def log(repository: Path, *options: str) -> list[str]:
    command = ["git", "log", *options]
    return subprocess.run(command, cwd=repository, capture_output=True, check=True, text=True).stdout.splitlines(True)


@pytest.mark.parametrize(
    ("options", "dates"),
    [
        ([], ["Tue Mar 5 09:30:00 2024 +0100", "Mon Mar 4 10:00:00 2024 +0000"]),
        (["--decorate=full", "--stat", "--date=iso"], ["2024-03-05 09:30:00 +0100", "2024-03-04 10:00:00 +0000"]),
        (["--graph"], ["Tue Mar 5 09:30:00 2024 +0100", "Mon Mar 4 10:00:00 2024 +0000"]),
        (["--format=fuller"], ["Tue Mar 5 09:30:00 2024 +0100", "Mon Mar 4 10:00:00 2024 +0000"]),
        (["--format=raw"], ["1709627400", "1709546400"]),
    ],
)
def test_whole_messages_are_read(options: list[str], dates: list[str], repository: Path) -> None:
    lines = log(repository, *options)
    assert is_git_log("".join(lines))
    commits = [commit for _, commit in parse_git_log(lines)]
    assert [commit["message"] for commit in commits] == [message for _, message in COMMITS]
    assert [commit["date"] for commit in commits] == dates
    assert [len(commit["commit"]) for commit in commits] == [40, 40]
    assert {commit["author"] for commit in commits} == {"A, B <a@b.example>"}


@pytest.mark.parametrize(
    "template",
    [
        "%H|%an|%ad|%s",
        "%h %ad %s",
        "%H%x09%aI%x09%s",
        "%h - %an, %ad : %s",
        "%H;%s;%at",
        "%h,%ae,%ai,%s",
        '"%h","%an","%aD","%s"',
    ],
)
def test_one_line_a_commit_is_read(template: str, repository: Path) -> None:
    lines = log(repository, f"--pretty=format:{template}")
    commits = list(parse_git_log(lines))
    assert [(number, commit["message"]) for number, commit in commits] == [(1, "Second: 1,2 | 3"), (2, "First")]
    assert all(commit["date"].startswith(("2024-03-0", "Tue", "Mon", "1709")) for _, commit in commits)


def test_a_table_is_no_git_log() -> None:
    assert not is_git_log("id,created_at,text\n1234567,2024-01-05 10:00,a\n")
    assert not is_git_log("1234567,2024-01-05 10:00,a\n2345678,2024-01-06 10:00,b\n")
    assert not is_git_log("commit,date\n")
    assert not is_git_log("")
