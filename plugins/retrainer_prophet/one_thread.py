"""Linear algebra in one thread: on small matrices two are slower, and they round differently."""

from __future__ import annotations

from contextlib import ExitStack
from functools import cache
from threading import Lock

from threadpoolctl import OpenBLASController, ThreadpoolController

_controller = cache(ThreadpoolController)


class _OneThread:
    """The limit belongs to the process, so it holds from the first of overlapping blocks to the last.

    Only one thread may change the limit of OpenBLAS, the controlling thread of threadpoolctl: that of the first block,
    and then that of the last.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._blocks = 0
        self._limit = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._blocks == 0:
                OpenBLASController.clear_controlling_thread(force=True)
                self._limit.enter_context(_controller().limit(limits=1, user_api="blas"))
            self._blocks += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0:
                OpenBLASController.clear_controlling_thread(force=True)
                self._limit.close()


ONE_THREAD = _OneThread()  # in which a `with` block computes, whatever other threads do
