"""The registry of a policy on its way: its ids are drawn from nothing but the policy and the moment."""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from retrainer.registry.registry import Registry
from retrainer.registry.tables import ModelEvaluation, ModelVersion, TrainingRun, VersionFile

if TYPE_CHECKING:
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.registry.database import Database


class SandboxRegistry(Registry):
    """A registry of which nobody else knows."""

    def __init__(self, database: Database, policy: str) -> None:
        """Open it for a policy of this name."""
        super().__init__(database)
        self._policy = policy

    def new_version_id(self, algorithm: str, model_type: ModelTypeName, now: datetime) -> str:
        """Make the id of a new version; the same whenever and wherever the policy is replayed."""
        stem = super().new_version_id(algorithm, model_type, now).rpartition("_")[0]
        with self.database.read() as session:
            for number in itertools.count():
                suffix = hashlib.sha256(f"{self._policy} {stem} {number}".encode()).hexdigest()[:4]
                if session.get(ModelVersion, f"{stem}_{suffix}") is None:
                    break
        return f"{stem}_{suffix}"

    def forget_unfinished_runs(self) -> None:
        """Forget runs that did not come to their end, and what they had recorded; the ledger does not know of them."""
        with self.database.write() as session:
            unfinished = session.scalars(select(TrainingRun).where(TrainingRun.status != "completed")).all()
            runs = [run.run_id for run in unfinished]
            versions = [run.model_version_id for run in unfinished if run.model_version_id is not None]
            evaluations = session.scalars(select(ModelEvaluation).where(ModelEvaluation.run_id.in_(runs))).all()
            for evaluation in evaluations:
                path, version_id = evaluation.forecasts_file, evaluation.model_version_id
                session.execute(
                    delete(VersionFile).where(VersionFile.version_id == version_id, VersionFile.path == path)
                )
                session.delete(evaluation)
            session.flush()
            session.execute(delete(TrainingRun).where(TrainingRun.run_id.in_(runs)))
            session.execute(delete(VersionFile).where(VersionFile.version_id.in_(versions)))
            session.execute(delete(ModelVersion).where(ModelVersion.version_id.in_(versions)))
