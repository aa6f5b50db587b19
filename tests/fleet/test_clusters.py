"""Fleets on real clusters, whose workers are killed and whose scheduler goes away."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import sqlalchemy as sa
import yaml

from retrainer.errors import ConfigError, DatabaseError
from retrainer.fleet import worker
from retrainer.fleet.run import run_fleet
from retrainer.fleet.selection import Selection
from retrainer.fleet.units import Outcome, Unit, UnitError, WorkerSpec
from retrainer.fleet.worker import close_project, run_unit
from retrainer.logs import StderrFormatter
from retrainer.parallel import child
from retrainer.parallel.child import WorkerLost, call_in_child
from retrainer.parallel.dask import DaskCluster
from retrainer.parallel.remote_project import open_elsewhere, portable_settings
from retrainer.registry.liveness import HEARTBEAT_SECONDS, MAX_MISSED_HEARTBEATS, ProcessIdentity, explain_death
from retrainer.registry.staging import STAGING, _entry
from retrainer.registry.tables import ModelVersion, TrainingRun
from tests.clusters import Cluster, Dask, Ray, wait_until
from tests.conftest import NOW, configure, open_project, runtime_of
from tests.fleet.conftest import add_streams
from tests.fleet.test_fleet import on_sqlite
from tests.fleet.test_fleet_kills import NAMES, _require_consistent, start
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from retrainer.project import Project
    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins

KILLS = 8


@pytest.fixture(params=[Dask, Ray], ids=["dask", "ray"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Cluster:
    made: Cluster = request.param(tmp_path / "cluster")
    return made


@pytest.mark.slow
def test_fifty_streams_survive_killed_workers(folder: Path, cluster: Cluster, retrainer: Runner) -> None:
    add_streams(folder, NAMES)
    project = open_project(folder)
    choose = random.Random(17)  # noqa: S311  no secret
    with cluster:
        process = start(folder, *cluster.arguments, "--json")
        for kill in range(KILLS):
            while len(project.registry.across(None).list_runs()) < 5 * (kill + 1) and process.poll() is None:
                time.sleep(0.05)
            cluster.kill_worker(choose)
        out, err = process.communicate(timeout=600)
        document = json.loads(out)
        assert process.returncode in {0, 1}, err
        assert {run["stream"] for run in document["training_runs"]} | {
            error["stream"] for error in document["errors"]
        } == set(NAMES)
        assert {error["code"] for error in document["errors"]} <= {"worker_lost"}
        assert "Trying again" in err
        assert "retrainer" not in re.sub(r"\S*/\S*", "", cluster.printed())
    _require_consistent(project, document)
    doctor = retrainer("doctor")
    assert doctor.code == 0, doctor.out
    rest = retrainer("train", "timing", "--all-streams", "--if-due", "--json")
    assert rest.code == 0
    assert all(project.for_stream(name).registry.get_production("timing") for name in NAMES)


@on_sqlite
@pytest.mark.slow
def test_a_scheduler_that_goes_loses_no_stream(
    folder: Path, cluster: Cluster, plugins: Plugins, retrainer: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_streams(folder, NAMES[:10])
    project = open_project(folder)
    gone, begun = folder / "gone", folder / "begun"
    begun.mkdir()
    wait = f"import tempfile, time; tempfile.mkstemp(dir={str(begun)!r})\n"
    wait += f"while len(os.listdir({str(begun)!r})) > 5 and not Path({str(gone)!r}).exists(): time.sleep(0.01)"
    # From the sixth run on, they wait until the scheduler is gone.
    plugins.add("waiting", timing_algorithm("waiting", train=wait))
    for name, value in plugins.environ.items():
        monkeypatch.setenv(name, value)
    registry = project.registry.across(None)
    with cluster:
        process = start(folder, *cluster.arguments, "--algorithm", "waiting", "--json")
        while len(registry.list_runs()) < 6:
            assert process.poll() is None
            time.sleep(0.05)
        cluster.kill_scheduler()
        out, err = process.communicate(timeout=600)
        document = json.loads(out)
        assert process.returncode == 1, err
        assert "cluster at '127.0.0.1:" in document["stopped"]
        assert "is gone. Start it, and run the command again" in document["stopped"]
        assert "Traceback" not in err
        assert document["not_started"]
    wait_until(lambda: len(registry.find_dead_runs()) >= len(registry.list_running_runs()), "runs go on")
    gone.touch()
    arguments = ("train", "timing", "--all-streams", "--if-due", "--jobs", "2", "--algorithm", "waiting", "--json")
    rest = retrainer(*arguments, env=plugins.environ)
    assert rest.code == 0, rest.err
    for name in NAMES[:10]:
        runs = project.for_stream(name).registry.list_runs("timing")
        assert [run.status for run in runs].count("completed") == 1
        assert all(run.error for run in runs if run.status == "failed")
    assert retrainer("doctor", env=plugins.environ).code == 0


@on_sqlite
@pytest.mark.slow
@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_cancels_what_was_not_started(
    signals: int, folder: Path, cluster: Cluster, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_streams(folder, NAMES[:5])
    project = open_project(folder)
    go_on = folder / "go_on"
    wait = f"import time\nwhile not Path({str(go_on)!r}).exists(): time.sleep(0.01)"
    plugins.add("waiting", timing_algorithm("waiting", train=wait))
    for name, value in plugins.environ.items():
        monkeypatch.setenv(name, value)
    with cluster:
        process = start(folder, *cluster.arguments, "--algorithm", "waiting", "--json")
        assert process.stderr is not None
        while len(project.registry.across(None).list_runs()) < 2:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        while "Stopping; runs in progress may finish" not in process.stderr.readline():
            assert process.poll() is None
        if signals == 2:
            process.send_signal(signal.SIGINT)
        else:
            if isinstance(cluster, Dask):
                cluster.wait_until_withdrawn()
            go_on.touch()
        out, _ = process.communicate(timeout=600)
    assert process.returncode == 130
    assert len(json.loads(out)["not_started"]) == 3
    runs = project.registry.across(None).list_runs()
    assert [run.status for run in runs] == ["failed" if signals == 2 else "completed"] * 2
    assert all("interrupted" in (run.error or "") for run in runs if run.status == "failed")


@pytest.mark.usefixtures("_no_worker_keeps_the_project")
@pytest.mark.slow_on_postgresql
def test_a_worker_on_another_machine_opens_the_shared_database(
    folder: Path,
    streams: list[str],
    project: Project,
    retrainer: Runner,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec = WorkerSpec(tmp_path / "not here" / "config" / "config.yaml", settings=portable_settings(project))
    selection = Selection([Unit(streams[0], "timing")], 1)
    (outcome,) = run_fleet(project, runtime_of(project), spec, selection, _InThisProcess()).outcomes
    if project.settings.database.url.startswith("sqlite"):
        assert outcome.kind == "failed"
        assert "cannot open the SQLite database" in str(outcome.error)
        return
    assert outcome.kind == "promoted", outcome.error
    own = project.for_stream(streams[0]).registry
    assert own.get_production("timing")
    assert own.list_runs()[0].project_folder == str(tmp_path / "not here")
    files = "cache/retrainer/*/models/timing/*/manifest.json"
    assert list(tmp_path.glob(files))
    assert project.for_stream(streams[0]).production_links.find_problem("timing") is None
    assert retrainer("doctor").code == 0
    with own.database.write() as session:
        session.execute(sa.update(ModelVersion).values(pruned_at=NOW))
    close_project()
    worker.open_project(spec.config_file, spec.settings)
    assert not list(tmp_path.glob(files))


class _InThisProcess:
    """A backend whose only worker is this process."""

    def run(
        self, spec: WorkerSpec, next_unit: Callable[[], Unit | None], is_stopping: Callable[[], bool]
    ) -> Generator[tuple[Unit, Outcome | WorkerLost], None, None]:
        del is_stopping
        while (unit := next_unit()) is not None:
            yield unit, run_unit(spec, unit)


@on_sqlite
@pytest.mark.usefixtures("_no_worker_keeps_the_project")
def test_links_are_right_although_a_worker_has_its_own_models_folder(
    folder: Path, streams: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configure(folder, url=f'"sqlite:///{open_project(folder).registry.database.engine.url.database}"')
    own = tmp_path / "own"
    shutil.copytree(folder / "config", own / "config")
    project = open_project(folder)
    spec = WorkerSpec(project.config_file, settings=portable_settings(project))
    selection = Selection([Unit(streams[0], "timing")], 1)
    with monkeypatch.context() as environment:
        environment.setenv("RETRAINER_CONFIG", str(own / "config" / "config.yaml"))
        (outcome,) = run_fleet(project, runtime_of(project), spec, selection, _InThisProcess()).outcomes
    assert outcome.kind == "promoted", outcome.error
    assert list(own.glob("models/timing/*/manifest.json"))
    assert project.for_stream(streams[0]).production_links.find_problem("timing") is None


@pytest.mark.usefixtures("_no_worker_keeps_the_project")
def test_a_worker_removes_what_dead_ones_left(project: Project) -> None:
    left = project.models_dir / STAGING / ("0" * 16)
    left.mkdir(parents=True)
    (left / "model.json").write_text("{}")
    left.with_name(f"{left.name}.journal").write_bytes(_entry(left, "timing"))
    worker.open_project(project.config_file, portable_settings(project))
    assert not left.parent.exists()


@pytest.fixture
def _children(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start child processes of the test's own, and end them with it."""
    idle: list[child._Child] = []
    monkeypatch.setattr(child, "_idle", idle)
    yield
    for one in idle:
        one.end()


@pytest.mark.usefixtures("_children")
def test_a_process_that_must_end_gets_no_other_call() -> None:
    others = set(psutil.Process().children())
    error = UnitError(DatabaseError.code, "it went away", "", 1)
    answer = call_in_child("", partial(Outcome, "news", "timing", "failed", error=error), "run")
    assert answer.result.error == error
    assert set(psutil.Process().children()) == others


@pytest.mark.usefixtures("_children")
def test_calls_are_not_slowed_down_by_how_dask_has_its_workers_give_memory_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    assert call_in_child("", os.getenv, "MALLOC_TRIM_THRESHOLD_").result is None


@pytest.mark.usefixtures("_children")
def test_log_records_leave_a_worker_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    value = "only this worker has it"
    monkeypatch.setenv("SOME_API_KEY", value)
    log = partial(logging.getLogger("retrainer.test").error, "cannot use %s", exc_info=ValueError(value))
    (record,) = call_in_child("", log, value).records
    assert value not in repr(vars(record))
    assert StderrFormatter(tracebacks=False).format(record) == "ERROR: cannot use ***"
    assert StderrFormatter(tracebacks=True).format(record) == "ERROR: cannot use ***\nValueError: ***"


@pytest.mark.slow
def test_a_dask_worker_that_goes_before_its_unit_arrives_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrainer.parallel.dask.POLL_SECONDS", 0)  # look at the workers each time
    with Dask(tmp_path / "cluster") as dask, closing(DaskCluster.connect(dask.address)) as cluster:

        def next_unit() -> int:
            dask.kill_workers()
            while cluster._client.nthreads():
                time.sleep(0.05)
            return -1

        with closing(cluster.run(abs, next_unit)) as results:
            unit, lost = next(results)
    assert unit == -1
    assert isinstance(lost, WorkerLost)
    assert "is gone" in lost.reason


def test_settings_are_handed_over_without_secrets(folder: Path, tmp_path: Path) -> None:
    url = "postgresql+psycopg://ann:s3cret@db.example/posts?sslpassword=hidden&sslmode=require"
    configure(folder, url=f'"{url}"')
    path = folder / "config" / "config.yaml"
    settings = yaml.safe_load(path.read_text()) | {"streams": {"a*": {"retraining": {"test_split": 0.3}}}}
    path.write_text(yaml.safe_dump(settings))
    content = portable_settings(open_project(folder, {"RETRAINER_RETRAINING__MIN_TRAINING_SAMPLES": "60"}))
    assert "s3cret" not in content
    assert "hidden" not in content
    assert yaml.safe_load(content)["database"]["url"] == "postgresql+psycopg://ann@db.example/posts?sslmode=require"
    elsewhere = Path("/not here/config.yaml")
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    opened = open_elsewhere(elsewhere, content, cache)
    assert opened.settings.database.url == "postgresql+psycopg://ann@db.example/posts?sslmode=require"
    assert opened.settings.retraining.min_training_samples == 60
    assert opened.for_stream("abc").settings.retraining.test_split == 0.3
    assert open_elsewhere(path, content, {}).settings.database.url == url
    assert open_elsewhere(elsewhere, content, {"RETRAINER_CONFIG": str(path)}).settings.database.url == url
    own = open_elsewhere(elsewhere, content, {**cache, "RETRAINER_DATABASE__URL": "postgresql+psycopg://bob@x/posts"})
    assert own.settings.database.url == "postgresql+psycopg://bob@x/posts"


def test_a_sqlite_database_of_another_machine_is_refused(folder: Path) -> None:
    content = portable_settings(open_project(folder, {"RETRAINER_DATABASE__URL": "sqlite:///data/x.db"}))
    with pytest.raises(ConfigError, match="Use PostgreSQL"):
        open_elsewhere(Path("/not here/config.yaml"), content, {})


@pytest.mark.slow  # waits for a heartbeat
@pytest.mark.usefixtures("_no_worker_keeps_the_project")
def test_a_retry_waits_until_the_run_of_the_lost_worker_counts_as_dead(
    folder: Path, streams: list[str], project: Project
) -> None:
    own = project.for_stream(streams[0])
    lost = own.registry.start_run("timing", "baseline", datetime.now(UTC), None)
    spec = WorkerSpec(project.config_file)

    def be_elsewhere(seconds_left: float) -> None:
        """Let the run be one of another machine, which counts as dead in so many seconds."""
        beat = datetime.now(UTC) - timedelta(seconds=HEARTBEAT_SECONDS * MAX_MISSED_HEARTBEATS - seconds_left)
        with own.registry.database.write() as session:
            session.execute(sa.update(TrainingRun).values(host="elsewhere", heartbeat_at=beat))

    be_elsewhere(150)
    assert run_unit(spec, Unit(streams[0], "timing")).kind == "skipped"
    be_elsewhere(15)
    engine = worker.open_project(spec.config_file).registry.database.engine
    statements: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    assert run_unit(spec, Unit(streams[0], "timing", is_retry=True)).kind == "promoted"
    locks = [statement for statement in statements if "BEGIN IMMEDIATE" in statement or "advisory" in statement]
    assert 0 < len(locks) < 40  # it leaves the lock of all writers to others
    assert own.registry.get_run(lost.run_id).status == "failed"


@pytest.mark.parametrize("minutes", [-1, 1])
def test_a_minute_between_clocks_is_neither_death_nor_life(minutes: int) -> None:
    clock = datetime.now(UTC)
    here = ProcessIdentity.current()
    elsewhere = ProcessIdentity("elsewhere", here.pid, here.boot_id, here.started_at)
    beat = clock + timedelta(minutes=minutes)
    assert explain_death(elsewhere, beat, None, clock) is None
    assert explain_death(elsewhere, beat, None, clock + timedelta(minutes=4)) is not None


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--backend", "dask"], 2, "--backend dask needs an address. Name the cluster with --scheduler ADDRESS"),
        (["--backend", "ray"], 2, "--backend ray needs an address. Name the cluster with --address ADDRESS"),
        (["--scheduler", "x:1"], 2, "--scheduler requires --backend dask"),
        (["--backend", "dask", "--scheduler", "x:1", "--jobs", "2"], 2, "--jobs requires --backend local"),
        (["--backend", "spark"], 2, "'spark' (choose local, dask or ray)"),
    ],
)
def test_options_of_a_cluster_must_fit(
    arguments: list[str], code: int, message: str, streams: list[str], retrainer: Runner
) -> None:
    done = retrainer("train", "--all-streams", *arguments)
    assert (done.code, done.err.count("\n")) == (code, 1)
    assert message in done.err


def test_a_missing_library_is_one_line(streams: list[str], retrainer: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, option in (("dask", "--scheduler"), ("ray", "--address")):
        monkeypatch.setitem(sys.modules, "distributed" if name == "dask" else name, None)
        done = retrainer("train", "--all-streams", "--backend", name, option, "127.0.0.1:1")
        assert done.code == 2
        assert f"Run: pip install 'retrainer[{name}]'" in done.err


@on_sqlite
@pytest.mark.slow  # a connection times out
@pytest.mark.parametrize("address", ["127.0.0.1:1", "http://x", "no such host:1"])
def test_an_unreachable_scheduler_is_one_line(address: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "retrainer", "train", "--all-streams", "--backend", "dask", "--scheduler", address],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"cannot connect to the Dask cluster at '{address}'" in done.stderr
