"""Signals that end a process are not lost, wherever Python is."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, threading, weakref
from retrainer.signals import interrupt_on

class Garbage: pass

signal.signal(signal.SIGINT, {of_sigint})
interrupt_on(signal.SIGTERM)
garbage = Garbage()
reference = weakref.ref(garbage, lambda _: os.kill(os.getpid(), signal.{sent}))
try:
    del garbage  # what is raised in the callback is dropped
    threading.Event().wait(30)
    print("lost")
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    ("sent", "of_sigint"), [("SIGINT", "signal.default_int_handler"), ("SIGTERM", "signal.SIG_IGN")]
)
def test_a_signal_in_a_callback_interrupts_a_moment_later(sent: str, of_sigint: str) -> None:
    code = SCRIPT.format(sent=sent, of_sigint=of_sigint)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("interrupted\n", "")


def test_other_dropped_errors_are_still_printed() -> None:
    code = SCRIPT.format(sent="absent", of_sigint="signal.SIG_IGN").replace("wait(30)", "wait(0)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "lost\n"
    assert "AttributeError" in done.stderr
