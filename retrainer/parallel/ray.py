"""A Ray cluster."""

from __future__ import annotations

import logging
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from retrainer.errors import RetrainerError
from retrainer.parallel.child import END_SECONDS, Answer, call_in_child
from retrainer.parallel.cluster import CONNECT_SECONDS, POLL_SECONDS, Cluster, lost, require_extra, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ray import ObjectRef

    T = TypeVar("T")


class RayCluster(Cluster["ObjectRef"]):
    """A Ray cluster: as many units at a time as it has processors. Ray does not try lost ones again (`max_retries`)."""

    name = "ray"
    hint = "Start a node with: ray start"

    def __init__(self, address: str) -> None:
        """Wrap the connection of this process."""
        super().__init__(address)
        import ray  # noqa: PLC0415  slow to import, and an extra

        self._ray = ray
        self._call = ray.remote(num_cpus=1, max_retries=0)(call_in_child)
        self._head: str = ray.get_runtime_context().gcs_address
        self._busy = 0
        self._processors = 0
        self._looked_at = -POLL_SECONDS

    @classmethod
    def connect(cls, address: str) -> RayCluster:
        """Connect to a cluster.

        Raises:
            UsageError: Ray is not installed.
            RetrainerError: the cluster does not answer.
        """
        require_extra(cls.name, "ray")
        require_open(address)  # Ray would try for minutes
        import ray  # noqa: PLC0415

        try:
            ray.init(address, log_to_driver=False, configure_logging=False, logging_level=logging.CRITICAL)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise unreachable(cls.name, address, str(error).partition("\n")[0]) from error
        logging.getLogger("ray").setLevel(logging.CRITICAL + 1)  # what matters is reported as an error
        # There is no setting against its messages about lost workers on stdout, where the result belongs.
        ray._private.worker.print_to_stdstream = lambda *_args, **_options: None  # noqa: SLF001
        return cls(address)

    def close(self) -> None:
        """Close the connection; the cluster goes on."""
        self._ray.shutdown()

    def _has_room(self, queue: int) -> bool:
        if time.monotonic() - self._looked_at >= POLL_SECONDS:
            try:
                require_open(self._head)  # Ray would wait for a minute, and then end this process
                self._processors = int(self._ray.cluster_resources().get("CPU", 0))
            except (RetrainerError, OSError, RuntimeError, self._ray.exceptions.RayError) as error:
                raise self._gone() from error
            self._looked_at = time.monotonic()
        return self._busy < queue * self._processors

    def _submit(self, token: str, function: Callable[[T], Any], unit: T) -> ObjectRef:
        self._busy += 1
        return self._call.remote(token, function, unit)

    def _completed(self, busy: list[ObjectRef]) -> Iterator[tuple[ObjectRef, Answer]]:
        if not busy:  # nor workers
            time.sleep(POLL_SECONDS)
            return
        ended, _ = self._ray.wait(busy, timeout=POLL_SECONDS)
        for reference in ended:
            answer = self._answer(reference)
            self._busy -= 1
            yield reference, answer

    def _answer(self, reference: ObjectRef) -> Answer:
        exceptions = self._ray.exceptions
        try:
            answer: Answer = self._ray.get(reference, timeout=CONNECT_SECONDS)
        except (exceptions.RaySystemError, ConnectionError) as error:
            raise self._gone() from error
        except exceptions.RayTaskError as error:
            return lost(f"the Ray worker failed: {error.cause}")
        except exceptions.RayError as error:
            return lost(f"the Ray worker is gone: {type(error).__name__}")
        return answer

    def _interrupt(self, token: str, busy: list[ObjectRef]) -> None:
        del token  # each call is interrupted by itself
        with suppress(OSError, RuntimeError, self._ray.exceptions.RayError):
            for reference in busy:
                self._ray.cancel(reference)
            self._ray.wait(busy, num_returns=len(busy), timeout=END_SECONDS)


def require_open(address: str) -> None:
    """Check that something listens at HOST:PORT; a keyword such as `auto` is left to Ray."""
    host, separator, port = address.rpartition("://")[2].rpartition(":")
    if not separator:
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise unreachable("ray", address, error) from error
