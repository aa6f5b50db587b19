"""The documents of the project: its plugins, and what `doctor` finds."""

from typing import TYPE_CHECKING

from pydantic import Field

from retrainer.render.documents.base import Document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer import doctor
    from retrainer.algorithms.events import PluginStatus


class Plugin(Document):
    """One installed algorithm or observer."""

    name: str
    kind: str
    version: str
    distribution: str
    model_types: list[str]
    summary: str | None
    hooks: list[str]
    status: str
    problem: str | None

    @classmethod
    def from_status(cls, plugin: "PluginStatus") -> "Plugin":
        description = plugin.description
        return cls(
            name=plugin.name,
            kind=plugin.kind,
            version=plugin.version,
            distribution=plugin.distribution,
            model_types=list(description.model_types) if description else [],
            summary=description.summary if description else None,
            hooks=list(plugin.hooks),
            status="broken" if plugin.problem else "ok",
            problem=plugin.problem,
        )


class Finding(Document):
    """Something that `doctor` found."""

    kind: str
    subject: str
    message: str
    mended: bool | None = Field(validation_alias="repaired")


class Findings(Document):
    """What `doctor` found."""

    findings: list[Finding]
    count: int

    @classmethod
    def from_findings(cls, findings: "Sequence[doctor.Finding]") -> "Findings":
        return cls(findings=Finding.list_of(findings), count=len(findings))
