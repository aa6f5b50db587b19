"""What people type for a version or a run: its id, a unique beginning or end of it, or `timing@production`."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import TYPE_CHECKING

from sqlalchemy import func, or_, select

from retrainer.errors import UnknownName, UsageError, did_you_mean
from retrainer.model_types import MODEL_TYPE_NAMES, parse_model_type
from retrainer.registry.promotions import fetch_predecessor
from retrainer.registry.queries import fetch_production, is_of
from retrainer.registry.scope import Scope
from retrainer.registry.tables import ModelVersion, TrainingRun

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.orm import InstrumentedAttribute, Session

    from retrainer.model_types import ModelTypeName
    from retrainer.streams import ModelKey

MIN_CHARACTERS = 3  # of a part of an id
SHORT_LENGTHS = (4, 11, 20)  # of the end of an id: its random digits, with its time, with its date
_MAX_SUGGESTED = 300  # ids that a misspelled one is compared with, the newest


class Names(Scope):
    """The part of the registry that finds versions and runs by what people type."""

    def find_version(self, name: str, model_type: ModelTypeName | None = None) -> ModelVersion:
        """Return the version with this name.

        Args:
            name: an id, the beginning or the end of exactly one, or `production`, `previous` or `latest` after an `@`,
                with the model type before it: `timing@previous`. The previous version is what a rollback returns to.
            model_type: the model type of a name without one; the only type with such a version by default.

        Raises:
            UnknownName: there is no such version.
            UsageError: there is more than one.
        """
        with self.database.read() as session:
            if "\0" not in name and (version := session.get(ModelVersion, name)) is not None:
                return version
            if "@" in name:
                return self._find_by_role(session, name, model_type)
            version_id = _complete(session, ModelVersion.version_id, ModelVersion.trained_at, name, "version")
            return session.get_one(ModelVersion, version_id)

    def find_run_id(self, name: str) -> str:
        """Return the id of the run with this name: its id, or the beginning or the end of exactly one.

        Raises:
            UnknownName: there is no such run.
            UsageError: there is more than one.
        """
        with self.database.read() as session:
            if "\0" not in name and session.get(TrainingRun, name) is not None:
                return name
            return _complete(session, TrainingRun.run_id, TrainingRun.started_at, name, "run")

    def short_ids(self, of: Collection[str] | None = None) -> dict[str, str]:
        """Return the shortest end of the ID that no other one has, for every version and run.

        Args:
            of: only for these, which takes less time where there are very many.
        """
        columns = (ModelVersion.version_id, TrainingRun.run_id)
        with self.database.read() as session:
            if of is None:
                wanted = [one for column in columns for one in session.scalars(select(column))]
                ends = Counter(one[-length:] for one in wanted for length in SHORT_LENGTHS)
            else:
                wanted = list(of)
                ends = Counter()
                for column, length in product(columns, SHORT_LENGTHS):
                    end = func.substr(column, func.length(column) - length + 1)
                    query = select(end, func.count()).where(end.in_([one[-length:] for one in wanted])).group_by(end)
                    ends.update({row[0]: row[1] for row in session.execute(query)})
        return {
            one: next((one[-length:] for length in SHORT_LENGTHS if ends[one[-length:]] == 1), one) for one in wanted
        }

    def _find_by_role(self, session: Session, name: str, model_type: ModelTypeName | None) -> ModelVersion:
        type_name, _, role = name.partition("@")
        if role not in _ROLES:
            known = [f"{type_name}@{one}" for one in _ROLES]
            hint = did_you_mean(name, known) or f"Known: {', '.join(known)}"
            raise UnknownName(f"unknown version '{name}'", hint=hint)
        if type_name:
            model_type = parse_model_type(type_name)
        types = MODEL_TYPE_NAMES if model_type is None else (model_type,)
        found = [version for one in types if (version := _ROLES[role](session, self.key(one))) is not None]
        if len(found) > 1:
            choices = " or ".join(f"{version.model_type}@{role}" for version in found)
            raise UsageError(f"'{name}' matches more than one version", hint=f"Write {choices}")
        if not found:
            raise UnknownName(f"there is no version '{name}'", hint="`retrainer versions` lists them")
        return found[0]


def _latest(session: Session, key: ModelKey) -> ModelVersion | None:
    order = (ModelVersion.trained_at.desc(), ModelVersion.version_id.desc())
    return session.scalars(select(ModelVersion).where(is_of(ModelVersion, key)).order_by(*order)).first()


def _previous(session: Session, key: ModelKey) -> ModelVersion | None:
    version_id = fetch_predecessor(session, key)
    return None if version_id is None else session.get(ModelVersion, version_id)


_ROLES = {"production": fetch_production, "previous": _previous, "latest": _latest}


def _complete(
    session: Session,
    column: InstrumentedAttribute[str],
    newest: InstrumentedAttribute[object],
    part: str,
    kind: str,
) -> str:
    """Return the only id that begins or ends with a text."""
    listed = "`retrainer history` lists the runs" if kind == "run" else "`retrainer versions` lists them"
    found: list[str] = []
    if len(part) >= MIN_CHARACTERS and "\0" not in part:
        matches = or_(column.startswith(part, autoescape=True), column.endswith(part, autoescape=True))
        found = [
            one for one in session.scalars(select(column).where(matches)) if one.startswith(part) or one.endswith(part)
        ]
    if len(found) == 1:
        return found[0]
    if found:
        examples = ", ".join(sorted(found)[:2])
        raise UsageError(
            f"'{part}' matches {len(found)} {kind}s, such as {examples}", hint="Use a longer part of the ID"
        )
    recent = session.scalars(select(column).order_by(newest.desc()).limit(_MAX_SUGGESTED))
    raise UnknownName(f"unknown {kind} '{part}'", hint=did_you_mean(part, recent) or listed)
