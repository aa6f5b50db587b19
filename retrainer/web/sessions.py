"""Logins: random ids that the server keeps the hashes of, CSRF tokens, and the rate limit of logins."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from cachetools import TTLCache

if TYPE_CHECKING:
    from collections.abc import Callable

SESSION_SECONDS = 12 * 3600
MAX_SESSIONS = 1000  # the oldest ends when there is one more
ATTEMPTS = 5  # logins of one client that may fail
ALL_ATTEMPTS = 50  # of all clients
ATTEMPT_SECONDS = 60  # within this time


@dataclass(frozen=True)
class Session:
    """A login.

    Attributes:
        csrf: what each form of the session carries.
        notices: what was done, to be shown once.
    """

    csrf: str
    notices: list[str] = field(default_factory=list)


class Sessions:
    """The logins of one server, which end with it. Only the hashes of their ids are kept.

    Args:
        clock: the monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = secrets.token_bytes(32)
        self._lock = Lock()
        self._known: TTLCache[str, Session] = TTLCache(MAX_SESSIONS, SESSION_SECONDS, clock)

    def start(self) -> str:
        """Start a session and return its id, for the cookie."""
        session_id = secrets.token_urlsafe(32)
        with self._lock:
            self._known[_hash(session_id)] = Session(self.form_token(session_id))
        return session_id

    def get(self, session_id: str | None) -> Session | None:
        """Return the session of an id; None if it has ended or never began."""
        if session_id is None:
            return None
        with self._lock:
            return self._known.get(_hash(session_id))

    def end(self, session_id: str) -> None:
        with self._lock:
            self._known.pop(_hash(session_id), None)

    def form_token(self, session_id: str) -> str:
        """Return what a form carries so that no other site can send it: it follows from the cookie and a secret."""
        return hmac.new(self._key, session_id.encode(), hashlib.sha256).hexdigest()


def _hash(session_id: str) -> str:
    return hashlib.sha256(session_id.encode()).hexdigest()


@dataclass
class LoginLimit:
    """Counts failed logins, of each client and of all.

    Args:
        clock: the monotonic time in seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _lock: Lock = field(default_factory=Lock)
    _failures: dict[str, list[float]] = field(default_factory=dict)

    def wait(self, client: str) -> int:
        """Return how many seconds a client must wait before the next attempt; 0 if none."""
        with self._lock:
            self._forget()
            own = self._failures.get(client, [])
            every = sorted(moment for moments in self._failures.values() for moment in moments)
            waits = [
                moments[-most] + ATTEMPT_SECONDS - self.clock()
                for moments, most in ((own, ATTEMPTS), (every, ALL_ATTEMPTS))
                if len(moments) >= most
            ]
        return max(math.ceil(max(waits)), 1) if waits else 0

    def add_failure(self, client: str) -> None:
        """Count a failed login."""
        with self._lock:
            self._failures.setdefault(client, []).append(self.clock())

    def _forget(self) -> None:
        """Forget the failures that are too long ago to count; at most ALL_ATTEMPTS stay."""
        since = self.clock() - ATTEMPT_SECONDS
        recent = {client: [one for one in moments if one > since] for client, moments in self._failures.items()}
        self._failures = {client: moments for client, moments in recent.items() if moments}
