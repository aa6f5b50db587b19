"""The registry's versions: their rows, files and evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, select, update

from retrainer.errors import ArtifactError
from retrainer.registry.ledger import record_entry
from retrainer.registry.queries import (
    PLAIN,
    fetch_production,
    fetch_version,
    new_id,
    require_not_pruned,
    update_running_run,
)
from retrainer.registry.refits import Refit
from retrainer.registry.scope import Scope
from retrainer.registry.tables import (
    LedgerEntry,
    ModelEvaluation,
    ModelExplanation,
    ModelVersion,
    Post,
    TrainingRun,
    VersionFile,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from retrainer.model_types import ModelTypeName


class LatestScore(NamedTuple):
    """The scores of a version's latest evaluation.

    Attributes:
        naive_score: of the naive forecast on the same posts; None in a record of an earlier release.
    """

    score: float
    naive_score: float | None

    @property
    def skill(self) -> float | None:
        """The gain of the score over that of the naive forecast."""
        from retrainer.model_types.base import skill_score  # noqa: PLC0415  imports numpy

        return None if self.naive_score is None else skill_score(self.score, self.naive_score)


class Versions(Scope):
    """The part of the registry about versions."""

    def get_production(self, model_type: ModelTypeName) -> ModelVersion | None:
        """Return the production version, if any."""
        with self.database.read() as session:
            return fetch_production(session, self.key(model_type))

    def list_production(self) -> list[ModelVersion]:
        """Return the production versions, by stream and model type."""
        query = select(ModelVersion).where(ModelVersion.is_production, self.is_within(ModelVersion))
        with self.database.read() as session:
            return list(session.scalars(query.order_by(ModelVersion.stream, ModelVersion.model_type.desc())))

    def get_version(self, version_id: str) -> ModelVersion:
        """Return a version.

        Raises:
            UnknownName: there is no version with this id.
        """
        with self.database.read() as session:
            return fetch_version(session, version_id)

    def list_versions(
        self,
        model_type: ModelTypeName | None = None,
        limit: int | None = None,
        *,
        status: str | None = None,
        offset: int = 0,
    ) -> list[ModelVersion]:
        """Return versions, newest first.

        Args:
            model_type: only of this type.
            limit: the maximum number to return.
            status: only those with this status.
            offset: how many of the newest to skip.
        """
        query = select(ModelVersion).order_by(ModelVersion.trained_at.desc(), ModelVersion.version_id.desc())
        query = query.where(self.is_within(ModelVersion))
        if model_type is not None:
            query = query.where(ModelVersion.model_type == model_type)
        if status is not None:
            query = query.where(ModelVersion.status == status)
        with self.database.read() as session:
            return list(session.scalars(query.limit(limit).offset(offset)))

    def count_versions(self, model_type: ModelTypeName | None = None) -> int:
        query = select(func.count()).select_from(ModelVersion).where(self.is_within(ModelVersion))
        if model_type is not None:
            query = query.where(ModelVersion.model_type == model_type)
        with self.database.read() as session:
            return session.scalar(query) or 0

    def latest_scores(self, version_ids: Sequence[str]) -> dict[str, LatestScore]:
        """Return the scores of the latest evaluation of each version that has one."""
        naive = ModelEvaluation.baseline_metrics["overall_score"].as_float()
        columns = (ModelEvaluation.model_version_id, ModelEvaluation.overall_score, naive)
        query = select(*columns).where(ModelEvaluation.model_version_id.in_(version_ids))
        query = query.order_by(ModelEvaluation.evaluated_at, ModelEvaluation.evaluation_id)
        with self.database.read() as session:
            return {name: LatestScore(*scores) for name, *scores in session.execute(query)}  # the last one remains

    def naive_scores(self, runs: Sequence[TrainingRun]) -> dict[str, float]:
        """Return the score of the naive forecast on the test posts of each run that evaluated its version, by run."""
        naive = ModelEvaluation.baseline_metrics["overall_score"].as_float()
        versions = {run.run_id: run.model_version_id for run in runs}
        query = select(ModelEvaluation.run_id, ModelEvaluation.model_version_id, naive)
        query = query.where(ModelEvaluation.run_id.in_(list(versions))).order_by(ModelEvaluation.evaluated_at)
        with self.database.read() as session:
            found = session.execute(query).all()
        return {run_id: score for run_id, version_id, score in found if run_id and versions[run_id] == version_id}

    def list_versions_trained_on(self, posts: Sequence[Post]) -> dict[str, list[ModelVersion]]:
        """Return, by the id of the post, the versions that each of a stream's posts was used to train, newest first."""
        streams = {post.stream for post in posts}
        query = select(ModelVersion, TrainingRun.as_of).where(ModelVersion.stream.in_(streams))
        query = query.outerjoin(TrainingRun, TrainingRun.model_version_id == ModelVersion.version_id)
        query = query.order_by(ModelVersion.trained_at.desc(), ModelVersion.version_id.desc())
        is_import = LedgerEntry.action == "import"
        fitted = select(LedgerEntry).where(LedgerEntry.stream.in_(streams), is_import | LedgerEntry.refit.is_not(None))
        with self.database.read() as session:
            rows = session.execute(query).all()
            entries = session.scalars(fitted.order_by(LedgerEntry.entry_id.desc())).all()
        fits: dict[str, dict[Refit, datetime | None]] = {version.version_id: {} for version, _ in rows}
        for entry in entries:  # the newest first, so that the first time that a fit went live remains
            if entry.version_id in fits and (refit := Refit.from_document(entry.refit)) is not None:
                # The fit of an import was made in another project, before or after the post was imported here.
                fits[entry.version_id][refit] = None if entry.action == "import" else entry.recorded_at
        elsewhere = {entry.version_id for entry in entries if entry.action == "import"}
        return {
            post.post_id: [
                version
                for version, as_of in rows
                if _has_use_of(version, post)
                and (
                    _was_trained_on(version, post, is_as_of=as_of is not None or version.version_id in elsewhere)
                    or any(_was_fitted_again_on(post, *fit) for fit in fits[version.version_id].items())
                )
            ]
            for post in posts
        }

    def list_version_ids(self, model_type: ModelTypeName, *, pruned: bool = False) -> set[str]:
        """Return the ids of all versions of a type in any stream, or of those whose files were pruned."""
        query = select(ModelVersion.version_id).where(ModelVersion.model_type == model_type)
        if pruned:
            query = query.where(ModelVersion.pruned_at.is_not(None))
        with self.database.read() as session:
            return set(session.scalars(query))

    def register_version(self, version: ModelVersion, files: Iterable[VersionFile], run_id: str) -> None:
        """Record a trained version with its files, and link the run to it."""
        with self.database.write() as session:
            session.add(version)
            session.flush()
            session.add_all(files)
            session.flush()
            update_running_run(session, run_id, model_version_id=version.version_id)

    def is_known(self, version: ModelVersion) -> bool:
        """Whether a version of another project is here already.

        Raises:
            ArtifactError: another version has its id, or its files were pruned here.
        """
        with self.database.read() as session:
            return _is_known(session, version)

    def import_version(
        self,
        version: ModelVersion,
        files: Iterable[VersionFile],
        evaluations: Sequence[ModelEvaluation],
        explanation: ModelExplanation | None,
        reason: str,
        now: datetime,
        evidence: dict[str, Any],
    ) -> bool:
        """Record a version of another project with its files, its evaluations and what they depend on, if known.

        Returns:
            False if it is here already.

        Raises:
            ArtifactError: another version has its id, an evaluation or explanation of another one has the id of one of
                its own, or its files were pruned here.
        """
        ids = [evaluation.evaluation_id for evaluation in evaluations]
        taken = select(ModelEvaluation.evaluation_id).where(ModelEvaluation.evaluation_id.in_(ids))
        with self.database.write() as session:
            if _is_known(session, version):
                return False
            if (evaluation_id := session.scalars(taken).first()) is not None:
                raise ArtifactError(
                    f"this project has a different evaluation '{evaluation_id}'", hint="Nothing was imported"
                )
            if explanation is not None and session.get(ModelExplanation, explanation.explanation_id) is not None:
                problem = f"this project has a different explanation '{explanation.explanation_id}'"
                raise ArtifactError(problem, hint="Nothing was imported")
            session.add(version)
            session.flush()
            session.add_all([*files, *evaluations, *([] if explanation is None else [explanation])])
            columns = {"version_id": version.version_id, "evidence": evidence, "refit": version.refit}
            record_entry(session, "import", version.model_key, reason, now, **columns)
            return True

    def mark_evaluated(self, version_id: str, *, succeeded: bool) -> None:
        """Record the outcome of an evaluation: after a failure of the first, the version needs one to be promoted."""
        before, after = ("failed", "trained") if succeeded else ("trained", "failed")
        query = update(ModelVersion).where(ModelVersion.version_id == version_id, ModelVersion.status == before)
        with self.database.write() as session:
            session.execute(query.values(status=after))

    def list_files(self, version_id: str, paths: Sequence[str] | None = None) -> list[VersionFile]:
        """Return the records of a version's files, without their content."""
        query = select(VersionFile).where(VersionFile.version_id == version_id).order_by(VersionFile.path)
        if paths is not None:
            query = query.where(VersionFile.path.in_(paths))
        with self.database.read() as session:
            return list(session.scalars(query))

    def read_file(self, version_id: str, path: str) -> bytes | None:
        """Return the content of one of a version's files; None if the database has no copy."""
        query = select(VersionFile.data).where(VersionFile.version_id == version_id, VersionFile.path == path)
        with self.database.read() as session:
            return session.scalars(query).first()

    def get_stored_size(self, version_id: str) -> int:
        """Return the size in bytes of a version's files in the database."""
        query = select(func.coalesce(func.sum(VersionFile.size), 0)).where(
            VersionFile.version_id == version_id, VersionFile.data.is_not(None)
        )
        with self.database.read() as session:
            return int(session.scalar(query) or 0)

    def record_evaluation(
        self, evaluation: ModelEvaluation, forecasts: VersionFile, *, of_candidate: bool = True
    ) -> None:
        """Record an evaluation with its forecasts file, and the candidate's scores in its run.

        Args:
            of_candidate: whether it is of the candidate of its run, if it was made in one.
        """
        in_run = evaluation.run_id is not None  # whose end is on disk later, or the run failed
        with self.database.write(durable=not in_run) as session:
            session.add(evaluation)
            session.add(forecasts)
            if evaluation.run_id is None or not of_candidate:
                return
            query = update(TrainingRun).where(TrainingRun.run_id == evaluation.run_id)
            scores = {
                "test_mae_hours": evaluation.mae_hours,
                "test_within_6h_accuracy": evaluation.within_6h_accuracy,
                "test_overall_score": evaluation.overall_score,
            }
            session.execute(query.values(scores), execution_options=PLAIN)

    def list_evaluations(
        self, version_id: str, run_id: str | None = None, *, limit: int | None = None
    ) -> list[ModelEvaluation]:
        """Return a version's evaluations, newest first; with a run, only those made in it."""
        query = select(ModelEvaluation).where(ModelEvaluation.model_version_id == version_id)
        if run_id is not None:
            query = query.where(ModelEvaluation.run_id == run_id)
        order = query.order_by(ModelEvaluation.evaluated_at.desc(), ModelEvaluation.evaluation_id.desc())
        with self.database.read() as session:
            return list(session.scalars(order.limit(limit)))

    def list_evaluations_of_run(self, run_id: str) -> list[ModelEvaluation]:
        """Return the evaluations made in a run, of any version, the oldest first."""
        query = select(ModelEvaluation).where(ModelEvaluation.run_id == run_id)
        with self.database.read() as session:
            return list(session.scalars(query.order_by(ModelEvaluation.evaluated_at, ModelEvaluation.evaluation_id)))

    def new_version_id(self, algorithm: str, model_type: ModelTypeName, now: datetime) -> str:
        """Return an unused version id: {algorithm}_{model_type}_{YYYYMMDD}_{HHMMSS}_{4 hex}.

        In other streams than `default` it ends in 8 digits: many streams may be trained in the same second.
        """
        with self.database.read() as session:
            return new_id(session, ModelVersion, f"{algorithm}_{model_type}", now, self.id_digits)

    def new_evaluation_id(self, now: datetime) -> str:
        """Return an unused evaluation id."""
        with self.database.read() as session:
            return new_id(session, ModelEvaluation, "evaluation", now, self.id_digits)


def _is_known(session: Session, version: ModelVersion) -> bool:
    known = session.get(ModelVersion, version.version_id)
    if known is None:
        return False
    require_not_pruned(known, "Import it into another project")
    if known.stream != version.stream and known.manifest_sha256 == version.manifest_sha256:
        raise ArtifactError(f"'{known.version_id}' is already in this project, in the stream '{known.stream}'")
    if (*known.model_key, known.manifest_sha256) != (*version.model_key, version.manifest_sha256):
        raise ArtifactError(f"this project has a different version '{known.version_id}'", hint="Nothing was imported")
    if version.refit is not None and version.refit != known.refit:
        raise ArtifactError(
            f"this project has '{known.version_id}' with a different live fit",
            hint="Nothing was imported. Promote it here with --refit",
        )
    return True


def _was_fitted_again_on(post: Post, refit: Refit, live_at: datetime | None) -> bool:
    """Whether a live fit knows a post, which a correction may have moved in time since.

    Args:
        live_at: when the fit first went live; None if it was made in another project.
    """
    if live_at is not None and post.imported_at is not None and post.imported_at > live_at:
        return False
    time = min(post.created_at, post.moved_from or post.created_at)
    return (time, post.post_id) <= (refit.through, refit.through_post_id)


def _has_use_of(version: ModelVersion, post: Post) -> bool:
    return version.model_type != "content" or bool((post.content or "").strip())


def _was_trained_on(version: ModelVersion, post: Post, *, is_as_of: bool) -> bool:
    """Whether a version was trained on a post, which may have been imported or moved in time since.

    Args:
        is_as_of: whether `trained_at` is a past time that a user chose, or a time in another project: the post need not
            have been imported by then.
    """
    if post.imported_at is not None and post.imported_at > version.trained_at and not is_as_of:
        return False
    time = post.created_at
    if post.moved_at is not None and post.moved_from is not None and post.moved_at > version.training_began_at:
        time = post.moved_from
    return (time, post.post_id) <= (version.trained_through, version.trained_through_post_id)
