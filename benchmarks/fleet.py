"""Measure the runs of a fleet of streams on PostgreSQL.

    make bench-fleet                                10,000 streams, 2,000 of them timed, 2 jobs: half an hour
    make bench-fleet STREAMS=1000 TIMED=200 JOBS=2

A temporary PostgreSQL server holds a project with 100 and one with STREAMS registered streams of 373 simulated posts,
each with a production version by `prophet` and a completed run. What is measured:

    processor    the processor time of a run in a warm worker, and how it is shared out
    size         the time of a run with STREAMS registered over that with 100, both in turn, in JOBS workers
    backends     the runs a minute of Dask and Ray, with JOBS workers each, over those of JOBS processes, in turn
    commits      the commits a second when processes do nothing but record runs

The last table is computed from the results: what 100,000 and 1,000,000 streams take.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import random
import statistics
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from threadpoolctl import threadpool_limits

from benchmarks.fleet_backends import measure_backends, open_backends
from benchmarks.fleet_commits import measure_writes
from benchmarks.fleet_projects import POSTS, create_registered, postgresql, stream_name
from benchmarks.fleet_worker import measure_unit
from benchmarks.scaling import print_scaling
from retrainer.fleet.local import _PRELOADED
from retrainer.fleet.units import Unit, WorkerSpec
from retrainer.parallel.child import NotStarted, WorkerLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from benchmarks.fleet_projects import Server
    from benchmarks.fleet_worker import MeasuredUnit, Seconds
    from retrainer.fleet.units import Outcome
    from retrainer.project import Project

FEW = 100
RUNS = 20  # of `processor`
PROCESSES = (1, 2, 4, 8)  # of `commits`
MEASURES = ("processor", "size", "backends", "commits")


class Fleet:
    """A project with registered streams, and the next units to run."""

    def __init__(self, project: Project, streams: int) -> None:
        self.project = project
        self.spec = WorkerSpec(project.config_file)
        self.streams = streams
        self._order = random.Random(0).sample(range(streams), streams)  # noqa: S311
        self._position = 0

    def take(self, count: int) -> list[Unit]:
        """Return the next units, at random places among the streams; after the last stream comes the first again."""
        numbers = [self._order[(self._position + number) % self.streams] for number in range(count)]
        self._position += count
        return [self._unit(stream_name(number)) for number in numbers]

    def _unit(self, name: str) -> Unit:
        last = self.project.for_stream(name).registry.get_last_completed_run("timing")
        known = () if last is None else (last.run_id, last.started_at)
        return Unit(name, "timing", *known)

    def check(self, outcomes: Iterable[Outcome | WorkerLost | NotStarted]) -> None:
        """Check that all runs completed."""
        for outcome in outcomes:
            if isinstance(outcome, WorkerLost | NotStarted) or outcome.kind not in {"promoted", "not_promoted"}:
                raise RuntimeError(f"a run failed: {outcome}")

    def close(self) -> None:
        """Close the connections to the database."""
        self.project.close()


def measure_processor(fleet: Fleet, server: Server, runs: int) -> dict[str, Any]:
    """Measure the processor time of runs in one warm worker, and how it is shared out."""
    with workers(1) as pool:
        _run(pool, fleet, 3)
        before = server.processor_seconds()
        measured, _ = _run(pool, fleet, runs)
        of_server = server.processor_seconds() - before
    return {
        "runs": runs,
        "processor_seconds": statistics.median(one.total.processor for one in measured),
        "server_processor_seconds": of_server / runs,
        "shares": _shares(measured, lambda seconds: seconds.processor),
    }


def measure_size(few: Fleet, many: Fleet, server: Server, timed: int, jobs: int) -> dict[str, Any]:
    """Measure the time of a run with few and with many streams registered, in turn."""
    block = 10 * jobs
    measured: dict[Fleet, list[MeasuredUnit]] = defaultdict(list)
    seconds: dict[Fleet, float] = defaultdict(float)
    with workers(jobs) as first, workers(jobs) as second:
        for pool, fleet in ((first, few), (second, many)):
            _run(pool, fleet, 3 * jobs)
        size, before = database_bytes(many), server.processor_seconds()
        while len(measured[many]) < timed:
            rounds = len(measured[many]) // block
            turns = [(second, many)] if rounds % 4 else [(first, few), (second, many)]
            for pool, fleet in turns if rounds % 8 else reversed(turns):
                found, passed = _run(pool, fleet, block)
                measured[fleet] += found
                seconds[fleet] += passed
        grown, of_server = database_bytes(many) - size, server.processor_seconds() - before
    of_few, of_many = (statistics.fmean(one.total.wall for one in measured[fleet]) for fleet in (few, many))
    found = measured[many]
    return {
        "streams": many.streams,
        "timed": len(found),
        "jobs": jobs,
        "seconds": of_many,
        "ratio": of_many / of_few,
        "processor_seconds": statistics.fmean(one.total.processor for one in found),
        "server_processor_seconds": of_server / sum(len(runs) for runs in measured.values()),
        "streams_a_second": len(found) / seconds[many],
        "peak_bytes": max(one.peak_bytes for one in found),
        "shares": _shares(found, lambda seconds: seconds.wall),
        "queries": statistics.fmean(one.queries for one in found),
        "commits": statistics.fmean(one.commits for one in found),
        "promoted": sum(one.outcome.kind == "promoted" for one in found) / len(found),
        "bytes_a_run": grown / len(found),
        "commits_a_second": sum(one.commits for one in found) / seconds[many],
    }


@contextmanager
def workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Start processes like those of a fleet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with ProcessPoolExecutor(count, context, _prepare_worker) as pool:
        yield pool


def _prepare_worker() -> None:
    logging.getLogger("retrainer").setLevel(logging.ERROR)
    threadpool_limits(1)


def database_bytes(fleet: Fleet) -> int:
    """Return the size of the database of a fleet."""
    with fleet.project.registry.database.read() as session:
        return int(session.scalar(sa.text("SELECT pg_database_size(current_database())")) or 0)


def _run(pool: ProcessPoolExecutor, fleet: Fleet, count: int) -> tuple[list[MeasuredUnit], float]:
    """Run the next units; return what they took, and the seconds that passed."""
    units = fleet.take(count)
    started = time.perf_counter()
    measured = list(pool.map(measure_unit, [fleet.spec] * count, units))
    seconds = time.perf_counter() - started
    fleet.check([one.outcome for one in measured])
    return measured, seconds


def _shares(measured: Sequence[MeasuredUnit], of: Callable[[Seconds], float]) -> dict[str, float]:
    """Return the share of each part of the runs, the largest first."""
    sums: dict[str, float] = defaultdict(float)
    for one in measured:
        for part, seconds in one.parts.items():
            sums[part] += of(seconds)
    total = sum(sums.values())
    return {part: sums[part] / total for part in sorted(sums, key=sums.__getitem__, reverse=True) if sums[part]}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=10_000, help="registered in the larger project")
    parser.add_argument("--timed", type=int, default=2_000, help="runs of the larger project that are timed")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement of commits")
    parser.add_argument("--measure", default=",".join(MEASURES), help="which of them, separated by commas")
    parser.add_argument("--json", type=Path, default=Path("bench-fleet.json"), help="the file for all results")
    options = parser.parse_args(arguments)
    wanted = options.measure.split(",")
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        server = stack.enter_context(postgresql())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        few, many = (
            stack.enter_context(closing(_create(server, folder / name, streams)))
            for name, streams in (("few", FEW), ("many", options.streams))
        )
        if "processor" in wanted:
            found["processor"] = measure_processor(many, server, RUNS)
            _print_processor(found["processor"])
        if "size" in wanted:
            found["storage"] = _measure_storage(many)
            found["size"] = measure_size(few, many, server, options.timed, options.jobs)
            _print_size(found["size"])
        if "backends" in wanted:
            backends = stack.enter_context(open_backends(options.jobs))
            found["backends"] = measure_backends(many, backends, options.timed // 3, options.jobs)
            for name, result in found["backends"].items():
                print(
                    f"{name:10} {result['runs_a_minute']:.0f} runs a minute, {result['ratio']:.2f} of local processes"
                )
        if "commits" in wanted:
            for lock_per_process in (False, True):
                rates = measure_writes(
                    few.spec.config_file, PROCESSES, options.seconds, lock_per_process=lock_per_process
                )
                name = "own locks" if lock_per_process else "one lock"
                found.setdefault("commits", {})[name] = {rate.processes: rate.runs for rate in rates}
                for rate in rates:
                    print(
                        f"{name}, {rate.processes} processes: {rate.runs:.0f} runs, {rate.commits:.0f} commits a second"
                    )
    options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if {"size", "commits"} <= found.keys():
        print_scaling(found)
    print(f"All results: {options.json}")


def _create(server: Server, folder: Path, streams: int) -> Fleet:
    started = time.perf_counter()
    with server.unsafe():
        project = create_registered(folder, server.create_database(folder.name), streams)
    print(f"Registered {streams:,} streams of {POSTS} posts in {time.perf_counter() - started:.0f} s", flush=True)
    return Fleet(project, streams)


def _measure_storage(fleet: Fleet) -> dict[str, float]:
    """Return the bytes of a registered stream, and those of the files of a version."""
    version = fleet.project.for_stream(stream_name(0)).registry.get_production("timing")
    files = [] if version is None else fleet.project.registry.list_files(version.version_id)
    return {
        "bytes_a_stream": database_bytes(fleet) / fleet.streams,
        "file_bytes_a_version": sum(file.size for file in files),
        "files_a_version": len(files),
    }


def _print_processor(found: dict[str, Any]) -> None:
    print(
        f"Processor time of a run: {found['processor_seconds']:.3f} s (median of {found['runs']}), "
        f"and {found['server_processor_seconds']:.3f} s of the server"
    )
    _print_shares(found["shares"])


def _print_size(found: dict[str, Any]) -> None:
    print(
        f"A run with {found['streams']:,} streams registered: {found['seconds']:.3f} s, {found['ratio']:.3f} of that "
        f"with {FEW} ({found['timed']:,} timed, {found['jobs']} jobs, {found['promoted']:.0%} promoted)\n"
        f"  {found['streams_a_second']:.2f} streams a second; {found['queries']:.0f} queries and "
        f"{found['commits']:.1f} commits each, {found['commits_a_second']:.0f} commits a second\n"
        f"  peak memory of a worker: {found['peak_bytes'] / 1e6:.0f} MB"
    )
    _print_shares(found["shares"])


def _print_shares(shares: dict[str, float]) -> None:
    print("  " + ", ".join(f"{part} {share:.1%}" for part, share in shares.items()), flush=True)


if __name__ == "__main__":
    logging.getLogger("retrainer").setLevel(logging.ERROR)
    main()
