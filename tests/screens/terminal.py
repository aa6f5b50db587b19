"""What a command shows on a terminal of a certain width, and a project whose screens are always the same."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import pty
import re
import secrets
import shlex
import socket
import struct
import sys
import termios
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import time_machine

from retrainer import runtime
from retrainer.posts.sample import sample_posts
from tests.command_line import run_in_process
from tests.conftest import open_project
from tests.plugins_for_tests import Plugins, timing_algorithm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

NOW = datetime(2024, 11, 1, 12, tzinfo=UTC)  # three days after the last of the sample posts
SITE = "site"  # the folder of plugins in the project
# A function in a file whose name, which the error names, is the same everywhere.
FAULT = """
    source = "def fail():\\n    raise ValueError('no rhythm in these posts')"
    exec(compile(source, "/home/ada/faulty.py", "exec"))
"""
# What happened in the project, and how long before now.
STORY = (
    (timedelta(days=30), "train timing --algorithm far"),
    (timedelta(days=29), "train content"),
    (timedelta(days=20), "train content"),
    (timedelta(days=9), "train"),
    (timedelta(hours=5), "train timing --algorithm far"),
    (timedelta(hours=4), "pin timing@latest --reason 'for the talk'"),
    (timedelta(hours=3), "hold content --reason 'until the new texts are reviewed'"),
    (timedelta(minutes=20), "train timing --algorithm faulty"),
)
# What depends on the machine or changes often: computing times, sizes of files, lines of settings, the schema.
_HASH_OF_STUDY = re.compile(r"(?<=default_timing_)[0-9a-f]{8}")  # of the plugin's code, among others
_VARIABLE = re.compile(r"\d+\.\d(?= s\b| KiB\b)|(?<=\bline )\d+|(?<=schema, )\d+")


@contextmanager
def fixed_world(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the clock stand still, and make random digits, user, host and terminal always the same."""
    numbers = itertools.count(0xA001, 0x1F3)
    patch.setattr(secrets, "token_hex", lambda size: f"{next(numbers) % 16 ** (2 * size):0{2 * size}x}")
    patch.setattr(runtime, "time", SimpleNamespace(monotonic=lambda: 0.0))  # the stopwatch of a run
    patch.setattr(socket, "gethostname", lambda: "server")
    patch.setenv("LOGNAME", "ada")
    patch.setenv("TERM", "xterm")
    patch.delenv("COLUMNS", raising=False)  # the width that pytest gives its workers
    with time_machine.travel(NOW, tick=False):
        yield


def make_project(folder: Path) -> None:
    """Let happen what screens show: promotions with and without a comparison, a rejection, a failure."""
    project = open_project(folder)
    project.posts.add(sample_posts(), NOW)
    project.close()
    plugins = Plugins(folder / SITE)
    plugins.site.mkdir()
    plugins.add("far", timing_algorithm("far", 500.0))
    plugins.add("faulty", timing_algorithm("faulty", setup=FAULT, train="fail()"))
    run = run_in_process(folder)
    for before, line in STORY:
        with time_machine.travel(NOW - before, tick=False):
            run(*shlex.split(line), env=plugins.environ)


def show(folder: Path, line: str, columns: int, *, colours: bool = False) -> str:
    """Run a command line in this process on a terminal, by default without colours; return the screen."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    shown = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(ours, 65536):
                shown.extend(part)

    reader = threading.Thread(target=read)
    reader.start()
    done = run_in_process(folder, terminal=theirs)(
        *shlex.split(line), NO_COLOR="" if colours else "1", PYTHONPATH=str(folder / SITE)
    )
    os.close(theirs)
    reader.join()
    os.close(ours)
    assert colours or "\x1b" not in shown.decode(), "NO_COLOR is set"
    screen = shown.decode().replace("\r\n", "\n")
    screen = screen.replace(str(folder), "/home/ada/project").replace(sys.prefix, "/home/ada/.venv")
    screen = re.sub(r"\d+\.\d of \d+\.\d GiB", "9.9 of 99.9 GiB", screen)
    screen = _HASH_OF_STUDY.sub("3c1d90f7", screen)
    screen = _VARIABLE.sub(lambda match: re.sub(r"\d", "0", match[0]), screen)
    return f"{screen}[exit code {done.code}]\n"
