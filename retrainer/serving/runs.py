"""Start runs: each is a process of its own, which continues when the server stops."""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING

from retrainer.errors import RetrainerError, RetrainingDisabled, RunInProgress, UsageError
from retrainer.fleet.selection import require_max_cost, select_units
from retrainer.model_types import MODEL_TYPE_NAMES, ModelTypeName
from retrainer.pipeline.recovery import close_dead_runs
from retrainer.project import Project
from retrainer.registry.liveness import ProcessIdentity
from retrainer.serving.auth import TOKEN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retrainer.config import Settings
    from retrainer.registry.tables import TrainingRun
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)

NICENESS = 5  # of the processes of runs
MAX_LOGS = 100  # older logs are deleted
_LOGS = f"run_{'[0-9]' * 8}_{'[0-9]' * 6}_{'[0-9a-f]' * 4}.log"


@dataclass(frozen=True)
class RunStarter:
    """Starts runs of one project."""

    project: Project
    runtime: Runtime
    _fleet_process: list[subprocess.Popen[bytes]] = field(default_factory=list)  # of `--all-streams`; one at most
    _lock: Lock = field(default_factory=Lock)

    @property
    def log_folder(self) -> Path:
        """The folder of the runs' log files, which are named by run id."""
        return self.project.folder / "logs" / "runs"

    def start(
        self, project: Project, model_type: ModelTypeName | None, *, auto_promote: bool | None
    ) -> dict[str, str | None]:
        """Start a run of one model type or of both, and return the run ids by model type.

        When this returns, the runs are recorded with the processes that carry them out.

        Args:
            project: the project seen from the stream to train.
            model_type: None for each type that is enabled.
            auto_promote: overrides `retraining.auto_promote`.

        Raises:
            RunInProgress: a run of one of the types is in progress; nothing is started then.
            RetrainingDisabled: the settings disable it.
        """
        settings = self._reread().settings.for_stream(project.stream)
        model_types = _enabled_types(settings, [model_type] if model_type else list(MODEL_TYPE_NAMES))
        close_dead_runs(self.project, self.runtime)
        algorithms = {name: settings.model(name).algorithm for name in model_types}
        runs = project.registry.start_runs(algorithms, datetime.now(UTC))
        for index, run in enumerate(runs):
            try:
                self._start_process(run, auto_promote)
            except OSError as error:
                failure = _cannot_start(error)
                for not_started in runs[index:]:
                    self.project.registry.fail_run(not_started.run_id, failure.message, datetime.now(UTC))
                raise failure from error
        run_ids: dict[str, str | None] = dict.fromkeys(MODEL_TYPE_NAMES)
        return run_ids | {run.model_type: run.run_id for run in runs}

    def start_all(
        self,
        model_type: ModelTypeName | None,
        *,
        auto_promote: bool | None,
        jobs: int | None,
        max_cost: float | None,
    ) -> None:
        """Start `train --all-streams`, whose runs are recorded one after another.

        Args:
            model_type: None for both.
            auto_promote: overrides `retraining.auto_promote`.
            jobs: how many runs at a time.
            max_cost: what paid forecasts may cost in all, in US dollars.

        Raises:
            UsageError: an algorithm costs money, and there is no limit.
            RetrainingDisabled: the settings disable it for all streams.
            RunInProgress: the process of an earlier call still runs.
            RetrainerError: the process cannot be started.
        """
        project, now = self._reread(), datetime.now(UTC)
        model_types = [model_type] if model_type else list(MODEL_TYPE_NAMES)
        units = select_units(project, project.list_streams(), model_types, now, if_due=False).units
        if not units:
            raise RetrainingDisabled("retraining is disabled for all streams", hint="Enable it in the settings")
        try:
            require_max_cost(project, self.runtime, units, None, max_cost)
        except UsageError as error:
            raise UsageError(error.message, hint="Set max_cost") from None
        options = [] if jobs is None else ["--jobs", str(jobs)]
        options += [] if max_cost is None else ["--max-cost", str(max_cost)]
        name = f"run_{now:%Y%m%d_%H%M%S}_{secrets.token_hex(2)}"
        arguments = [*([model_type] if model_type else []), "--all-streams", *options]
        with self._lock:
            if self._fleet_process and self._fleet_process[0].poll() is None:
                hint = "Wait for it to end, or stop that process"
                raise RunInProgress(f"process {self._fleet_process[0].pid} is training all streams", hint=hint)
            try:
                process = self._spawn(arguments, auto_promote, name)
            except OSError as error:
                raise _cannot_start(error) from error
            self._fleet_process[:] = [process]
        threading.Thread(target=self._await_end, args=(name, process), daemon=True).start()
        log.info("Started the runs of all streams as process %d", process.pid)

    def _reread(self) -> Project:
        """Return the project with the settings as they are now, not as they were when the server started."""
        settings = Project.find(self.project.folder, os.environ, self.project.config_file).settings
        return replace(self.project, settings=settings, opened_by=self.project)

    def _start_process(self, run: TrainingRun, auto_promote: bool | None) -> None:
        process = self._spawn([run.model_type, "--run-id", run.run_id], auto_promote, run.run_id)
        identity = ProcessIdentity.from_pid(process.pid)
        threading.Thread(target=self._await_end, args=(run.run_id, process), daemon=True).start()
        try:
            self.project.registry.hand_over_run(run.run_id, identity)
        except RetrainerError as error:  # the process takes the run over by itself when it begins
            log.warning("Could not record that the run '%s' is process %d: %s", run.run_id, process.pid, error)
        log.info("Started the run '%s' as process %d", run.run_id, process.pid)

    def _spawn(self, arguments: list[str], auto_promote: bool | None, name: str) -> subprocess.Popen[bytes]:
        """Start a process of `train` with a low priority, and a log file of this name."""
        promotion = {None: [], True: ["--auto-promote"], False: ["--no-auto-promote"]}[auto_promote]
        # -P: nothing is imported from the project folder.
        command = [sys.executable, "-P", "-m", "retrainer", "--config", str(self.project.config_file), "train"]
        environ = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
        with self._open_log(name) as output:
            process = subprocess.Popen(  # noqa: S603  the command is built above
                [*command, *arguments, *promotion],
                cwd=self.project.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # signals to the server's process group do not reach it
            )
        _lower_priority(process.pid)
        return process

    @contextmanager
    def _open_log(self, run_id: str) -> Iterator[IO[bytes] | int]:
        """Open a log file; without one if it cannot be written, as on a full disk."""
        try:
            self.log_folder.mkdir(parents=True, exist_ok=True)
            for old in sorted(self.log_folder.glob(_LOGS))[: -MAX_LOGS + 1]:
                old.unlink(missing_ok=True)
            file = (self.log_folder / f"{run_id}.log").open("wb")
        except OSError as error:
            log.warning("The run '%s' continues without a log file: %s", run_id, error)
            yield subprocess.DEVNULL
            return
        with file:
            yield file

    def _await_end(self, run_id: str, process: subprocess.Popen[bytes]) -> None:
        """Wait for a run's process, which would stay a zombie, and close the run if it died."""
        code = process.wait()
        log.info("The run '%s' ended with exit code %d; its log is in '%s'", run_id, code, self.log_folder)
        try:
            close_dead_runs(self.project, self.runtime)
        except RetrainerError as error:  # the next command does it
            log.warning("Could not close the run '%s' if it died: %s", run_id, error)


def _cannot_start(error: OSError) -> RetrainerError:
    hint = "The machine is out of processes or memory"
    return RetrainerError(f"cannot start a process: {error.strerror}", hint=hint)


def _lower_priority(pid: int) -> None:
    """Let a process give way to the server, which has to answer in time."""
    with suppress(OSError):  # it ended already, or the system does not allow it
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
    with suppress(OSError):  # where Linux shares the processor between sessions, the line above has no effect
        Path(f"/proc/{pid}/autogroup").write_text(str(NICENESS), encoding="ascii")


def _enabled_types(settings: Settings, model_types: Sequence[ModelTypeName]) -> list[ModelTypeName]:
    enabled = [name for name in model_types if settings.retraining.is_enabled(name)]
    if not enabled:
        key = settings.retraining.disabling_key(model_types[0])
        raise RetrainingDisabled(f"retraining is disabled: {key} is false", hint="Enable it in the settings")
    return enabled
