"""The cells of tables: short on a terminal, whole in a pipe or a file."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from retrainer import console
from retrainer.escapes import visible
from retrainer.times import format_relative

STREAM_CHARACTERS = 24

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retrainer.console import Styled
    from retrainer.model_types.expected_score import ExpectedScore
    from retrainer.registry.tables import TrainingRun


def format_id(one: str | None, short_ids: Mapping[str, str]) -> str:
    """Return the ID of a version or a run; on a terminal, the end that names it."""
    if one is None:
        return "-"
    return short_ids.get(one, one) if console.is_terminal() else one


def format_stream(name: str) -> str:
    """Return the name of a stream, with controls written out; on a terminal, the first 24 characters of it."""
    shown = visible(name)
    if not console.is_terminal() or len(shown) <= STREAM_CHARACTERS:
        return shown
    return f"{shown[: STREAM_CHARACTERS - 1]}…"


def format_moment(time: datetime | None) -> str:
    """Return a time to the minute, UTC; on a terminal, how long ago it was."""
    if time is None or not console.is_terminal():
        return format_minute(time)
    return format_relative(time, datetime.now(UTC))


def moment_heading(name: str) -> str:
    """Return the heading of a column of moments."""
    return name if console.is_terminal() else f"{name} (UTC)"


def format_actor(actor: str, *, automatic: bool) -> str:
    """Return who acted; on a terminal, without the host."""
    if console.is_terminal():
        return "automatic" if automatic else actor.partition("@")[0]
    return actor + (" (automatic)" if automatic else "")


def format_result(run: TrainingRun) -> Styled:
    """Return how a run ended."""
    if run.status == "completed":
        promoted = run.promoted_to_production
        return console.Styled("promoted", "good") if promoted else console.Styled("not promoted", "faint")
    return console.Styled(run.status, "bad" if run.status == "failed" else "warning")


def format_minute(time: datetime | None) -> str:
    """Return a time to the minute, UTC."""
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M}"


def format_score(score: float | None) -> str:
    """Return a score with four digits."""
    return "-" if score is None else f"{score:.4f}"


def format_expected_score(expected: ExpectedScore) -> str:
    """Return the interval in which the score of a text is expected, as a sentence without a full stop."""
    interval = f"{expected.low:.2f} to {expected.high:.2f}"
    basis = f"from the version's scores on {expected.posts} earlier posts"
    return f"Expected score: {interval} ({expected.level:.0%} interval, {basis})"


def skill_style(skill: float) -> Literal["good", "bad", "warning"]:
    """Return the style of a skill: better than the naive forecast, worse, or as good."""
    return "good" if skill > 0 else "bad" if skill < 0 else "warning"


def format_size(size: int) -> str:
    """Return a number of bytes in KiB or MiB."""
    return f"{size / 1024:.1f} KiB" if size < 1024 * 1024 else f"{size / 1024 / 1024:.1f} MiB"
