"""The live fit of a version: fitted again on all posts, it forecasts; the evaluated fit is scored and compared.

Its files are among those of the version, in a subfolder of their own, with a manifest of their own.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.registry.tables import VersionFile

REFITS = "refits"  # the subfolder of a version's folder


@dataclass(frozen=True)
class Refit:
    """A live fit.

    Attributes:
        refit_id: the name of its folder.
        num_samples: the number of posts it was fitted to.
        through: the time of the last of them, UTC …
        through_post_id: … and its id.
        manifest_sha256: the SHA-256 of its manifest.
    """

    refit_id: str
    num_samples: int
    through: datetime
    through_post_id: str
    manifest_sha256: str

    @property
    def folder(self) -> str:
        """Its folder, relative to that of the version."""
        return f"{REFITS}/{self.refit_id}"

    def describe(self) -> str:
        """Return the sentence that the reason of a promotion ends with."""
        return f"Fitted again on {self.num_samples} posts through {self.through:%Y-%m-%d %H:%M} UTC"

    def document(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "refit_id": self.refit_id,
            "num_samples": self.num_samples,
            "through": self.through.isoformat(),
            "through_post_id": self.through_post_id,
            "manifest_sha256": self.manifest_sha256,
        }

    @classmethod
    def from_document(cls, document: dict[str, Any] | None) -> Refit | None:
        """Reverse `document`; None for None."""
        return None if document is None else cls(**{**document, "through": datetime.fromisoformat(document["through"])})


def new_refit_id(now: datetime) -> str:
    """Return the id of a new live fit: {YYYYMMDD}_{HHMMSS}_{8 hex}."""
    return f"{now.astimezone(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(4)}"


@dataclass(frozen=True)
class NewRefit:
    """A live fit that is not live yet, and the rows of its files."""

    refit: Refit
    files: Sequence[VersionFile]
