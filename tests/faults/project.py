"""A project with a past, the commands that change it, and what no fault in them may lose."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from retrainer.backup import back_up, restore_backup
from retrainer.doctor import examine
from retrainer.transfer import export_version
from tests.command_line import Completed
from tests.conftest import configure, regular_posts, version_folder
from tests.exported import read_export, rename_version
from tests.live.ab_project import add_posts_since_start
from tests.worker import Worker, command, release

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from retrainer.project import Project
    from tests.faults.injection import Fault
    from tests.plugins_for_tests import Plugins

IMPROVING = """
    import numpy as np
    from pydantic import BaseModel, ConfigDict
    from retrainer.algorithms import Algorithm, hookimpl

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")
        hours: float = 20.0

    @hookimpl
    def algorithm():
        return Algorithm(name="improving", model_types=("timing",), summary="As configured.", config=Options)

    @hookimpl
    def train(posts, config):
        return {"hours": config.hours, "ballast": list(range(2000))}

    @hookimpl
    def predict(model, origins):
        from retrainer.model_types.timing import TimingForecasts
        quantiles = np.full((len(origins), 99), model["hours"])
        return TimingForecasts(quantiles, quantiles[:, 0])
"""
"""An algorithm whose forecasts are so many hours; posts come every 5."""

CHANGED = "changed by the user"
NOTES = "NOTES.md"  # a file of the user, in every folder of the project


@dataclass(frozen=True)
class TimedResult(Completed):
    """The result of a command line, and the seconds it took."""

    seconds: float


def environ_of(plugins: Plugins, hours: float = 14.0) -> dict[str, str]:
    """Return the environment in which a run trains a version that forecasts so many hours."""
    if not (plugins.site / "retrainer_improving_module.py").exists():
        plugins.add("improving", IMPROVING)
    options = {"ALGORITHM": "improving", "IMPROVING__HOURS": str(hours)}
    return {**plugins.environ, **{f"RETRAINER_TIMING_MODEL__{key}": value for key, value in options.items()}}


def run_as_worker(
    folder: Path, *arguments: str, env: Mapping[str, str], fault: Fault | None = None, kill_after: float | None = None
) -> TimedResult:
    """Run a command in a process of its own, which is forked and so starts quickly.

    Args:
        folder: of the project.
        arguments: of the command.
        env: additional environment variables.
        fault: what goes wrong.
        kill_after: seconds until it is killed; None to let it end.
    """
    output = folder.parent.parent / "output"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    worker = Worker.start(output, command, folder, *arguments, env=env, fault=fault)
    release([worker])
    started = time.monotonic()
    if kill_after is not None:
        worker.process.join(kill_after)  # the moment is the point
        worker.kill()
    code = worker.finish()
    return TimedResult(code, worker.out, worker.err, time.monotonic() - started)


def create_past(folder: Path, plugins: Plugins) -> None:
    """Train five versions in a new project, each better than the one before; the oldest two are archived."""
    regular_posts(120).to_csv(folder / "data/posts.csv", index=False)
    done = run_as_worker(folder, "posts", "import", "data/posts.csv", env=environ_of(plugins))
    assert done.code == 0, done.err
    for number in range(5):
        done = run_as_worker(folder, "train", "timing", env=environ_of(plugins, 20.0 - number))
        assert "✓ Model promoted" in done.err, done.err
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            (path / NOTES).write_text(f"of the user, in '{path}'")


@dataclass(frozen=True)
class Record:
    """What a project has recorded.

    Attributes:
        versions: the hash of the manifest, by version.
        ledger: the decisions, in order.
        runs: the closed runs and how they ended.
        posts: the number of posts.
        notes: the content of the user's files.
    """

    versions: dict[str, str]
    ledger: list[tuple[int, str, str | None, str | None]]
    runs: dict[str, str]
    posts: int
    notes: dict[Path, str]

    @classmethod
    def read(cls, project: Project) -> Record:
        registry = project.registry
        versions = {version.version_id: version.manifest_sha256 for version in registry.list_versions()}
        entries = reversed(registry.list_ledger_entries())
        ledger = [(entry.entry_id, entry.action, entry.version_id, entry.to_version_id) for entry in entries]
        runs = {run.run_id: run.status for run in registry.list_runs() if run.status != "running"}
        posts = project.posts.summary(datetime.now(UTC)).count
        notes = {path: path.read_text() for path in project.folder.rglob(NOTES)}
        return cls(versions, ledger, runs, posts, notes)

    def require_kept_in(self, later: Record) -> None:
        """Check that nothing of this record is lost in a later one."""
        assert self.versions.items() <= later.versions.items()
        assert later.ledger[: len(self.ledger)] == self.ledger
        assert self.runs.items() <= later.runs.items()
        assert self.posts <= later.posts
        assert self.notes == later.notes


def production_of(project: Project) -> list[str]:
    """Return the production versions of the timing type: one, as long as all is well."""
    return [version.version_id for version in project.registry.list_versions("timing") if version.is_production]


def require_consistent(project: Project) -> None:
    """Check that at most one version is live, as the ledger says, and that no version is half registered."""
    live = production_of(project)
    changes = project.registry.list_ledger_entries(model_type="timing", actions=("promotion", "rollback"), limit=1)
    assert live == [entry.to_version_id for entry in changes]
    for test in project.registry.list_tests("timing"):
        entries = project.registry.list_ledger_entries("timing", ("ab_end", "promotion"))
        ended = [entry.action for entry in entries if entry.evidence.get("test_id") == test.test_id]
        expected = {"running": [], "ended": ["ab_end"]}[test.status] + ["promotion"] * (test.outcome == "promoted")
        assert ended == expected, "a test ends and promotes its challenger, or does neither"
    unpruned = [version for version in project.registry.list_versions() if version.pruned_at is None]
    for version in unpruned:
        paths = {row.path for row in project.registry.list_files(version.version_id)}
        assert {"manifest.json", "model.json"} <= paths, f"{version.version_id} is registered with its files"
        if version.refit is not None:
            files = project.artifacts.read(version, version.refit)
            assert set(files) == {"model.json"}, f"the live fit of {version.version_id} can be loaded"


def require_reported(project: Project, log: str) -> None:
    """Check that what a run logged as done is recorded."""
    lines = log.splitlines()
    registered = [line.split(": ")[1] for line in lines if line.startswith("Model version registered: ")]
    for version_id in registered:
        version = project.registry.get_version(version_id)
        problems = project.artifacts.find_file_problems(version).items()
        # Forecasts and live fits are in the database before they are in the folder, where the next run completes them.
        completed = ("evaluations/", "refits/")
        assert all(path.startswith(completed) and problem == "missing" for path, problem in problems), problems
    if any(line.startswith("✓ Model promoted to production!") for line in lines):
        assert production_of(project) == registered
        (run,) = project.registry.list_runs("timing", 1)
        assert run.status == "completed"
        assert run.promoted_to_production


@dataclass(frozen=True)
class Change:
    """A command that changes a project with a past.

    Attributes:
        arguments: of the command, given the versions, newest first.
        damage: what happens to the project before.
        is_done: whether the project is as the command reports, given its versions before.
        deleted_posts: the number of posts that it deletes.
    """

    arguments: Callable[[list[str]], tuple[str, ...]]
    is_done: Callable[[Project, list[str]], bool]
    damage: Callable[[Project, list[str]], None] = lambda _project, _versions: None
    deleted_posts: int = 0


def _status(project: Project, version_id: str) -> str:
    return project.registry.get_version(version_id).status


def _is_pruned(project: Project, version_id: str) -> bool:
    manifest = version_folder(project, "timing", version_id) / "manifest.json"
    return project.registry.get_version(version_id).pruned_at is not None and not manifest.exists()


def _damage(project: Project, versions: list[str]) -> None:
    """Delete a version's folder, a file of another, and the link to the live one; change a file."""
    shutil.rmtree(version_folder(project, "timing", versions[1]))
    (version_folder(project, "timing", versions[2]) / "model.json").unlink()
    (project.models_dir / "timing_model").unlink()
    (version_folder(project, "timing", versions[3]) / "model.json").write_text(CHANGED)


def _is_repaired(project: Project, _versions: list[str]) -> bool:
    """Whether `doctor` finds nothing more, and what it replaced is still there."""
    kept = [file.read_text() for file in (project.models_dir / ".set-aside").rglob("model.json*")]
    # If it could not remove a temporary folder of its own, the next run will. The plugin is not installed here.
    return CHANGED in kept and {finding.kind for finding in examine(project)} <= {"stray_folder", "unusable_algorithm"}


MORE_POSTS = "data/more.csv"


def _write_more_posts(project: Project, _versions: list[str]) -> None:
    regular_posts(1000, gap_hours=4.0).to_csv(project.folder / MORE_POSTS, index=False)


QUERY = "SELECT post_id, created_at, content FROM statuses WHERE created_at >= :since ORDER BY created_at"


def _add_source(project: Project, _versions: list[str]) -> None:
    """Make a table of another program the source of the project's posts; a fetch reads it in two pages."""
    posts = regular_posts(1_500, gap_hours=4.0)
    with closing(sqlite3.connect(project.folder / "data/other.db")) as database, database:
        posts.astype({"created_at": str})[["post_id", "created_at", "content"]].to_sql("statuses", database)
    source = {"type": "sql", "url": "sqlite:///data/other.db", "query": QUERY}
    configure(project.folder, sources=json.dumps({"other": source}))


def _fit_again(project: Project, _versions: list[str]) -> None:
    """Let versions be fitted again before they go live."""
    configure(project.folder, refit="true")


def _is_fitted_again(project: Project) -> bool:
    """Whether the live fit of the production version knows all posts."""
    production = project.registry.get_production("timing")
    return production is not None and production.num_refit_samples == 120


BACKUP = "project.backup"


def _back_up(project: Project, _versions: list[str]) -> None:
    back_up(project, project.folder / BACKUP, datetime.now(UTC))


def _can_be_restored(project: Project, versions: list[str]) -> bool:
    return restore_backup(project, project.folder / BACKUP, replace=True).versions == len(versions)


EXPORT = "model.zip"
IMPORTED = "improving_timing_20200101_000000_0000"


def _export_foreign_version(project: Project, versions: list[str]) -> None:
    """Write an export of a version that the project does not know."""
    file = project.folder / EXPORT
    export_version(project, project.registry.get_version(versions[0]), file, datetime.now(UTC))
    rename_version(file, IMPORTED)


def _is_imported(project: Project, versions: list[str]) -> bool:
    version = project.registry.get_version(IMPORTED)
    project.artifacts.read(version)
    return version.status == "trained" and production_of(project) == [versions[0]]


def _start_test(project: Project, versions: list[str]) -> None:
    """Start an A/B test of an older, worse version."""
    now = datetime.now(UTC)
    project.registry.start_test(versions[2], versions[0], "try it", now, share=0, max_posts=2000, level=0.05)


def _start_won_test(project: Project, versions: list[str]) -> None:
    """Start an A/B test of the best version against a worse one, and store posts that decide it."""
    now = datetime.now(UTC)
    project.registry.promote(versions[2], versions[0], "for a while", now)
    project.registry.start_test(versions[0], versions[2], "try it", now, share=0, max_posts=2000, level=0.05)
    add_posts_since_start(project, 40)


def _has_won(project: Project) -> bool:
    """Whether the challenger was promoted at the end of the A/B test."""
    (test,) = project.registry.list_tests("timing")
    return test.outcome == "promoted" and production_of(project) == [test.challenger_id]


CHANGES = {
    "train": Change(
        lambda _: ("train", "timing"),
        lambda project, versions: production_of(project) not in ([], [versions[0]]),
    ),
    "promote": Change(
        lambda versions: ("promote", versions[2]),
        lambda project, versions: production_of(project) == [versions[2]],
    ),
    "train with refit": Change(
        lambda _: ("train", "timing"),
        lambda project, versions: production_of(project) not in ([], [versions[0]]) and _is_fitted_again(project),
        _fit_again,
    ),
    "promote with refit": Change(
        lambda versions: ("promote", versions[2]),
        lambda project, versions: production_of(project) == [versions[2]] and _is_fitted_again(project),
        _fit_again,
    ),
    "rollback": Change(
        lambda _: ("rollback", "timing"),
        lambda project, versions: production_of(project) == [versions[1]],
    ),
    "ab start": Change(
        lambda versions: ("ab", "start", "timing", versions[2]),
        lambda project, versions: project.registry.get_version(versions[2]).num_refit_samples == 120,
        _fit_again,
    ),
    "ab stop": Change(
        lambda _: ("ab", "stop", "timing", "--promote"),
        lambda project, _: _has_won(project),
        _start_test,
    ),
    "ab status": Change(
        lambda _: ("ab", "status"),
        lambda project, _: _has_won(project),
        _start_won_test,
    ),
    "restore": Change(
        lambda versions: ("restore", versions[-1]),
        lambda project, versions: _status(project, versions[-1]) == "trained",
    ),
    "prune": Change(
        lambda _: ("prune", "--yes"),
        lambda project, versions: all(_is_pruned(project, version_id) for version_id in versions[-2:]),
    ),
    "evaluate": Change(
        lambda versions: ("evaluate", versions[1]),
        lambda project, versions: len(project.registry.list_evaluations(versions[1])) > 2,
    ),
    "posts import": Change(
        lambda _: ("posts", "import", MORE_POSTS),
        lambda project, _: project.posts.summary(datetime.now(UTC)).count > 120,
        _write_more_posts,
    ),
    "fetch": Change(
        lambda _: ("posts", "fetch"),
        lambda project, _: project.posts.summary(datetime.now(UTC)).count == 1_500,
        _add_source,
    ),
    "delete": Change(
        lambda _: ("posts", "delete", "p00010", "p00020", "--yes"),
        lambda project, _: project.posts.summary(datetime.now(UTC)).count == 118,
        deleted_posts=2,
    ),
    "repair": Change(
        lambda _: ("doctor", "--repair"),
        _is_repaired,
        _damage,
    ),
    "backup": Change(lambda _: ("backup", BACKUP), _can_be_restored),
    "export": Change(
        lambda versions: ("export", versions[1], EXPORT),
        lambda project, versions: read_export(project.folder / EXPORT)[0]["version"]["version_id"] == versions[1],
    ),
    "import": Change(lambda _: ("import", EXPORT), _is_imported, _export_foreign_version),
    "restore-backup": Change(
        lambda _: ("restore-backup", BACKUP, "--replace", "--yes"),
        lambda project, versions: production_of(project) == [versions[0]],
        _back_up,
    ),
}
"""The changes of a project with a past. `init` and `migrate` start from another project; see survival.py."""
