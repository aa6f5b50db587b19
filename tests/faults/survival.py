"""A command that something happens to: afterwards nothing is lost, and the next commands work."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from retrainer.project import default_config
from retrainer.registry.migrations import HEAD
from tests.command_line import packages, run_in_process
from tests.conftest import open_project
from tests.faults.project import CHANGES, Record, environ_of, require_consistent, require_reported, run_as_worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.conftest import Projects
    from tests.faults.injection import Fault
    from tests.faults.project import TimedResult

COMMANDS = (*CHANGES, "migrate", "init")


def survive(
    projects: Projects,
    place: Path,
    name: str,
    fault: Fault | None = None,
    kill_after: float | None = None,
) -> tuple[TimedResult, str]:
    """Let a fault happen to a command in a copy of the project that it starts from, and check everything afterwards.

    Args:
        projects: where the copy comes from.
        place: an empty folder; the project and the temporary files of the command are in its subfolder `case`.
        name: of the command.
        fault: what goes wrong; None for nothing.
        kill_after: seconds after which the command is killed; None to let it end.

    Returns:
        The result of the command, and the operation that failed; empty if there were not as many.
    """
    temporary = place / "case/tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    with projects.copied(name, place / "case/project") as folder:
        check = {"migrate": _migrate, "init": _init}.get(name)
        environ = {**environ_of(projects.plugins), "TMPDIR": str(temporary)}

        def run(*arguments: str) -> TimedResult:
            done = run_as_worker(folder, *arguments, env=environ, fault=fault, kill_after=kill_after)
            require_orderly_end(done)
            return done

        try:
            with packages(environ["PYTHONPATH"]):  # once, not for each command
                done = _change(folder, name, environ, run) if check is None else check(folder, run)
        except AssertionError as error:
            raise AssertionError(f"{name}: {fault}, {fault.what if fault else kill_after}") from error
        return done, fault.what if fault else ""


def require_orderly_end(done: TimedResult) -> None:
    """Check that a command was killed, succeeded, or failed with one line; `doctor` lists what is not repaired."""
    if done.code == -signal.SIGKILL:
        return
    assert done.code in {0, 1}, done
    assert "Traceback" not in done.err, done
    assert "unexpected" not in done.err.lower(), done
    errors = [line for line in done.err.splitlines() if line.startswith(("Error: ", "ERROR: "))]
    if not errors:
        assert done.code == 0 or "(not repaired)" in done.out, done
        return
    # A full disk stops the live fit, and then also the record that there is none.
    most = 2 if errors[0].startswith("ERROR: Cannot fit ") else 1
    assert done.code == 1, done
    assert len(errors) <= most, done


def _change(folder: Path, name: str, environ: dict[str, str], run: Callable[..., TimedResult]) -> TimedResult:
    change = CHANGES[name]
    environ = {key: value for key, value in environ.items() if key != "PYTHONPATH"}
    project = open_project(folder)
    versions = [version.version_id for version in project.registry.list_versions("timing")]
    change.damage(project, versions)
    before = Record.read(project)
    before = replace(before, posts=before.posts - change.deleted_posts)
    project.close()

    done = run(*change.arguments(versions))
    retrainer = run_in_process(folder)
    history = retrainer("history", env=environ)
    assert history.code == 0, history.err
    project = open_project(folder)
    if done.code == 0:
        assert change.is_done(project, versions), done
    require_consistent(project)
    require_reported(project, done.err)
    after = Record.read(project)
    before.require_kept_in(after)
    project.close()

    doctor = retrainer("doctor", env=environ)
    assert doctor.code in {0, 1}, doctor.err
    train = retrainer("train", "timing", env=environ)
    assert train.code == 0, train.err
    doctor = retrainer("doctor", *(["--repair"] if name == "repair" else []), env=environ)
    # The project was copied: if the clock was set back, runs of the two folders seem to alternate.
    findings = [line for line in doctor.out.splitlines() if not line.startswith("shared_database: ")]
    assert doctor.code == 0 or not findings, doctor.out
    project = open_project(folder)
    require_consistent(project)
    after.require_kept_in(Record.read(project))
    project.close()
    return done


def _migrate(folder: Path, run: Callable[..., TimedResult]) -> TimedResult:
    done = run("db", "upgrade")
    history = run_in_process(folder)("history")
    assert history.code == 0, history.err
    project = open_project(folder)
    assert project.registry.database.revision() == HEAD
    assert project.registry.get_version("old").is_production
    assert [entry.reason for entry in project.registry.list_ledger_entries()] == ["first"]
    project.close()
    return done


def _init(folder: Path, run: Callable[..., TimedResult]) -> TimedResult:
    done = run("init", ".")
    again = run_in_process(folder)("init", ".")
    assert again.code == 0, again.err
    assert (folder / "config/config.yaml").read_bytes() == default_config().read_bytes()
    count = run_in_process(folder)("posts", "count")
    assert count.code == 0, count.err
    return done
