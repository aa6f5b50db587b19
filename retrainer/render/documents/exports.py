"""The documents of an exported version, and of `export` and `import`."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field

from retrainer.model_types import ModelTypeName
from retrainer.render.documents.base import Bounds, Document, StreamName, Timestamp, VersionId
from retrainer.render.documents.evaluations import NaiveDocument
from retrainer.render.documents.versions import VersionLifeDocument
from retrainer.streams import DEFAULT_STREAM, check_stream_name

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.registry import tables


def _to_utc(time: datetime) -> datetime:
    try:
        time = time.astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range in UTC") from None
    if time < _EARLIEST:
        raise ValueError(f"is before the year {_EARLIEST.year}")
    return time


_EARLIEST = datetime(1000, 1, 1, tzinfo=UTC)  # so that the time at which training began can be computed
_Time = Annotated[AwareDatetime, AfterValidator(_to_utc)]
_Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]  # PostgreSQL stores no NUL
_Count = Annotated[int, Field(ge=0, lt=2**31)]  # an integer in the database


class ExportedVersionDocument(VersionLifeDocument):
    """A version as `show --json` prints it, with exact times and what else another project needs."""

    trained_at: AwareDatetime
    trained_through: AwareDatetime
    started_from: str | None
    refit_id: str | None
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


# What an import reads of it, checked. What a later release adds needs a default here, since earlier exports lack it.


class ImportedEvaluationDocument(Document):
    """An evaluation in an export."""

    evaluation_id: _Text = Field(max_length=200)
    evaluated_at: _Time
    metrics: dict[str, Any]
    baseline: NaiveDocument
    num_predictions: _Count
    window: dict[str, Any]
    forecasts_file: str
    predictions_json: list[Any]


class ImportedWorthDocument(Document):
    """What a part is worth by a metric, in an export."""

    value: float
    interval: Bounds | None


class ImportedPartDocument(Document):
    """A part of an explanation in an export."""

    name: _Text
    label: _Text
    num_predictions: _Count
    worth: dict[Literal["overall_score", "lift", "crps_hours"], ImportedWorthDocument] | None
    problem: _Text


class ImportedExplanationDocument(Document):
    """An explanation in an export."""

    explanation_id: _Text = Field(max_length=200)
    explained_at: _Time
    method: Literal["left_out", "permuted"]
    window: dict[str, Any]
    num_predictions: _Count
    metrics: dict[Literal["overall_score", "lift", "crps_hours"], float]
    parts: list[ImportedPartDocument]
    seed: int | None
    cost_usd: float = Field(ge=0)
    problem: _Text


class ImportedVersionDocument(Document):
    """A version in an export."""

    version_id: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$")
    stream: Annotated[str, AfterValidator(check_stream_name)] = DEFAULT_STREAM
    model_type: ModelTypeName
    algorithm: str
    trained_at: _Time
    status: str
    num_training_samples: _Count
    training_duration_seconds: float = Field(ge=0, lt=1e9)
    trained_through: _Time
    trained_through_post_id: _Text
    hyperparameters: dict[str, Any]
    started_from: str | None
    refit_id: str | None = Field(pattern=r"^[A-Za-z0-9_]{1,200}$")
    num_refit_samples: _Count | None
    refit_through: _Time | None
    refit_through_post_id: _Text | None
    evaluations: list[ImportedEvaluationDocument]
    explanation: ImportedExplanationDocument | None = None
    ledger: list[dict[str, Any]]


class ImportedExportDocument(Document):
    """An export."""

    release: str
    exported_at: str
    version: ImportedVersionDocument
    files: dict[Annotated[str, Field(max_length=400)], ExportedFileDocument]


class TransferDocument(Document):
    """The result of `export` and `import`."""

    status: Literal["success"]
    message: str
    version_id: VersionId
    stream: StreamName
    model_type: ModelTypeName
    algorithm: str
    file: str
    changed: bool

    @classmethod
    def from_version(cls, version: "tables.ModelVersion", file: "Path", message: str, *, changed: bool) -> Self:
        return cls.build(version, status="success", message=message, file=str(file), changed=changed)
