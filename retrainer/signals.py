"""Signals that end a command, or a call in a worker process, like Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from sys import UnraisableHookArgs
    from types import FrameType

_AGAIN_SECONDS = 0.1


@dataclass
class _State:
    """The last signal of the process, and how many blocks in which none may interrupt have been entered."""

    number: int = signal.SIGINT
    deferring: int = 0


_state = _State()


def interrupt_on(*numbers: signal.Signals) -> None:
    """Raise KeyboardInterrupt in the main thread at these signals, and again if it was lost.

    Python drops what is raised in a callback, such as that of a weak reference while garbage is collected.
    """
    for number in numbers:
        signal.signal(number, _interrupt)
    sys.unraisablehook = _raise_again


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Let signals interrupt only after this block of the main thread, where what they raise would be dropped."""
    _state.deferring += 1
    try:
        yield
    finally:
        _state.deferring -= 1


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _state.number = number
    if not _state.deferring:
        raise KeyboardInterrupt
    _signal_again()


def _raise_again(dropped: UnraisableHookArgs) -> None:
    if issubclass(dropped.exc_type, KeyboardInterrupt):
        _signal_again()
    else:
        sys.__unraisablehook__(dropped)


def _signal_again() -> None:
    again = threading.Timer(_AGAIN_SECONDS, signal.pthread_kill, (threading.main_thread().ident, _state.number))
    again.daemon = True
    again.start()
