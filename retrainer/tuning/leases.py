"""A lease: which process works on a trial or ends a study, renewed until it is done.

Optuna's heartbeats do not know processes: a trial counts as lost after a silence, is then closed as failed, and is
tried once more as another trial, which is lost if the process is killed between the two.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from retrainer.registry.liveness import HEARTBEAT_SECONDS, ProcessIdentity, explain_death

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Lease = dict[str, Any]  # as it is kept with a study or a trial, as JSON

log = logging.getLogger(__name__)


def new_lease() -> Lease:
    """Return a lease of this process."""
    identity = ProcessIdentity.current()
    return renewed(
        {
            "token": uuid4().hex,
            "host": identity.host,
            "pid": identity.pid,
            "boot_id": identity.boot_id,
            "started_at": identity.started_at.isoformat(),
        }
    )


def renewed(lease: Lease) -> Lease:
    """Return a lease with a heartbeat of now."""
    return {**lease, "heartbeat_at": datetime.now(UTC).isoformat(), "heartbeat_monotonic": time.monotonic()}


def is_same(lease: Lease | None, other: Lease) -> bool:
    """Whether two are the same lease, however often it was renewed."""
    return lease is not None and lease["token"] == other["token"]


def explain_end(lease: Lease | None) -> str | None:
    """Explain why a lease has ended; None if its process is alive."""
    if lease is None:
        return "its process ended"
    identity = ProcessIdentity(
        lease["host"], lease["pid"], lease["boot_id"], datetime.fromisoformat(lease["started_at"])
    )
    heartbeat_at = datetime.fromisoformat(lease["heartbeat_at"])
    return explain_death(identity, heartbeat_at, lease["heartbeat_monotonic"], datetime.now(UTC))


@contextmanager
def keep_renewing(renew: Callable[[], None]) -> Iterator[None]:
    """Renew a lease for the length of the block, by a thread.

    Args:
        renew: renews it; a failure is logged, and tried again after a while.
    """
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            try:
                renew()
            except Exception as error:  # noqa: BLE001  the database may be back before the lease counts as ended
                log.debug("Cannot renew a lease: %s", error)

    thread = threading.Thread(target=work, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
