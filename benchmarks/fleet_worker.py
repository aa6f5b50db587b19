"""Runs of a fleet's worker, measured by part; for `benchmarks.fleet`."""

from __future__ import annotations

import functools
import resource
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from retrainer.fleet.units import Outcome, Unit, WorkerSpec

REST = "rest"


class Seconds(NamedTuple):
    """A time.

    Attributes:
        wall: on the clock.
        processor: user and system, of this process.
    """

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Seconds:
        """Return the time so far."""
        return cls(time.perf_counter(), time.process_time())

    def since(self, earlier: Seconds) -> Seconds:
        """Return the time from an earlier one to this one."""
        return Seconds(*(now - before for now, before in zip(self, earlier, strict=True)))

    def plus(self, other: Seconds) -> Seconds:
        """Return the sum."""
        return Seconds(*(one + two for one, two in zip(self, other, strict=True)))


class MeasuredUnit(NamedTuple):
    """What a run took.

    Attributes:
        parts: the time of each part, without the parts inside it.
        queries, commits: of the database, posts included.
        peak_bytes: of the memory of the worker so far.
    """

    outcome: Outcome
    parts: dict[str, Seconds]
    queries: int
    commits: int
    peak_bytes: int

    @property
    def total(self) -> Seconds:
        """The time of the run."""
        return functools.reduce(Seconds.plus, self.parts.values())


class _Parts:
    """Measures the parts of a run, each without those inside it."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.seconds: dict[str, Seconds] = defaultdict(lambda: Seconds(0.0, 0.0))
        self._names = [REST]
        self._since = Seconds.now()

    def stop(self) -> dict[str, Seconds]:
        self._charge()
        return dict(self.seconds)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._charge()
        self._names.append(name)
        try:
            yield
        finally:
            self._charge()
            self._names.pop()

    def _charge(self) -> None:
        now = Seconds.now()
        passed = now.since(self._since)
        self._since = now
        self.seconds[self._names[-1]] = self.seconds[self._names[-1]].plus(passed)

    def measure_calls(self, owner: Any, function: str, name: str) -> None:
        """Charge the calls of a function to a part."""
        original = getattr(owner, function)

        @functools.wraps(original)
        def measured(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return original(*args, **kwargs)

        setattr(owner, function, measured)

    def measure_edges(self, owner: Any, function: str, name: str) -> None:
        """Charge the beginning and the end of a context manager to a part, without the block."""
        original = getattr(owner, function)

        @functools.wraps(original)
        def measured(*args: Any, **kwargs: Any) -> _Edges:
            return _Edges(original(*args, **kwargs), self, name)

        setattr(owner, function, measured)

    def measure_blocks(self, owner: Any, function: str, name: str) -> None:
        """Charge the blocks of a context manager to a part, with how they begin and end."""
        original = getattr(owner, function)

        @functools.wraps(original)
        @contextmanager
        def measured(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with self.part(name), original(*args, **kwargs) as value:
                yield value

        setattr(owner, function, measured)


class _Edges:
    """A context manager whose beginning and end are charged to a part."""

    def __init__(self, context: Any, parts: _Parts, name: str) -> None:
        self._context, self._parts, self._name = context, parts, name

    def __enter__(self) -> Any:
        with self._parts.part(self._name):
            return self._context.__enter__()

    def __exit__(self, *error: object) -> Any:
        with self._parts.part(self._name):
            return self._context.__exit__(*error)


@functools.cache
def _instrument() -> _Parts:
    """Replace the functions that begin a part by ones that measure it, once per process."""
    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.pipeline.run_context import RunContext
    from retrainer.posts.store import PostStore
    from retrainer.registry.artifacts import Artifacts
    from retrainer.registry.database import Database
    from retrainer.registry.production_links import ProductionLinks

    parts = _Parts()
    parts.measure_calls(LoadedAlgorithm, "train", "training")
    parts.measure_calls(RunContext, "evaluate", "evaluation")
    parts.measure_calls(PostStore, "load", "posts")
    parts.measure_edges(Artifacts, "staging", "files")
    for method in ("stage_version", "stage_forecasts", "publish", "read", "require_own_folder"):
        parts.measure_calls(Artifacts, method, "files")
    parts.measure_calls(ProductionLinks, "update", "files")
    for method in ("read", "write"):
        parts.measure_blocks(Database, method, "registry")
    return parts


@functools.cache
def _count_statements(engine: Any) -> dict[str, int]:
    counts = {"queries": 0, "commits": 0}

    def count(key: str) -> Callable[..., None]:
        def add(*_: Any) -> None:
            counts[key] += 1

        return add

    event.listen(engine, "before_cursor_execute", count("queries"))
    event.listen(engine, "commit", count("commits"))
    return counts


def measure_unit(spec: WorkerSpec, unit: Unit) -> MeasuredUnit:
    """Make the run of a unit as a worker of a fleet does."""
    from retrainer.fleet.worker import open_project, run_unit

    parts = _instrument()
    counts = _count_statements(open_project(spec.config_file, spec.settings).registry.database.engine)
    before = dict(counts)
    parts.start()
    outcome = run_unit(spec, unit)
    seconds = parts.stop()
    return MeasuredUnit(
        outcome,
        seconds,
        counts["queries"] - before["queries"],
        counts["commits"] - before["commits"],
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )
