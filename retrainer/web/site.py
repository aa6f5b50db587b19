"""The project that a server serves, with its services, and one visit of a page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from retrainer.web.sessions import LoginLimit, Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from datetime import datetime

    from retrainer.project import Project
    from retrainer.runtime import Runtime
    from retrainer.serving.auth import Auth
    from retrainer.serving.caches import ResponseCache, VersionCache
    from retrainer.serving.runs import RunStarter
    from retrainer.serving.streams import Streams
    from retrainer.serving.threads import Threads, Work
    from retrainer.web.background import Background
    from retrainer.web.forecasts import Forecasts
    from retrainer.web.sessions import Session

Caching = Literal["never", "briefly", "without runs", "always"]


@dataclass(frozen=True)
class Site:
    """The project that a server serves, and its services.

    Attributes:
        auth: who may call; without a token, the pages change nothing.
        responses: the cached pages and documents.
        versions: what is computed from the files of versions, cached.
        forecasts: of the next posts, for the pages.
        background: computes what takes longer than a page may.
        sessions: the logins.
        logins: limits failed ones.
    """

    project: Project
    runtime: Runtime
    auth: Auth
    streams: Streams
    threads: Threads
    runs: RunStarter
    responses: ResponseCache
    versions: VersionCache
    forecasts: Forecasts
    background: Background
    sessions: Sessions = field(default_factory=Sessions)
    logins: LoginLimit = field(default_factory=LoginLimit)

    async def respond(self, work: Work, cached: Caching, key: Hashable, compute: Callable[[], bytes]) -> bytes:
        """Return the body of a response, computed in a thread or cached.

        Args:
            work: the kind of work.
            cached: whether it is cached while the database does not change, since it depends on nothing but the key and
                the database: never, always (for a second at most if the posts are in a foreign table, where another
                stream may appear), or while no run is in progress (else for a second at most); `briefly` is for a
                second at most, whatever changes.
            key: distinguishes the responses.
            compute: returns the body.
        """
        if cached == "never":
            return await self.threads.run(work, compute)
        keep = self.responses.no_runs if cached == "without runs" else self.streams.are_in_database
        return await self.threads.run(work, self.responses.get, key, compute, keep, may_be_old=cached == "briefly")


@dataclass(frozen=True)
class Visit:
    """One request of a page, as its view sees it.

    Attributes:
        project: the project seen from the stream of `?stream=`, or the only one; for a page of all streams, from none.
        stream: the stream that the address names; None if it names none.
        now: the time, UTC.
        path: the parts of the address in braces.
        query: the parameters of the address; each one is a string.
        session: the login, if there is one.
        may_read: whether the visitor may see anything of the project.
    """

    site: Site
    project: Project
    stream: str | None
    now: datetime
    path: Mapping[str, str]
    query: Mapping[str, str]
    session: Session | None
    may_read: bool = True

    @property
    def signed_in(self) -> bool:
        """Whether the visitor has logged in, and may change something."""
        return self.session is not None
