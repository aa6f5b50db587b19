"""Both ways to call `retrainer` in tests give the same results, and a call in process leaves nothing behind."""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.command_line import Completed, run_in_process
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins

FAST = [("versions", "--json"), ("show", "nope"), ("predict", "timing")]
SLOW = [
    ("--help",),
    ("train", "--dry-run"),
    ("train", "timing", "--dry-run", "--json", "--quiet"),
    ("evaluate", "VERSION"),
    ("production", "--at", "soon", "--log-format", "json"),
    ("posts", "count", "--verbose"),
    ("doctor",),
    ("config", "--nonsense", "--traceback"),
]


def without_times(done: Completed) -> Completed:
    """Replace what differs from call to call: ids, times and durations."""

    def plain(text: str) -> str:
        text = re.sub(r"\b\d{8}_\d{6}_[0-9a-f]{4}\b", "ID", text)
        text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?", "TIME", text)
        text = re.sub(r'(duration_seconds": |Duration: )[\d.]+', r"\1SECONDS", text)
        return re.sub(r'File ".*", line \d+.*\n(?: .*\n)*', "FRAME\n", text)

    return Completed(done.code, plain(done.out), plain(done.err))


@pytest.mark.parametrize("arguments", [*FAST, *(pytest.param(words, marks=pytest.mark.slow) for words in SLOW)])
def test_a_command_in_process_does_what_a_process_does(
    arguments: tuple[str, ...], trained: str, folder: Path, retrainer_process: Runner
) -> None:
    words = [trained if word == "VERSION" else word for word in arguments]
    inside, outside = run_in_process(folder)(*words), retrainer_process(*words)
    assert without_times(inside) == without_times(outside)


@pytest.mark.usefixtures("trained")
def test_a_command_in_process_leaves_nothing_behind(folder: Path, plugins: Plugins) -> None:
    def state() -> list[object]:
        root = logging.getLogger()
        streams = [sys.stdin, sys.stdout, sys.stderr, *(os.fstat(number)[:3] for number in (1, 2))]
        return [dict(os.environ), Path.cwd(), list(sys.path), list(root.handlers), root.level, *streams]

    plugins.add("steady", timing_algorithm("steady", train="os.environ['LEFT'] = '1'; os.chdir('/')"))
    before = state()
    train = ("train", "timing", "--algorithm", "steady", "--verbose", "--log-file", "runs.log")
    assert run_in_process(folder)(*train, env=plugins.environ, TZ="Europe/Berlin").code == 0
    assert state() == before
    assert not any(name.startswith("retrainer_steady") for name in sys.modules)


def test_each_command_in_process_sees_the_plugins_of_its_own_environment(folder: Path, plugins: Plugins) -> None:
    run = run_in_process(folder)
    plugins.add("steady", timing_algorithm("steady"))
    module = plugins.site / "retrainer_steady_module.py"
    assert "steady" in run("plugins", env=plugins.environ).out
    module.write_text("raise ImportError('edited')")
    assert "edited" in run("plugins", env=plugins.environ).out
    assert "steady" not in run("plugins").out
