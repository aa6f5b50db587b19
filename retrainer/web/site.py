"""What the pages need from the server that they are part of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, ParamSpec, Protocol, TypeVar

from retrainer.web.sessions import LoginLimit, Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from datetime import datetime
    from pathlib import Path

    from retrainer.algorithms import Importance
    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.base import Reliability
    from retrainer.project import Project
    from retrainer.registry.tables import ModelEvaluation, ModelVersion, TrainingRun
    from retrainer.runtime import Runtime
    from retrainer.web.background import Background
    from retrainer.web.forecasts import Forecasts
    from retrainer.web.sessions import Session

P = ParamSpec("P")
T = TypeVar("T")
Work = Literal["look", "change", "inspect", "forecast"]  # the kinds of threads of the server
Caching = Literal["never", "briefly", "without runs", "always"]


class Threads(Protocol):
    """Threads for blocking work: nothing blocks the event loop."""

    async def run(self, work: Work, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call in a thread."""
        ...


class Answers(Protocol):
    """A cache of bodies until the database changes."""

    def get(
        self,
        key: Hashable,
        compute: Callable[[], bytes],
        keep: Callable[[], bool] | None = None,
        *,
        may_be_old: bool = False,
    ) -> bytes:
        """Return the body under a key."""
        ...

    def no_runs(self) -> bool:
        """Whether no run is in progress."""
        ...


class Streams(Protocol):
    """The streams of the project."""

    def are_in_database(self) -> bool:
        """Whether the project's own tables show which streams there are."""
        ...

    def choose(self, name: str | None) -> Project:
        """Return the project seen from a stream; None for the only one."""
        ...

    def find_version(self, name: str, stream: str | None) -> tuple[Project, ModelVersion]:
        """Return the version of a name, and the project seen from its stream."""
        ...

    def find_run(self, name: str, stream: str | None) -> TrainingRun:
        """Return the run of a name: its id, or a unique part of it."""
        ...


class Versions(Protocol):
    """A cache of what is computed from a version's files, which never change."""

    def reliability(self, version: ModelVersion, row: ModelEvaluation) -> list[Reliability] | None:
        """Return the reliability of a recorded evaluation; None if it cannot be computed for now."""
        ...

    def importance(self, version: ModelVersion) -> list[Importance] | None:
        """Return the feature importance of a version; None if it cannot be computed for now."""
        ...


class Runs(Protocol):
    """Starts runs."""

    @property
    def log_folder(self) -> Path:
        """The folder of the runs' log files, which are named by run id."""
        ...

    def start(
        self, project: Project, model_type: ModelTypeName | None, *, auto_promote: bool | None
    ) -> dict[str, str | None]:
        """Start a run of one model type or of both, and return the run ids by model type."""
        ...


@dataclass(frozen=True)
class Site:
    """The project that the pages show, and the services of the server.

    Attributes:
        token: the one to log in with; None if nothing can be changed by the pages.
        protect_reads: whether the pages are shown only after a login.
        forecasts: of the next posts.
        background: computes what takes longer than a page may.
    """

    project: Project
    runtime: Runtime
    streams: Streams
    threads: Threads
    answers: Answers
    runs: Runs
    versions: Versions
    token: str | None
    protect_reads: bool
    forecasts: Forecasts
    background: Background
    sessions: Sessions = field(default_factory=Sessions)
    logins: LoginLimit = field(default_factory=LoginLimit)


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
