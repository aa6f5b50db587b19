"""Runs that the server starts: each a process of its own, which goes on when the server stops."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING

from retrainer.api.auth import TOKEN_VARIABLE
from retrainer.errors import RetrainerError, RetrainingDisabled
from retrainer.model_types import MODEL_TYPE_NAMES, ModelTypeName
from retrainer.pipeline.recovery import recover
from retrainer.project import Project
from retrainer.registry.liveness import ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from retrainer.config import Settings
    from retrainer.registry.tables import TrainingRun
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)

KEPT_LOGS = 100  # the logs of older runs are deleted


@dataclass(frozen=True)
class Jobs:
    """Starts runs of one project."""

    project: Project
    runtime: Runtime

    @property
    def log_folder(self) -> Path:
        """Where each run's log is kept, by its id."""
        return self.project.folder / "logs" / "runs"

    def start(self, model_type: ModelTypeName | None, *, auto_promote: bool | None) -> dict[str, str | None]:
        """Start a run of one model type, or of both; return the run ids by model type.

        The runs are in the database, as those of their processes, before this returns.

        Args:
            model_type: None: of each type that is not disabled.
            auto_promote: overrides `retraining.auto_promote`.

        Raises:
            RunInProgress: another run of one of the types is going on; nothing is started then.
            RetrainingDisabled: the settings switch it off.
        """
        settings = Project.find(self.project.folder, os.environ, self.project.config_file).settings  # as they are now
        wanted = _enabled(settings, [model_type] if model_type else list(MODEL_TYPE_NAMES))
        recover(self.project, self.runtime)
        algorithms = {kind: settings.model(kind).algorithm for kind in wanted}
        runs = self.project.registry.start_runs(algorithms, datetime.now(UTC))
        for place, run in enumerate(runs):
            try:
                self._start(run, auto_promote)
            except OSError as error:
                reason = f"cannot start a process: {error.strerror}"
                for left in runs[place:]:
                    self.project.registry.fail_run(left.run_id, reason, datetime.now(UTC))
                raise RetrainerError(reason, hint="The machine is out of processes or of memory") from error
        ids: dict[str, str | None] = dict.fromkeys(MODEL_TYPE_NAMES)
        return ids | {run.model_type: run.run_id for run in runs}

    def _start(self, run: TrainingRun, auto_promote: bool | None) -> None:
        promotion = {None: [], True: ["--auto-promote"], False: ["--no-auto-promote"]}[auto_promote]
        # -P: what lies in the project folder is not to be imported.
        command = [sys.executable, "-P", "-m", "retrainer", "--config", str(self.project.config_file)]
        command += ["train", run.model_type, "--run-id", run.run_id, *promotion]
        environ = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
        with self._log_of(run.run_id) as output:
            process = subprocess.Popen(  # noqa: S603  every word of it is ours
                command,
                cwd=self.project.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a signal to the server's group is not for it
            )
        identity = ProcessIdentity.from_pid(process.pid)
        threading.Thread(target=self._await_end, args=(run.run_id, process), daemon=True).start()
        try:
            self.project.registry.hand_over_run(run.run_id, identity)
        except RetrainerError as error:  # the run goes on: it takes itself over when it begins
            log.warning("Not noted that the run '%s' is process %d: %s", run.run_id, process.pid, error)
        log.info("Started the run '%s' as process %d", run.run_id, process.pid)

    @contextmanager
    def _log_of(self, run_id: str) -> Iterator[IO[bytes] | int]:
        """Open a run's log file; where there can be none, as on a full disk, the run goes on without."""
        try:
            self.log_folder.mkdir(parents=True, exist_ok=True)
            for old in sorted(self.log_folder.glob("run_*.log"))[: -KEPT_LOGS + 1]:
                old.unlink(missing_ok=True)
            file = (self.log_folder / f"{run_id}.log").open("wb")
        except OSError as error:
            log.warning("The run '%s' goes on without a log file: %s", run_id, error)
            yield subprocess.DEVNULL
            return
        with file:
            yield file

    def _await_end(self, run_id: str, process: subprocess.Popen[bytes]) -> None:
        """Wait for a run's process, so that it does not stay a zombie; close the run if it could not do so itself."""
        code = process.wait()
        log.info("The run '%s' ended with exit code %d; its log is in '%s'", run_id, code, self.log_folder)
        try:
            recover(self.project, self.runtime)
        except RetrainerError as error:  # the next command does it
            log.warning("Not looked after the run '%s': %s", run_id, error)


def _enabled(settings: Settings, wanted: Sequence[ModelTypeName]) -> list[ModelTypeName]:
    enabled = [kind for kind in wanted if settings.retraining.is_enabled(kind)]
    if not enabled:
        key = settings.retraining.disabling_key(wanted[0])
        raise RetrainingDisabled(f"retraining is disabled: {key} is false", hint="Switch it on in the settings")
    return enabled
