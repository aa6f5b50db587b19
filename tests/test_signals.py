"""Signals that end a process are not lost, wherever Python is."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import os, signal, threading, weakref
from retrainer.signals import interrupt_on

class Garbage: pass

interrupt_on({handled})
garbage = Garbage()
reference = weakref.ref(garbage, lambda _: os.kill(os.getpid(), signal.{sent}))
try:
    del garbage  # what is raised in the callback is dropped
    threading.Event().wait(300)
    print("lost")
except KeyboardInterrupt:
    print("interrupted")
"""

LATE = """
import importlib.util, signal, sys, threading
from retrainer.cli.app import _WholeLoader
from retrainer.signals import interrupt_on

interrupt_on(signal.SIGINT)
spec = importlib.util.spec_from_file_location("late", "late.py")
spec.loader = importlib.util.LazyLoader(_WholeLoader("late", "late.py"))
module = importlib.util.module_from_spec(spec)
sys.modules["late"] = module
spec.loader.exec_module(module)
try:
    from late import whole
    threading.Event().wait(300)
    print("lost")
except KeyboardInterrupt:
    print(sys.modules["late"].whole, "interrupted")
"""

STARTING = """
import signal, sys

class Interrupting:
    def find_spec(name, *_):
        if name == "typer":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets programs in the background ignore it
from retrainer.__main__ import main
sys.argv = ["retrainer", "--version"]
main()
"""


def test_an_interrupt_while_modules_are_loaded_ends_the_program_silently() -> None:
    done = run(STARTING)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM"])
def test_a_signal_in_a_callback_interrupts_a_moment_later(sent: str) -> None:
    done = run(SCRIPT.format(sent=sent, handled=f"signal.{sent}"))
    assert (done.stdout, done.stderr) == ("interrupted\n", "")


def test_other_dropped_errors_are_still_printed() -> None:
    done = run(SCRIPT.format(sent="absent", handled="signal.SIGTERM").replace("wait(300)", "wait(0)"))
    assert done.stdout == "lost\n"
    assert "AttributeError" in done.stderr


def test_a_signal_while_a_module_is_loaded_late_interrupts_after_it(tmp_path: Path) -> None:
    """Python drops what is raised while it loads a module only to look at its `__spec__`."""
    (tmp_path / "late.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfor _ in range(1000): pass\nwhole = True\n"
    )
    done = run(LATE, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("True interrupted\n", "")


def run(code: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=600, check=False
    )
