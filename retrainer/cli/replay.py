"""The command that tries a retraining policy on the past."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003  Typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from retrainer import console
from retrainer.cli.app import TRY, AsJson, app, moment, open_project
from retrainer.model_types import parse_model_type

if TYPE_CHECKING:
    from retrainer.replay.runner import Progress

INTERRUPTED = 130
INCOMPLETE = 1


@app.command(rich_help_panel=TRY)
def replay(
    context: typer.Context,
    model_type: Annotated[str, typer.Argument(metavar="timing|content", help="The model type.")] = "timing",
    *,
    start: Annotated[str, typer.Option("--from", metavar="DATE", help="The first step (ISO, UTC).")],
    end: Annotated[
        str | None, typer.Option("--to", metavar="DATE", help="Up to when; otherwise to the last post.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'NAME: KEY=VALUE, …'",
            help="One more policy: keys of `retraining` such as schedule_days, or algorithm; may be given again.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, max=256, help="So many processes train ahead.")] = 1,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the live scores over time, as PNG or SVG.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from what an earlier replay left.")] = False,
    workdir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where it works; otherwise .retrainer/replay in the project.")
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(metavar="DOLLARS", min=0, help="What paid forecasts may cost in all; needed where there are any."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Try the retraining policy, and others, on the past.

    At each step it does what `train --as-of` does, in a registry of its own, and lets the version that is live then
    forecast the posts up to the next. Beside the configured policy stand `never` (the first version stays) and
    `always` (every version goes live).

    Example: retrainer replay timing --from 2024-01-01 --policy "daily: schedule_days=1, min_confidence=0.95"
    """
    kind = parse_model_type(model_type)
    first, last = moment("--from", start), None if end is None else moment("--to", end)
    with open_project(context, recovering=False) as project:
        from retrainer.render import plots  # noqa: PLC0415  numpy is slow to import
        from retrainer.replay import runner  # noqa: PLC0415

        if plot is not None:
            plots.require_format(plot)
        report = runner.replay(
            project,
            kind,
            datetime.now(UTC),
            first,
            last,
            policies=policy or (),
            workdir=None if workdir is None else workdir.absolute(),
            jobs=jobs,
            resume=resume,
            max_cost=max_cost,
            tell=_tell,
        )
    from retrainer.render.replay import replay_document, show_replay  # noqa: PLC0415

    if as_json:
        console.document(replay_document(report))
    else:
        show_replay(report)
    if plot is not None:  # at the end: what took so long to find out is told whatever becomes of it
        plots.draw(report, plot)
    if report.ending.interrupted:
        return INTERRUPTED
    nothing_known = all(one.live is None for one in report.policies)
    return INCOMPLETE if report.ending.stopped or nothing_known else 0


def _tell(progress: Progress) -> None:
    """Show on a terminal how far the replay is."""
    left = max(round(progress.seconds_left), 0)
    minutes, seconds = divmod(left, 60)
    time = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    console.progress(f"Step {progress.done} of {progress.total}, about {time} left")
