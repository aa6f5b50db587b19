"""The command that tests retraining policies on past posts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrainer import console
from retrainer.cli.completion import complete_policies
from retrainer.cli.context import open_project
from retrainer.cli.options import AsJson, StreamOption, TypeArgument, time_option
from retrainer.cli.plot import check_plot, plot_option, write_plot
from retrainer.cli.workers import AddressOption, BackendOption, SchedulerOption, WorkerOptions
from retrainer.render import replay as render
from retrainer.render.charts import replay as charts
from retrainer.replay import runner, sandbox
from retrainer.times import format_duration

if TYPE_CHECKING:
    from retrainer.replay.runner import Progress

INTERRUPTED = 130
INCOMPLETE = 1

app = typer.Typer(rich_markup_mode=None)


@app.command()
def replay(
    context: typer.Context,
    model_type: TypeArgument = "timing",
    *,
    stream: StreamOption = None,
    start: Annotated[datetime, time_option("The first step (ISO 8601, UTC).", "--from", metavar="DATE")],
    end: Annotated[datetime | None, time_option("The end. By default, the last post.", "--to", metavar="DATE")] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'NAME: KEY=VALUE, …'",
            autocompletion=complete_policies,
            help="Another policy: keys of `retraining` such as schedule_days, or algorithm. Repeatable.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=256, help="The number of processes that train in advance. By default, 1."),
    ] = None,
    backend: BackendOption = None,
    scheduler: SchedulerOption = None,
    address: AddressOption = None,
    plot: Annotated[Path | None, plot_option("the live scores over time and the promotions")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an earlier replay.")] = False,
    workdir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The working folder. By default, .retrainer/replay in the project."),
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(
            metavar="DOLLARS", min=0, help="The maximum total cost of paid forecasts; required if there are any."
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Test the retraining policy, and others, on past posts.

    Each step does what `train --as-of` does, in a separate registry, and lets the version that is live then forecast
    the posts up to the next step. The configured policy is compared with `never` (keep the first version) and `always`
    (promote every version).

    Example: retrainer replay timing --from 2024-01-01 --policy "daily: schedule_days=1, min_confidence=0.95"
    """
    workers = WorkerOptions(backend, scheduler, address)
    workers.validate(jobs)
    check_plot(plot, context)
    with open_project(context) as (project, runtime), workers.connect() as cluster:
        report = runner.replay(
            sandbox.choose_stream(project, stream),
            runtime,
            model_type,
            datetime.now(UTC),
            start,
            end,
            policies=policy or (),
            workdir=None if workdir is None else workdir.absolute(),
            jobs=jobs or 1,
            cluster=cluster,
            resume=resume,
            max_cost=max_cost,
            on_progress=_show_progress,
        )
    if as_json:
        console.document(render.replay_document(report))
    else:
        render.show_replay(report)
    if plot is not None:
        write_plot(plot, [charts.scores(report), charts.promotions(report)], "no policy was replayed")
    if report.ending.interrupted:
        return INTERRUPTED
    no_result = all(policy_report.live is None for policy_report in report.policies)
    return INCOMPLETE if report.ending.stopped or no_result else 0


def _show_progress(progress: Progress) -> None:
    console.progress(f"Step {progress.done} of {progress.total}, about {format_duration(progress.seconds_left)} left")
