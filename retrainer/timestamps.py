"""How times are written where a program reads them: JSON documents, records, log files."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


def format_timestamp(timestamp: datetime) -> str:
    """Return a time as in 2025-11-06T12:00:00Z."""
    return f"{timestamp.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
