"""Command lines at random, over all commands and options: no traceback, no hang, and a documented exit code.

The seed is part of the test's name, so a failure can be repeated.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from typer.main import get_group

from retrainer.cli.app import COMMANDS, app
from tests.cli.test_hostile_text import CONTROL, HOSTILE
from tests.conftest import open_project
from tests.worker import Worker, command, release

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.core import TyperCommand

PER_PROJECT = 20
SECONDS = 120  # a command takes less than one; this is a hang, even on a busy machine
EXIT_CODES = {0, 1, 2, 3, 4, 10, 11, 130}

# Nothing here leads out of the folder of the test: as root, `init /` would work. Devices are reached by links.
PATHS = ["file", "folder", "fifo", "socket", "null", "full", "zero", "loop", "dangling", "gone/file", "file/below"]
PATHS += ["posts.csv", "posts.csv.gz", "data/retrainer.db", "config/config.yaml", "models", "new", "new.json", "x.png"]
PATHS += ["n" * 300, "deep/" * 1500 + "x", "latin-\udce9", "sp ace", "-", "--", "models/timing_model", ".retrainer"]
TEXTS = ["", " ", "x", "é😀", HOSTILE, "\udc9b", "a\tb", "%s%n", "{}", "{0.__class__}", "$(id)", "'", '"', ";", "\\"]
TEXTS += ["A" * 100_000, "-x", "--json", "null", "true", "[red]x[/red]", "<b>", "../x", "~", "#", "=", "=x", "x="]
NUMBERS = ["0", "1", "-1", "2", "0.5", "1e3", "1e999", "-1e999", "nan", "inf", "0x10", "1_000", "٣", "1,5", " 3 ", "+2"]
NUMBERS += [
    "999999",
    "1000000",
    "1000001",
    str(2**31),
    str(2**63),
    str(2**64),
    "9" * 400,
    "9" * 5000,
    "",
    "x",
    "1e-320",
]
TIMES = [
    "2024-06-01",
    "2024-11-01T12:00:00Z",
    "2024-11-01T12:00+14:00",
    "0001-01-01T00:00+23:59",
    "9999-12-31T23:59-23:59",
]
TIMES += [
    "2024-02-30",
    "now",
    "1700000000",
    "2024-W01-1",
    "20240601",
    "2999-01-01",
    "1970-01-01",
    "2024-11-10T00:00:60Z",
]
POLICIES = [
    "daily: schedule_days=1",
    "x: algorithm=baseline",
    "a: b=c",
    ":",
    "=",
    "daily",
    "configured: schedule_days=1",
]
POLICIES += ["a: schedule_days=1e300", "a: test_split=0.9999", "a: keep_versions=-1", "a: min_confidence=x", "a: ,"]
VALUES = {
    "FILE": PATHS,
    "DIR": PATHS,
    "TEXT": TEXTS,
    "TIME": TIMES,
    "DATE": [
        "2024-10-25",
        "2024-11-01T12:00Z",
        "2024-11-15",
        "2024-02-30",
        "now",
        "2999-01-01",
        "9999-12-31T23:59-23:59",
    ],
    "TYPE": ["timing", "content", "timming"],
    "timing|content": ["timing", "content", "timming"],
    "post|clock": ["post", "clock", "tick"],
    "text|json": ["text", "json", "xml"],
    "STATUS": ["running", "completed", "failed", "done"],
    "NAME": ["baseline", "claude_api", "nobody", "localhost"],
    "WHEN": [
        "daily",
        "weekly",
        "bi-weekly",
        "0 3 * * *",
        "* * * * * *",
        "61 * * * *",
        "0 0 30 2 *",
        "@daily",
        "*/0 * * * *",
    ],
    "COLUMN=NAME": ["content=message", "post_id=id", "created_at=", "=x", "x", "a=b=c"],
    "ADDRESS": ["127.0.0.1", "::1", "localhost", "999.1.1.1"],
    "'NAME: KEY=VALUE, …'": POLICIES,
}
CHARACTERS = [
    "\x1b",
    "\u202e",
    "\n",
    "\r",
    "%",
    "'",
    '"',
    "\\",
    ";",
    "=",
    ",",
    ":",
    " ",
    "é",
    "😀",
    "\udc9b",
    "{",
    "[",
    "0",
]
FEW = ["0", "1", "-1", "257", "x", ""]  # for what takes processes, or time
SETTINGS = ["RETRAINING__TEST_SPLIT", "RETRAINING__KEEP_VERSIONS", "RETRAINING__SCHEDULE_DAYS", "RETRAINING__ENABLED"]
SETTINGS += [
    "RETRAINING__MIN_TRAINING_SAMPLES",
    "RETRAINING__TIMING_MODEL__ORIGIN",
    "TIMING_MODEL__ALGORITHM",
    "MODELS_DIR",
]
SETTINGS += [
    "POSTS__TABLE",
    "POSTS__URL",
    "DATABASE__URL",
    "CONFIG",
    "NO_SUCH_KEY",
    "RETRAINING",
    "TIMING_MODEL__BASELINE",
]


@cache
def leaves() -> list[tuple[list[str], TyperCommand]]:
    """Return every command with its name, as the words of the command line."""
    group: Any = get_group(app)
    context = group.make_context("retrainer", [], resilient_parsing=True)

    def below(words: list[str], found: Any) -> Iterator[tuple[list[str], TyperCommand]]:
        if not hasattr(found, "commands"):
            yield words, found
            return
        for name, part in found.commands.items():
            yield from below([*words, name], part)

    return [leaf for name in COMMANDS for leaf in below([name], group.resolve_command(context, [name])[1])]


class Generator:
    """Draws command lines."""

    def __init__(self, seed: str, versions: list[str]) -> None:
        self.draw = random.Random(seed)  # noqa: S311  no secret
        self.versions = versions

    def arguments(self) -> list[str]:
        """Return the words of a command line, most of them near what is valid."""
        words, leaf = self.draw.choice(leaves())
        words = list(words)
        for parameter in leaf.params:
            positional = parameter.param_type_name == "argument"
            if self.draw.random() > (0.9 if parameter.required else 0.3):
                continue
            value = self.value(str(parameter.metavar), str(parameter.name))
            if positional:
                words.append(value)
            elif getattr(parameter, "is_flag", False):
                words.append(self.draw.choice([*parameter.opts, *parameter.secondary_opts]))
            else:
                name = self.draw.choice(parameter.opts)
                words += [f"{name}={value}"] if self.draw.random() < 0.3 else [name, value]
        if words[0] == "serve":  # or it would serve
            words += ["--systemd"]
        if self.draw.random() < 0.15:
            words.insert(
                self.draw.randrange(len(words) + 1), self.draw.choice([*TEXTS, "--help", "--verbose", "--quiet"])
            )
        if self.draw.random() < 0.1:
            words = [*self.draw.choice([["--log-file", self.value("FILE")], ["--config", self.value("FILE")]]), *words]
        if self.draw.random() < 0.05:
            words.pop(self.draw.randrange(len(words)))
        return words

    def value(self, metavar: str, name: str = "") -> str:
        """Return a value that is often valid for an option."""
        if self.draw.random() < 0.1:
            return self.draw.choice(TEXTS)
        if name in {"count", "jobs", "wait"}:
            return self.draw.choice(FEW)
        known = VALUES.get(metavar, NUMBERS)
        if metavar in {"VERSION", "A", "B", "RUN"}:
            known = [*self.versions, *self.versions, "nope", "baseline_timing_2024"]
        value = self.draw.choice(known)
        if self.draw.random() < 0.1:
            cut = self.draw.randrange(len(value) + 1)
            return value[:cut] + self.draw.choice(CHARACTERS) + value[cut:]
        return value

    def environ(self) -> dict[str, str]:
        """Return a setting now and then."""
        if self.draw.random() > 0.15:
            return {}
        pool = [
            *NUMBERS,
            *PATHS,
            *TEXTS,
            "&a [*a]",
            "[" * 3000,
            "{a: 1}",
            "2024-02-30",
            "clock",
            "baseline",
            "sqlite:///x.db",
        ]
        pool = [text for text in pool if "\udc9b" not in text]
        return {f"RETRAINER_{self.draw.choice(SETTINGS)}": self.draw.choice(pool)}


@pytest.fixture
def folder_with_traps(folder: Path) -> Path:
    """A project folder with what a file name may lead to."""
    (folder / "file").write_text("x\n")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    for link, target in {
        "null": "/dev/null",
        "full": "/dev/full",
        "zero": "/dev/zero",
        "loop": "loop",
        "dangling": "gone",
    }.items():
        (folder / link).symlink_to(target)
    with contextlib.chdir(folder), socket.socket(socket.AF_UNIX) as server:  # since such a path must be short
        server.bind("socket")
    (folder / "posts.csv").write_text("id,created_at,content\n1,2024-11-02T01:00:00Z,hello\n")
    (folder / "posts.csv.gz").write_bytes(b"\x1f\x8b\x08\x00broken")
    return folder


def check(seed: str, folder: Path, versions: list[str], output: Path, count: int) -> None:
    """Run command lines, one after the other, in the same project."""
    generator = Generator(seed, versions)
    problems = []
    for number in range(count):
        words, environ = generator.arguments(), generator.environ()
        worker = Worker.start(output, command, folder, *words, env={**environ, "RETRAINER_API_TOKEN": "t" * 40})
        release([worker])
        worker.process.join(SECONDS)
        if worker.is_running():
            worker.kill()
            worker.process.join()
            problem: str | None = "it hangs"
        else:
            problem = find_problem(worker, words)
        if problem:
            problems.append(f"{number}: {problem}: {environ} {words!a}\n{worker.out[-600:]!a}\n{worker.err[-900:]!a}")
    assert not problems, "\n".join(problems)


def find_problem(worker: Worker, words: list[str]) -> str | None:
    """Return what is wrong with how a command ended."""
    code, out, err = worker.process.exitcode, worker.out, worker.err
    wants_json = "--json" in words and "--" not in words
    problems = {
        f"it exits with {code}": code not in EXIT_CODES,
        "it prints a traceback": "Traceback" in out + err and "--traceback" not in words,
        "it did not expect that": "This is a bug" in err,
        "it prints control characters": CONTROL.search(out + err),
        "it fails without a word": code in {2, 3, 4} and not err,
        "it prints no valid JSON": wants_json and out and not out.startswith("Usage") and not is_json(out),
    }
    return next((problem for problem, is_found in problems.items() if is_found), None)


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_every_command_is_drawn() -> None:
    generator = Generator("0", ["v"])
    drawn = {word for _ in range(1000) for word in generator.arguments()[:2]}
    assert drawn >= {words[-1] for words, _ in leaves()}


@pytest.mark.usefixtures("cron_folder")
@pytest.mark.parametrize(
    ("seed", "count"),
    [
        ("fast", 4),
        *(pytest.param(f"slow {number}", PER_PROJECT, marks=pytest.mark.slow) for number in range(100 // PER_PROJECT)),
        *(pytest.param(f"soak {number}", PER_PROJECT, marks=pytest.mark.soak) for number in range(1000 // PER_PROJECT)),
    ],
)
def test_no_command_line_ends_in_a_traceback_or_a_hang(
    seed: str, count: int, trained: str, folder_with_traps: Path, tmp_path: Path
) -> None:
    project = open_project(folder_with_traps)
    versions = [version.version_id for version in project.registry.list_versions()]
    project.close()
    (tmp_path / "output").mkdir()
    check(seed, folder_with_traps, versions, tmp_path / "output", count)
