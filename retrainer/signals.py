"""Signals that end a command, or a call in a worker process, like Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_AGAIN_SECONDS = 0.1


def interrupt_on(*numbers: signal.Signals) -> None:
    """Raise KeyboardInterrupt in the main thread at these signals, and again if it was lost.

    Python drops what is raised in a callback, such as that of a weak reference while garbage is collected.
    """
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    sys.unraisablehook = _interrupt_again


def _interrupt_again(dropped: UnraisableHookArgs) -> None:
    if not issubclass(dropped.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)
        return
    handled = (signal.SIGINT, signal.SIGTERM)  # the first may be ignored, as in a background job of a shell
    number = next((one for one in handled if signal.getsignal(one) is signal.default_int_handler), None)
    if number is not None:
        again = threading.Timer(_AGAIN_SECONDS, signal.pthread_kill, (threading.main_thread().ident, number))
        again.daemon = True
        again.start()
