"""The registry's retention: which versions are kept, archived or pruned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, update

from retrainer.registry.ledger import record_entry
from retrainer.registry.promotions import fetch_predecessor, require_files
from retrainer.registry.queries import fetch_running_test, fetch_version, is_of
from retrainer.registry.scope import Scope
from retrainer.registry.tables import ModelVersion, VersionFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from retrainer.model_types import ModelTypeName


class Retention(Scope):
    """The part of the registry about archived, pinned and pruned versions."""

    def archive_old_versions(self, model_type: ModelTypeName, keep: int, now: datetime) -> list[str]:
        """Archive versions beyond the newest `keep`, except pinned ones and those in use.

        In use are production, its predecessor, and the challenger of a running A/B test.

        Returns:
            The ids archived, newest first.
        """
        key = self.key(model_type)
        query = (
            select(ModelVersion)
            .where(is_of(ModelVersion, key), ModelVersion.status.in_(["trained", "active"]))
            .order_by(ModelVersion.trained_at.desc(), ModelVersion.version_id.desc())
            .offset(keep)
        )
        with self.database.read() as session:  # mostly there are none, and no other writer has to wait
            if session.scalars(query.with_only_columns(ModelVersion.version_id).limit(1)).first() is None:
                return []
        archived = []
        with self.database.write() as session:
            test = fetch_running_test(session, key)
            in_use = {fetch_predecessor(session, key), test.challenger_id if test else None}
            for version in session.scalars(query):
                if version.is_production or version.pinned or version.version_id in in_use:
                    continue
                version.status = "archived"
                reason = f"Not among the newest {keep} versions"
                record_entry(session, "archive", key, reason, now, version_id=version.version_id, automatic=True)
                archived.append(version.version_id)
        return archived

    def restore(self, version_id: str, reason: str, now: datetime) -> bool:
        """Restore an archived version; False if it is not archived.

        Raises:
            UnknownName: there is no such version.
            PromotionRefused: its files were pruned.
        """
        with self.database.write() as session:
            version = fetch_version(session, version_id)
            if version.status != "archived":
                return False
            require_files(version)
            version.status = "trained"
            record_entry(session, "restore", version.model_key, reason, now, version_id=version_id)
            return True

    def pin(self, version_id: str, reason: str, now: datetime, *, pinned: bool) -> bool:
        """Protect a version from being archived, or no longer; False if nothing changes.

        Raises:
            UnknownName: there is no such version.
        """
        with self.database.write() as session:
            version = fetch_version(session, version_id)
            if version.pinned == pinned:
                return False
            version.pinned = pinned
            action = "pin" if pinned else "unpin"
            record_entry(session, action, version.model_key, reason, now, version_id=version_id)
            return True

    def prune(self, version_ids: Sequence[str], reason: str, now: datetime) -> list[str]:
        """Delete the files of archived versions from the database; their rows, scores and decisions stay.

        Returns:
            The ids pruned: those that are still archived and not pinned.
        """
        pruned = []
        with self.database.write() as session:
            for version_id in version_ids:
                version = fetch_version(session, version_id)
                if version.status != "archived" or version.pinned or version.pruned_at is not None:
                    continue
                # The names and hashes stay, so that what is left of the files in the models folder can be recognised.
                session.execute(update(VersionFile).where(VersionFile.version_id == version_id).values(data=None))
                version.pruned_at = now
                record_entry(session, "prune", version.model_key, reason, now, version_id=version_id)
                pruned.append(version_id)
        return pruned
