"""How times are written: ISO 8601 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import overload


@overload
def format_time(time: datetime) -> str: ...
@overload
def format_time(time: None) -> None: ...
def format_time(time: datetime | None) -> str | None:
    """Format a time like 2025-11-06T12:00:00Z; None stays None."""
    return None if time is None else f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
