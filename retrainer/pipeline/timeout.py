"""The time limit of a run: one that takes too long ends as failed, whatever it is stuck in."""

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

GRACE_SECONDS = 20.0  # for a run that was interrupted to close itself
INTERRUPTS = 2
LAST_SECONDS = 10.0  # after the grace, for the failure to be recorded, beside what telling it takes


@contextmanager
def time_limit(minutes: float | None, give_up: Callable[[RunTimeout], None], telling_seconds: float) -> Iterator[None]:
    """End the block by RunTimeout when it takes longer than so many minutes.

    The main thread is interrupted as by Ctrl-C, and the block closes itself. Where it does not answer, being stuck in
    code that is not Python's, `give_up` is called and the process ends at once with the exit code of the error: what
    was half done is put right by the next command, as after a kill. Where even that cannot run, since such code holds
    Python's lock, the process is ended from outside of Python a little later; the next command closes the run.

    Args:
        minutes: None: no limit.
        give_up: records the failure and tells of it; called in another thread.
        telling_seconds: how long telling may take.

    Raises:
        RunTimeout: the time was up.
    """
    if minutes is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    error = RunTimeout(
        f"the run took longer than {minutes:g} minutes (retraining.max_run_minutes)",
        hint="Raise the limit, or see what it was busy with (--verbose)",
    )
    main_thread = threading.get_ident()
    over, expired = threading.Event(), threading.Event()
    lock = threading.Lock()

    def watch() -> None:
        if over.wait(minutes * 60):
            return
        for _ in range(INTERRUPTS):  # the first may fall on deaf ears, such as those of a finalizer
            with lock:
                if over.is_set():
                    return
                expired.set()
                # A signal, so that a wait for a lock is interrupted too.
                signal.pthread_kill(main_thread, signal.SIGINT)
            if over.wait(GRACE_SECONDS / INTERRUPTS):
                return
        give_up(error)
        log.error("%s", error)
        os._exit(error.exit_code)

    thread = threading.Thread(target=watch, name="time limit of a run", daemon=True)
    thread.start()
    last = minutes * 60 + GRACE_SECONDS + telling_seconds + LAST_SECONDS
    faulthandler.dump_traceback_later(last, exit=True, file=sys.stderr)
    try:
        yield
        with lock:  # from here on it is not interrupted any more
            over.set()
    except KeyboardInterrupt:
        if expired.is_set():
            raise error from None
        raise
    finally:
        faulthandler.cancel_dump_traceback_later()
        over.set()
        thread.join()
