"""What is asked of a change on the pages, what its confirmation says, and what was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from retrainer.errors import UsageError, invalid_value
from retrainer.model_types import MODEL_TYPE_NAMES, parse_model_type

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion
    from retrainer.web.site import Site


class Row(NamedTuple):
    """Something that changes.

    Attributes:
        before, after: its values; a version by its id.
    """

    name: str
    before: str
    after: str


class Choice(NamedTuple):
    """A question of the confirmation, answered by yes or no."""

    field: str
    label: str
    default: bool


@dataclass(frozen=True)
class Confirmation:
    """What a change would do.

    Attributes:
        heading: the question.
        button: the answer that carries it out.
        rows: what changes.
        notes: what else follows, each a sentence.
        warnings: what may cost money or cannot be known.
        choices: what can be chosen.
        compare: the two versions that can be compared first.
        reason: the reason for the record by default; None if none is recorded.
        seen: the state that was shown: a change of another one is not carried out.
    """

    heading: str
    button: str
    rows: list[Row]
    notes: list[str]
    seen: str
    warnings: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    compare: tuple[str, str] | None = None
    reason: str | None = None


class Done(NamedTuple):
    """A change that was carried out.

    Attributes:
        message: what was done.
        address: the page that shows it.
    """

    message: str
    address: str


@dataclass(frozen=True)
class ChangeRequest:
    """What is asked for.

    Attributes:
        target: the parameters of the address: `version`, `type`, `stream`.
        form: the fields of the confirmation; empty while it is only shown.
        now: the time, UTC.
    """

    site: Site
    target: Mapping[str, str]
    form: Mapping[str, str]
    now: datetime

    def find_version(self) -> tuple[Project, ModelVersion]:
        """Return the version, and the project seen from its stream.

        Raises:
            UsageError: none is named.
            UnknownName: there is no such version.
        """
        if "version" not in self.target:
            raise UsageError("no version given", hint="Open this page from the page of a version")
        return self.site.streams.find_version(self.target["version"], self.target.get("stream"))

    def find_model(self) -> tuple[Project, ModelTypeName]:
        """Return the model type, and the project seen from the stream."""
        name = self.target.get("type")
        if name not in MODEL_TYPE_NAMES:
            choices = f"choose {' or '.join(MODEL_TYPE_NAMES)}"
            raise UsageError(invalid_value("type", name or "", choices))
        return self.site.streams.choose(self.target.get("stream")), parse_model_type(name)

    def name_stream(self) -> str | None:
        """Return the stream that the addresses of pages name; None if the project has only one.

        Raises:
            UsageError, UnknownName: what is to be changed does not exist.
        """
        if "stream" in self.target:
            return self.target["stream"]
        return self.find_version()[0].stream if len(self.site.project.list_streams()) > 1 else None

    def reason(self, default: str) -> str:
        """Return the reason for the record."""
        return self.form.get("reason", "").strip() or default
