"""Every command's screen at 80, 100 and 120 columns, as stored in the folders of these names.

After a change, look at the new screens: `make screens` stores them, and `git diff` shows what changed.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.main import get_group

from retrainer.cli import app as program
from tests.command_line import run_in_process
from tests.conftest import configure
from tests.screens.terminal import fixed_world, make_project, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Prepare

WIDTHS = (80, 100, 120)

# The command lines whose screens are stored. Each command needs one at least.
READING = (
    "status",
    "history",
    "history --type timing --not-promoted",
    "versions",
    "streams",
    "production",
    "show timing@production",
    "show content@production",
    "show timing@latest",
    "show f3d2",
    "evaluate timing@production",
    "evaluate content@production",
    "explain timing@production --posts 10",
    "compare timing@previous timing@production",
    "predict timing",
    "predict timing --until 2d --next 3",
    "predict content",
    "ab status",
    "plugins",
    "prune --dry-run",
    "doctor",
    "posts count",
    "posts list --limit 5",
    "posts show sample-000399",
    "config show",
    "config get retraining.test_split",
    "config check",
    "notify-test",
    "schedule show",
)
TUNE = "tune timing --algorithm baseline --trials 6 --metric crps"
REPLAY = "replay --from 2024-10-01 --policy monthly:schedule_days=30"
CHANGING = (
    "live timing",
    "train",
    "train --dry-run",
    TUNE,
    "tune --show",
    REPLAY,
    "promote timing@latest",
    "rollback timing",
    "ab start timing timing@latest --share 20",
    "ab stop timing --keep",
    "hold timing",
    "release content",
    "pin timing@production",
    "unpin timing@latest",
    "restore bf31",
    "prune --yes",
    "report --type timing",
    "backup project.backup",
    "restore-backup project.backup --replace --yes",
    "export timing@production model.zip",
    "import model.zip",
    "plugins new last_gap",
    "init new",
    "posts sample posts.csv",
    "posts import posts.csv",
    "posts fetch",
    "posts delete sample-000001 --yes",
    "config set retraining.min_new_posts 50",
    "db upgrade",
    "schedule install",
    "schedule remove",
)
OTHER = "--config other/config/config.yaml"  # another project
SOURCE = (
    """{type: sql, url: "sqlite:///data/retrainer.db", query: "SELECT post_id, created_at FROM posts", stream: notes}"""
)
BEFORE = {
    "tune --show": [TUNE],
    "ab stop timing --keep": ["ab start timing timing@latest"],
    "restore-backup project.backup --replace --yes": ["backup project.backup"],
    "import model.zip": [
        "init other",
        "posts sample posts.csv",
        f"{OTHER} posts import posts.csv",
        f"{OTHER} train timing --algorithm baseline",
        f"{OTHER} export timing@latest model.zip",
    ],
    "posts import posts.csv": ["posts sample posts.csv"],
    "posts fetch": [f"config set posts.sources.notes '{SOURCE}'"],
    "schedule remove": ["schedule install"],
}
NO_SCREEN = {"serve": "it prints log lines only"}


def commands() -> list[str]:
    """Return every command, with those of groups: `posts import`."""
    found = []
    for name, command in program.COMMANDS.items():
        module = import_module(f"retrainer.cli.{command.module}")
        loaded = get_group(module.app).commands[name]
        found += _leaves(name, loaded)
    return found


def _leaves(name: str, command: object) -> list[str]:
    inner = getattr(command, "commands", None)
    return [name] if inner is None else [leaf for word, one in inner.items() for leaf in _leaves(f"{name} {word}", one)]


def test_every_command_has_a_screen() -> None:
    lines = [*READING, *CHANGING]
    missing = [name for name in commands() if not any(f"{line} ".startswith(f"{name} ") for line in lines)]
    assert set(missing) == NO_SCREEN.keys(), "add a command line to READING or CHANGING, and run `make screens`"


@pytest.fixture
def folder(sqlite_folder: Path, prepare: Prepare, cron_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    configure(sqlite_folder, keep_versions="1")
    with fixed_world(monkeypatch):
        prepare(sqlite_folder, make_project)
    with fixed_world(monkeypatch):  # digits count from the start, whether the project was made or copied
        yield sqlite_folder


def test_a_narrow_terminal_keeps_the_table(folder: Path) -> None:
    screen = show(folder, "versions", 40)
    assert max(map(len, screen.splitlines())) <= 40
    cells = [re.split(r" {2,}", line)[0] for line in screen.splitlines()]
    assert {"ea13", "ccd6", "dc6e", "bf31", "a7cd", "b37f"} <= set(cells)


@pytest.mark.slow
@pytest.mark.parametrize("width", [40, 60, 78])
@pytest.mark.parametrize("model_type", ["timing", "content"])
def test_live_scores_fit_any_terminal(model_type: str, width: int, folder: Path) -> None:
    screen = show(folder, f"live {model_type}", width)
    assert "[exit code 0]" in screen
    assert max(map(len, screen.splitlines())) <= width


def test_in_a_pipe_a_table_is_whole(folder: Path) -> None:
    header, _, *rows = run_in_process(folder)("history", COLUMNS="80").out.splitlines()[1:]
    assert "Started (UTC)" in header
    assert "run_20241002_120000_a3e7  2024-10-02 12:00  timing   far_timing_20241002_120000_a7cd" in rows[6]
    assert rows[6].endswith("First timing model: there is no production version to compare with")


QUICK = {line.split()[0]: line for line in reversed(READING)}.values()  # the first one of each command or group
# Only the narrowest of these screens, where most breaks, is compared in the slow tests; the others are in a soak.
EXPENSIVE = ("train", TUNE, "tune --show", REPLAY, "report --type timing", "import model.zip")


def duration(line: str, columns: int) -> list[pytest.MarkDecorator]:
    """Return the mark of the tests to which a screen belongs; none for the fast ones."""
    if columns == WIDTHS[0]:
        return [] if line in QUICK else [pytest.mark.slow]
    return [pytest.mark.soak if line in EXPENSIVE else pytest.mark.slow]


CASES = [
    pytest.param(line, columns, marks=duration(line, columns)) for columns in WIDTHS for line in (*READING, *CHANGING)
]


def test_colours_have_a_meaning(folder: Path) -> None:
    shown = show(folder, "history", 100, colours=True)
    assert "\x1b[32mpromoted" in shown
    assert "\x1b[31mfailed" in shown
    evaluated = show(folder, "compare timing@production timing@previous", 80, colours=True)
    assert "\x1b[31m✗ worse" in evaluated


def stored(line: str, columns: int) -> Path:
    words = re.sub(r"[^\w. -]", "", line).replace("--", "").split()
    return Path(__file__).parent / str(columns) / f"{'-'.join(words)}.txt"


def test_every_stored_screen_is_of_a_command_line() -> None:
    found = {path for columns in WIDTHS for path in (Path(__file__).parent / str(columns)).iterdir()}
    assert found == {stored(line, columns) for line in (*READING, *CHANGING) for columns in WIDTHS}


@pytest.mark.parametrize(("line", "columns"), CASES)
def test_screen(line: str, columns: int, folder: Path, request: pytest.FixtureRequest) -> None:
    for preparation in BEFORE.get(line, ()):
        show(folder, preparation, columns)
    screen = show(folder, line, columns)
    path = stored(line, columns)
    if request.config.getoption("store_screens"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(screen)
    assert screen == (path.read_text() if path.exists() else ""), "`make screens` stores it"
