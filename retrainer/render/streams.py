"""The table of streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer import console
from retrainer.console import Styled
from retrainer.render.cells import format_id, format_moment, format_score, format_stream, moment_heading, skill_style

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from retrainer.overview import ModelOverview, StreamOverview


def show_streams(streams: Sequence[StreamOverview], total: int, short_ids: Mapping[str, str]) -> None:
    """Print streams, a row for each of their models."""
    if not total:
        console.text("No matching models")
        return
    rows = [row for one in streams for row in _rows(one, short_ids)]
    columns = ["Stream", "Posts", moment_heading("Newest"), "Type", "Live", "Score", "Skill", "State"]
    title = f"Streams ({len(streams)} of {total})"
    console.table(columns, rows, title=title, right=["Posts", "Score", "Skill"], optional=["Posts"], cut=True)


def _rows(one: StreamOverview, short_ids: Mapping[str, str]) -> Iterator[tuple[str | Styled, ...]]:
    # A type that is neither retrained nor live is no news, unless the stream would not be shown.
    shown = [model for model in one.models if model.enabled or model.live is not None] or one.models[:1]
    for model in shown:
        live, skill = model.live, model.skill
        yield (
            format_stream(one.stream),
            str(one.posts),
            format_moment(one.newest_at),
            model.model_type,
            format_id(live and live.version_id, short_ids),
            format_score(live and live.score),
            "-" if skill is None else Styled(f"{skill:+.3f}", skill_style(skill)),
            _describe(model),
        )


def _describe(model: ModelOverview) -> Styled | str:
    """Return what there is to know of a model beside its scores; the worst decides the colour."""
    parts = []
    if model.failure is not None:
        when, error = format_moment(model.failure.started_at), model.failure.error
        parts.append(f"failed {when if console.is_terminal() else f'{when} UTC'}: {error}")
    if model.enabled and model.live is None:
        parts.append("nothing live")
    if model.hold is not None:
        parts.append("on hold")
    if model.due.is_due:
        parts.append("due")
    if not model.enabled:
        parts.append("disabled")
    bad = model.failure is not None or (model.enabled and model.live is None)
    text = "; ".join(reversed(parts)) if len(parts) > 1 else "".join(parts)
    return Styled(text, "bad") if bad else Styled(text, "warning") if model.hold is not None else text
