"""The documents of an exported version, and of `export` and `import`."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import AwareDatetime, Field

from retrainer.model_types import ModelTypeName
from retrainer.render.documents.base import Document, Timestamp, VersionId
from retrainer.render.documents.versions import VersionLifeDocument

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.registry import tables


class ExportedVersionDocument(VersionLifeDocument):
    """A version as `show --json` prints it, with the exact times."""

    version_id: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$")
    trained_at: AwareDatetime
    trained_through: AwareDatetime
    num_training_samples: int = Field(ge=0, lt=2**31)
    training_duration_seconds: float = Field(ge=0, lt=1e9)
    started_from: str | None
    refit_id: str | None = Field(pattern=r"^[A-Za-z0-9_]{1,200}$")
    num_refit_samples: int | None = Field(ge=0, lt=2**31)
    refit_through: AwareDatetime | None


class ExportedFileDocument(Document):
    """One file of an exported version."""

    sha256: str
    size: int


class ExportDocument(Document):
    """What an exported version says about itself."""

    format: int
    release: str
    exported_at: Timestamp
    version: ExportedVersionDocument
    files: dict[str, ExportedFileDocument]


class TransferDocument(Document):
    """The result of `export` and `import`."""

    status: Literal["success"]
    message: str
    version_id: VersionId
    model_type: ModelTypeName
    algorithm: str
    file: str
    changed: bool

    @classmethod
    def from_version(cls, version: "tables.ModelVersion", file: "Path", message: str, *, changed: bool) -> Self:
        return cls.build(version, status="success", message=message, file=str(file), changed=changed)
