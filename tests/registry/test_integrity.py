"""Changed model files are noticed; the ledger, the indexes and the migrations keep their promises."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError

from retrainer.errors import ArtifactError, ConfigError, NothingToRollBack, PromotionRefused
from retrainer.pipeline.evaluations import evaluate_version
from retrainer.pipeline.forecast import predict_next
from retrainer.pipeline.promotion import promote_version, roll_back
from retrainer.pipeline.run import retrain
from retrainer.registry.database import create_engine
from retrainer.registry.migrations import HEAD
from retrainer.registry.runs import RunFilter
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of, version_folder
from tests.registry.first_schema import create_first_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from retrainer.project import Project
    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins

TELLTALE = """
    import json
    import numpy as np
    from pathlib import Path
    from retrainer.algorithms import Algorithm, hookimpl

    @hookimpl
    def algorithm():
        return Algorithm(name="telltale", model_types=("timing",), summary="Tells when it is read.")

    @hookimpl
    def train(posts):
        return {{"hours": 5.0}}

    @hookimpl
    def save(model, directory):
        (directory / "part").mkdir()
        (directory / "model.json").write_text(json.dumps(model))
        (directory / "part" / "weights.bin").write_bytes(bytes(range(64)))
        return ["model.json", "part/weights.bin"]

    @hookimpl
    def load(directory):
        with open({telltale!r}, "a") as file:
            file.write("read\\n")
        return json.loads((directory / "model.json").read_text())

    @hookimpl
    def predict(model, origins):
        from retrainer.model_types.timing import TimingForecasts
        quantiles = np.full((len(origins), 99), model["hours"])
        return TimingForecasts(quantiles, quantiles[:, 0])
"""


@pytest.fixture
def telltale(plugins: Plugins, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Install an algorithm that records in this file whenever it loads its model."""
    path = tmp_path / "telltale"
    plugins.add("telltale", TELLTALE.format(telltale=str(path)))
    monkeypatch.syspath_prepend(str(plugins.site))
    return path


@pytest.fixture
def two_versions(folder: Path, telltale: Path) -> tuple[Project, str, str]:
    """A project whose second version replaced the first."""
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    ids = []
    for _ in range(2):
        run = retrain(project, runtime_of(project), "timing", NOW, algorithm="telltale").run
        assert run
        ids.append(str(run.model_version_id))
    promote_version(project, runtime_of(project), ids[1], "newer", NOW)
    return project, ids[0], ids[1]


@pytest.mark.parametrize(
    "flips", [20, pytest.param(100, marks=pytest.mark.slow), pytest.param(5000, marks=pytest.mark.soak)]
)
def test_any_flipped_byte_is_refused_before_the_file_is_read(
    flips: int, two_versions: tuple[Project, str, str], telltale: Path
) -> None:
    @settings(max_examples=flips)
    @given(data=st.data())
    def flip(data: st.DataObject) -> None:
        flip_a_bit(data, *two_versions, telltale)

    flip()


def flip_a_bit(data: st.DataObject, project: Project, old: str, live: str, telltale: Path) -> None:
    """Flip any bit of any file of either version, and try every use of it."""
    version_id = data.draw(st.sampled_from([old, live]))
    folder = version_folder(project, "timing", version_id)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert {path.name for path in files} >= {"manifest.json", "model.json", "weights.bin"}
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    index = data.draw(st.integers(0, len(content) - 1))
    bit = data.draw(st.integers(0, 7))
    path.write_bytes(content[:index] + bytes([content[index] ^ (1 << bit)]) + content[index + 1 :])
    telltale.write_text("")
    attempts: list[Callable[[], object]] = [lambda: evaluate_version(project, runtime_of(project), version_id, NOW)]
    if version_id == live:
        attempts.append(lambda: predict_next(project, runtime_of(project), "timing", NOW))
    else:
        attempts.append(lambda: promote_version(project, runtime_of(project), version_id, "flip", NOW))
        attempts.append(lambda: roll_back(project, runtime_of(project), "timing", "flip", NOW))
    try:
        for attempt in attempts:
            with pytest.raises(ArtifactError, match=re.escape(f"'{path.relative_to(folder)}' of '{version_id}'")):
                attempt()
        assert telltale.read_text() == "", "not a file was parsed"
        production = project.registry.get_production("timing")
        assert production
        assert production.version_id == live
    finally:
        path.write_bytes(content)


@pytest.mark.slow_on_postgresql
def test_a_flipped_byte_is_one_line_and_exit_1(
    two_versions: tuple[Project, str, str], retrainer: Runner, plugins: Plugins
) -> None:
    project, old, live = two_versions
    path = version_folder(project, "timing", live) / "part" / "weights.bin"
    path.write_bytes(b"\x01" + path.read_bytes()[1:])
    for arguments in (("evaluate", live), ("predict", "timing")):
        done = retrainer(*arguments, env=plugins.environ)
        assert done.code == 1
        assert f"Error: 'part/weights.bin' of '{live}' was modified" in done.err
    path = version_folder(project, "timing", old) / "model.json"
    path.write_bytes(b"[" + path.read_bytes()[1:])
    for arguments in (("promote", old), ("rollback", "timing")):
        done = retrainer(*arguments, env=plugins.environ)
        assert done.code == 1
        assert f"Error: 'model.json' of '{old}' was modified" in done.err


def test_the_ledger_can_only_grow(project: Project) -> None:
    retrain(project, runtime_of(project), "timing", NOW)
    engine = project.registry.database.engine
    for statement in ("UPDATE retrainer_ledger SET reason = 'another'", "DELETE FROM retrainer_ledger"):
        with pytest.raises(DBAPIError, match="the ledger can only grow"), engine.begin() as connection:
            connection.execute(sa.text(statement))
    assert len(project.registry.list_ledger_entries()) == 1


def test_production_at_a_past_time(folder: Path) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    times: list[datetime] = []
    live: list[str | None] = []
    times.append(datetime.now(UTC))
    live.append(None)
    for _ in range(3):
        run = retrain(project, runtime_of(project), "timing", NOW).run
        assert run
        promote_version(project, runtime_of(project), str(run.model_version_id), "next", NOW)
        times.append(datetime.now(UTC))
        live.append(run.model_version_id)
    roll_back(project, runtime_of(project), "timing", "back", NOW)
    times.append(datetime.now(UTC))
    live.append(live[-2])
    for time, version_id in zip(times, live, strict=True):
        found = project.registry.get_production_at("timing", time)
        assert (found and found.version_id) == version_id
    assert project.registry.get_production_at("content", times[-1]) is None


@pytest.mark.slow_on_postgresql
def test_rollback_one_by_one_and_to_a_version(folder: Path) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    ids = []
    for _ in range(5):
        run = retrain(project, runtime_of(project), "timing", NOW).run
        assert run
        ids.append(str(run.model_version_id))
        promote_version(project, runtime_of(project), ids[-1], "next", NOW)
    assert roll_back(project, runtime_of(project), "timing", "one", NOW).to_version == ids[3]
    assert roll_back(project, runtime_of(project), "timing", "two", NOW).to_version == ids[2]
    assert roll_back(project, runtime_of(project), "timing", "to", NOW, to=ids[0]).to_version == ids[0]
    assert [entry.to_version_id for entry in project.registry.list_ledger_entries(actions=("rollback",))] == [
        ids[0],
        ids[1],
        ids[2],
        ids[3],
    ]
    with pytest.raises(NothingToRollBack, match="is the first timing version"):
        roll_back(project, runtime_of(project), "timing", "three", NOW)
    promote_version(project, runtime_of(project), ids[4], "forward", NOW)
    assert roll_back(project, runtime_of(project), "timing", "again", NOW).to_version == ids[0]
    with pytest.raises(NothingToRollBack, match="was not in production before"):
        roll_back(project, runtime_of(project), "timing", "never", NOW, to=ids[4])
    with pytest.raises(NothingToRollBack, match="is in production already"):
        roll_back(project, runtime_of(project), "timing", "same", NOW, to=ids[0])
    assert (project.models_dir / "timing_model").readlink().name == ids[0]


def test_a_pinned_version_is_not_archived_and_an_archived_one_can_be_restored(folder: Path) -> None:
    configure(folder, keep_versions="1")
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    registry = project.registry
    first = retrain(project, runtime_of(project), "timing", NOW - timedelta(minutes=2)).run
    second = retrain(project, runtime_of(project), "timing", NOW - timedelta(minutes=1)).run
    assert first
    assert second
    assert registry.pin(str(second.model_version_id), "keep", NOW, pinned=True)
    assert not registry.pin(str(second.model_version_id), "keep", NOW, pinned=True)
    for minutes in range(1, 4):
        retrain(project, runtime_of(project), "timing", NOW + timedelta(minutes=minutes))
    states = {version.version_id: version.status for version in registry.list_versions("timing")}
    assert states[str(second.model_version_id)] == "trained"
    archived = [version_id for version_id, status in states.items() if status == "archived"]
    assert archived
    assert registry.restore(archived[0], "needed", NOW)
    assert registry.get_version(archived[0]).status == "trained"
    assert not registry.restore(archived[0], "again", NOW)
    actions = [entry.action for entry in registry.version_history(archived[0])]
    assert actions[:2] == ["restore", "archive"]


def test_the_production_version_cannot_be_pruned(project: Project) -> None:
    run = retrain(project, runtime_of(project), "timing", NOW).run
    assert run
    assert project.registry.prune([str(run.model_version_id)], "no", NOW) == []


def test_a_pruned_version_cannot_be_restored(folder: Path) -> None:
    configure(folder, keep_versions="1")
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    for minutes in range(4):
        retrain(project, runtime_of(project), "timing", NOW + timedelta(minutes=minutes))
    (version, *_) = project.registry.list_versions("timing", status="archived")
    project.registry.prune([version.version_id], "space", NOW)
    with pytest.raises(PromotionRefused, match=r"were pruned on 2024-11-15.*the model was deleted"):
        project.registry.restore(version.version_id, "back", NOW)


@pytest.mark.slow_on_postgresql
def test_history_is_filtered_and_paged_in_the_database(folder: Path) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    for day in range(5):
        retrain(project, runtime_of(project), "timing", NOW + timedelta(days=day))
    registry = project.registry
    assert registry.count_runs() == 5
    assert [run.promoted_to_production for run in registry.list_runs(run_filter=RunFilter(promoted=True))] == [True]
    assert registry.count_runs(run_filter=RunFilter(promoted=False)) == 4
    middle = registry.list_runs(run_filter=RunFilter(since=NOW + timedelta(days=1), until=NOW + timedelta(days=3)))
    assert [run.started_at for run in middle] == [NOW + timedelta(days=2), NOW + timedelta(days=1)]
    second = registry.list_runs(limit=2, run_filter=RunFilter(offset=2))
    assert [run.started_at for run in second] == [NOW + timedelta(days=2), NOW + timedelta(days=1)]
    assert registry.count_runs(run_filter=RunFilter(status="failed")) == 0
    assert registry.count_runs("content") == 0


class Statements:
    """The SELECT statements that an engine runs, with their parameters."""

    def __init__(self, engine: sa.Engine) -> None:
        self.seen: list[tuple[str, Any]] = []
        self._engine = engine
        sa.event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, _c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        if statement.lstrip().upper().startswith("SELECT") and "retrainer_" in statement:
            self.seen.append((statement, parameters))

    def plans(self) -> Iterator[tuple[str, str]]:
        """Yield each statement with its query plan."""
        sa.event.remove(self._engine, "before_cursor_execute", self._note)
        explain = "EXPLAIN QUERY PLAN " if self._engine.dialect.name == "sqlite" else "EXPLAIN "
        with self._engine.connect() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SET enable_seqscan = off")  # on small tables it would not look further
            for statement, parameters in self.seen:
                rows = connection.exec_driver_sql(explain + statement, parameters).fetchall()
                yield statement, "\n".join(str(row[-1]) for row in rows)


def test_the_queries_of_the_commands_use_indexes(folder: Path) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    ids = []
    for _ in range(2):
        run = retrain(project, runtime_of(project), "timing", NOW).run
        assert run
        ids.append(str(run.model_version_id))
    registry = project.registry
    statements = Statements(registry.database.engine)
    registry.list_runs(limit=10)
    registry.list_runs("timing", limit=10)
    registry.list_versions(limit=10)
    registry.list_versions("timing", limit=10)
    registry.get_production("timing")
    registry.find_in_production("timing")
    registry.get_production_at("timing", NOW)
    registry.list_running_runs()
    registry.promote(ids[1], ids[0], "plan", NOW)
    registry.find_promotions_to_undo("timing")
    registry.version_history(ids[0])
    registry.list_ledger_entries(model_type="timing", actions=("promotion", "rollback"), limit=10)
    registry.list_evaluations(ids[0])
    registry.list_files(ids[0])
    assert len(statements.seen) >= 14
    for statement, plan in statements.plans():
        assert not re.search(r"SCAN (?!.*USING (?:COVERING )?INDEX)|Seq Scan", plan), f"{statement}\n{plan}"
        if "LIMIT" in statement:
            assert not re.search(r"TEMP B-TREE|Sort", plan), f"sorts before it limits: {statement}\n{plan}"


def test_an_old_schema_is_upgraded_with_its_data(folder: Path) -> None:
    database = create_first_schema(folder)
    assert database.revision() == "0001"
    database.close()
    project = open_project(folder)
    assert project.registry.database.revision() == HEAD
    version = project.registry.get_version("old")
    assert version.is_production
    assert version.pruned_at is None
    assert [entry.reason for entry in project.registry.list_ledger_entries()] == ["first"]
    with pytest.raises(DBAPIError, match="only grow"), project.registry.database.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM retrainer_ledger"))


def test_a_ledger_with_rollbacks_is_upgraded_with_what_they_undo(folder: Path) -> None:
    database = create_first_schema(folder)
    insert = (
        "INSERT INTO retrainer_ledger (at, recorded_at, model_type, action, version_id, from_version_id, "
        "to_version_id, actor, automatic, reason, undoes, evidence) "
        "SELECT at, recorded_at, model_type, 'rollback', version_id, "
        "version_id, version_id, actor, automatic, 'undone', entry_id, evidence FROM retrainer_ledger"
    )
    with database.engine.execution_options(retrainer_writes=True).begin() as connection:
        connection.execute(sa.text(insert))
    database.close()
    registry = open_project(folder).registry
    registry.hold("timing", "later", NOW)
    registry.record_files(registry.key("timing"), "cleanup", "last")
    found = [(entry.entry_id, entry.reason, entry.undoes) for entry in registry.list_ledger_entries()]
    assert found == [(4, "last", None), (3, "later", None), (2, "undone", 1), (1, "first", None)]
    with pytest.raises(DBAPIError), registry.database.engine.begin() as connection:
        connection.execute(sa.text(insert.replace("'rollback'", "'unheard of'")))


@pytest.mark.slow_on_postgresql
def test_a_migration_killed_half_way_leaves_the_old_schema_intact(folder: Path) -> None:
    """The process kills itself after the first statement that changes the schema."""
    database = create_first_schema(folder)
    script = (
        "import os, signal, sys; from pathlib import Path; import sqlalchemy as sa; from sqlalchemy import event;"
        "from retrainer.project import Project;"
        "event.listen(sa.Engine, 'after_cursor_execute', lambda c, cur, s, *a: "
        "os.kill(os.getpid(), signal.SIGKILL) if s.lstrip().startswith('ALTER TABLE') else None);"
        f"Project.find(Path({str(folder)!r}), {{}}).registry"
    )
    killed = subprocess.run([sys.executable, "-c", script], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert database.revision() == "0001"
    columns = {column["name"] for column in sa.inspect(database.engine).get_columns("retrainer_model_versions")}
    assert "pruned_at" not in columns
    database.close()
    assert open_project(folder).registry.get_version("old").is_production


def test_stored_posts_belong_to_the_default_stream_after_an_upgrade(folder: Path) -> None:
    database = create_first_schema(folder)
    columns = "post_id, created_at, content, replies_count, imported_at"
    values = "'2024-01-01 00:00:00.000000', 'text', 3, '2024-01-02 00:00:00.000000'"
    with database.engine.execution_options(retrainer_writes=True).begin() as connection:
        for post_id in ("10", "9"):
            connection.execute(sa.text(f"INSERT INTO posts ({columns}) VALUES ('{post_id}', {values})"))
        connection.execute(sa.text("CREATE VIEW recent AS SELECT post_id FROM posts"))
    database.close()
    project = open_project(folder)
    assert list(project.posts.load(NOW)["post_id"]) == ["10", "9"]
    engine = project.registry.database.engine
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT stream, content, replies_count FROM posts")).all()
        assert rows == [("default", "text", 3)] * 2
        assert connection.execute(sa.text("SELECT count(*) FROM recent")).scalar() == 2
    assert sa.inspect(engine).get_pk_constraint("posts")["constrained_columns"] == ["stream", "post_id"]


def test_what_a_user_added_to_the_posts_survives_an_upgrade(folder: Path) -> None:
    database = create_first_schema(folder)
    with database.engine.execution_options(retrainer_writes=True).begin() as connection:
        connection.execute(sa.text('ALTER TABLE posts ADD COLUMN "my note" TEXT'))
        connection.execute(sa.text('CREATE INDEX my_index ON posts ("my note")'))
        connection.execute(
            sa.text(
                'INSERT INTO posts (post_id, created_at, imported_at, "my note") '
                "VALUES ('1', '2024-01-01 00:00:00', '2024-01-02 00:00:00', 'mine')"
            )
        )
    database.close()
    project = open_project(folder)
    assert project.posts.summary(NOW).count == 1
    engine = project.registry.database.engine
    with engine.connect() as connection:
        assert connection.execute(sa.text('SELECT "my note" FROM posts')).scalars().all() == ["mine"]
    assert "my_index" in [index["name"] for index in sa.inspect(engine).get_indexes("posts")]


def test_an_id_may_be_in_two_streams(folder: Path) -> None:
    project = open_project(folder)
    posts = regular_posts(3)
    assert [project.posts.for_stream(stream).add(posts, NOW) for stream in ("default", "other", "other")] == [3, 3, 0]
    assert project.posts.summary(NOW).count == 3
    assert list(project.posts.for_stream("other").load(NOW)["post_id"]) == list(posts["post_id"])
    assert project.posts.for_stream("none").load(NOW).empty
    project.posts.delete(["p00001"])
    latest, count = project.posts.list_posts(NOW - timedelta(hours=12), NOW, 1)
    assert ([post.post_id for post in latest], count) == (["p00002"], 1)
    assert project.posts.for_stream("other").get_post("p00001").content == posts["content"][1]


def test_a_connection_that_another_thread_still_uses_at_the_end_is_closed_when_given_back(project: Project) -> None:
    database = project.registry.database
    with database.read() as session:
        used = session.connection().connection.dbapi_connection
        database.close()
        assert session.execute(sa.text("SELECT 1")).scalar() == 1
    with database.read() as session:
        opened_later = session.connection().connection.dbapi_connection
    for connection in (used, opened_later):
        assert connection is not None
        with pytest.raises(Exception, match="closed"):
            connection.cursor().execute("SELECT 1")


def test_postgresql_keeps_the_plans_of_statements_if_the_url_says_so(postgresql_url: str, tmp_path: Path) -> None:
    kept = []
    for url in (postgresql_url, f"{postgresql_url}&prepare_threshold=2"):
        engine = create_engine(url, tmp_path)
        with engine.connect() as connection:
            for _ in range(3):
                connection.exec_driver_sql("SELECT 'the same'")
            plans = connection.exec_driver_sql("SELECT statement FROM pg_prepared_statements").scalars().all()
        engine.dispose()
        kept.append("SELECT 'the same'" in plans)
    assert kept == [False, True]
    with pytest.raises(ConfigError, match=r"database\.url: prepare_threshold is not a number"):
        create_engine(f"{postgresql_url}&prepare_threshold=often", tmp_path)


def test_only_commits_that_a_later_one_of_the_run_covers_do_not_wait_for_the_disk(
    sqlite_folder: Path, postgresql_url: str
) -> None:
    configure(sqlite_folder, url=f'"{postgresql_url}"')
    waits: list[str] = []

    def record(connection: sa.Connection) -> None:
        waits.append(connection.exec_driver_sql("SHOW synchronous_commit").scalar_one())

    project = open_project(sqlite_folder)
    project.posts.add(regular_posts(100), NOW)
    sa.event.listen(project.registry.database.engine, "commit", record)
    run = retrain(project, runtime_of(), "timing", NOW).run
    assert waits == ["on", "off", "on", "off", "on"]  # started, registered, completed: on
    waits.clear()
    assert run is not None
    evaluate_version(project, runtime_of(), str(run.model_version_id), NOW)
    assert waits[0] == "on"
