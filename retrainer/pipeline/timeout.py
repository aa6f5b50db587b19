"""The time limit of a run."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from retrainer.errors import RunTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

GRACE_SECONDS = 20.0  # for an interrupted run to close itself
INTERRUPTS = 2
RECORD_SECONDS = 10.0  # to record the failure after the grace period, in addition to publishing it


@contextmanager
def time_limit(minutes: float | None, give_up: Callable[[RunTimeout], None], publish_seconds: float) -> Iterator[None]:
    """End the block with RunTimeout if it takes longer than a number of minutes.

    The main thread is interrupted as by Ctrl-C, and the block closes itself. If it is stuck in native code, `give_up`
    is called and the process exits with the exit code of the error; the next command cleans up as after
    a kill. If not even that can run, because native code holds the GIL, faulthandler ends the process a little later.

    Args:
        minutes: None for no limit.
        give_up: records and publishes the failure; called in another thread.
        publish_seconds: how long publishing may take.

    Raises:
        RunTimeout: the block took too long.
    """
    if minutes is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    error = RunTimeout(
        f"the run took longer than {minutes:g} minutes (retraining.max_run_minutes)",
        hint="Raise the limit, or find out what takes so long with --verbose",
    )
    main_thread = threading.get_ident()
    done, expired = threading.Event(), threading.Event()
    lock = threading.Lock()

    def watch() -> None:
        if done.wait(minutes * 60):
            return
        for _ in range(INTERRUPTS):  # the first may be swallowed, for example by a finalizer
            with lock:
                if done.is_set():
                    return
                expired.set()
                signal.pthread_kill(main_thread, signal.SIGINT)  # a signal also interrupts waiting for a lock
            if done.wait(GRACE_SECONDS / INTERRUPTS):
                return
        give_up(error)
        log.error("%s", error)
        os._exit(error.exit_code)

    thread = threading.Thread(target=watch, name="time limit of a run", daemon=True)
    thread.start()
    latest = minutes * 60 + GRACE_SECONDS + publish_seconds + RECORD_SECONDS
    faulthandler.dump_traceback_later(latest, exit=True, file=sys.stderr)
    try:
        yield
        with lock:  # no interrupt from here on
            done.set()
    except KeyboardInterrupt:
        if expired.is_set():
            raise error from None
        raise
    finally:
        faulthandler.cancel_dump_traceback_later()
        done.set()
        thread.join()
