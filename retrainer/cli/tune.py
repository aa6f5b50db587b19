"""The command that tunes the options of algorithms, and lists the studies."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from retrainer import console
from retrainer.cli.completion import complete_algorithms, complete_studies, complete_types
from retrainer.cli.context import open_project
from retrainer.cli.options import AsJson, MaxCostOption, StreamOption, choice, parse_duration
from retrainer.cli.plot import check_plot, plot_option, write_plot
from retrainer.cli.workers import AddressOption, BackendOption, SchedulerOption, WorkerOptions
from retrainer.errors import RetrainerError, UsageError
from retrainer.model_types import ModelTypeName, parse_model_type
from retrainer.pipeline import results
from retrainer.render import documents
from retrainer.render import tuning as render
from retrainer.render.charts import tuning as charts
from retrainer.tuning import request as requests
from retrainer.tuning import run, runners, settings_changes, storage, study

if TYPE_CHECKING:
    from retrainer.project import Project
    from retrainer.runtime import Runtime
    from retrainer.tuning.results import TuningProgress, TuningResult

INTERRUPTED = 130

log = logging.getLogger(__name__)
app = typer.Typer(rich_markup_mode=None)


@app.command()
def tune(
    context: typer.Context,
    model_type: Annotated[
        ModelTypeName | None,
        typer.Argument(
            metavar="timing|content",
            parser=parse_model_type,
            autocompletion=complete_types,
            help="The model type. Optional with --show.",
        ),
    ] = None,
    *,
    stream: StreamOption = None,
    algorithm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            autocompletion=complete_algorithms,
            help="The algorithm; repeat to let several compete. By default, the configured one.",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=1_000_000, help="The number of trials of the study. By default, 30."),
    ] = None,
    timeout: Annotated[
        timedelta | None,
        typer.Option(metavar="DURATION", parser=parse_duration, help="Start no trial after this time, such as 30m."),
    ] = None,
    metric: Annotated[
        Literal["overall_score", "crps"],
        typer.Option(
            metavar="overall_score|crps",
            parser=choice("overall_score", "crps"),
            autocompletion=lambda: ["overall_score", "crps"],
            help="The metric by which trials are scored; crps applies to timing only.",
        ),
    ] = "overall_score",
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="The seed of the sampler.")] = 0,
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=256, help="The number of processes that run trials. By default, 1."),
    ] = None,
    backend: BackendOption = None,
    scheduler: SchedulerOption = None,
    address: AddressOption = None,
    max_cost: MaxCostOption = None,
    cost_objective: Annotated[
        bool, typer.Option("--cost-objective", help="Also minimize the cost of the forecasts.")
    ] = False,
    auto_promote: Annotated[
        bool | None,
        typer.Option("--auto-promote/--no-auto-promote", help="Override retraining.auto_promote."),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="If the winner is promoted, write its options to the settings file.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="List studies and the best trials of one; run nothing.")] = False,
    study_name: Annotated[
        str | None,
        typer.Option(
            "--study",
            metavar="STUDY",
            autocompletion=complete_studies,
            help="With --show: the study to show. By default, the newest.",
        ),
    ] = None,
    plot: Annotated[Path | None, plot_option("the trials of the study")] = None,
    as_json: AsJson = False,
) -> int:
    """Tune the options of an algorithm, and train with the best ones.

    Trials see only the training posts. A held-back part of these decides whether the best trial is kept; it is then
    trained like any other version, and promoted only if it is better than production. The same command continues a
    study that was interrupted.

    Example: retrainer tune timing --trials 50 --jobs 2 --apply
    """
    workers = WorkerOptions(backend, scheduler, address)
    workers.validate(jobs)
    check_plot(plot, context)
    if show:
        _refuse_with_show(
            algorithm=algorithm,
            trials=trials,
            timeout=timeout,
            jobs=jobs,
            backend=backend,
            max_cost=max_cost,
            cost_objective=cost_objective,
            auto_promote=auto_promote,
            apply=apply,
        )
        _show(context, model_type, stream, study_name, plot, as_json=as_json)
        return 0
    if study_name is not None:
        raise UsageError("--study requires --show", hint="Add --show; tuning resumes an unfinished study automatically")
    if model_type is None:
        raise UsageError("missing argument 'timing|content'", hint="Choose a model type, or add --show")
    request = requests.TuningRequest(
        model_type,
        tuple(dict.fromkeys(algorithm or ())),
        trials=trials or requests.DEFAULT_TRIALS,
        timeout_seconds=None if timeout is None else timeout.total_seconds(),
        metric=metric,
        seed=seed,
        max_cost=max_cost,
        cost_objective=cost_objective,
        auto_promote=auto_promote,
    )
    with open_project(context) as (opened, runtime), workers.connect() as cluster:
        project = opened.choose_stream(stream)
        result = run.tune(
            project,
            runtime,
            request,
            datetime.now(UTC),
            run_trials=runners.choose_runner(jobs or 1, cluster),
            on_progress=_show_progress,
        )
        settings = _settings_of(project, runtime, result, apply=apply)
    if as_json:
        console.document(
            documents.tuning.TuningDocument.from_result(result, settings.changes, applied=settings.file is not None)
        )
    else:
        render.show_result(result, settings.changes, written=settings.file)
    if plot is not None and result.report.summary.best is None:  # this must not hide how the study ended
        log.warning("'%s' was not written: no trial is complete", plot)
    elif plot is not None:
        write_plot(plot, [charts.trials(result.report)], "no complete trials")
    if result.interrupted:
        return INTERRUPTED
    return settings.exit_code or results.exit_code([result.run] if result.run else [])


class _SettingsOfWinner(NamedTuple):
    """What becomes of the winner's options.

    Attributes:
        changes: the keys to change; None without a winner that was kept.
        file: the settings file that they were written to; None if they were not.
        exit_code: 0, or that of the error that prevented it.
    """

    changes: settings_changes.Changes | None = None
    file: str | None = None
    exit_code: int = 0


def _settings_of(project: Project, runtime: Runtime, result: TuningResult, *, apply: bool) -> _SettingsOfWinner:
    """Return the settings that the winner needs; write them if they are to be applied and it was promoted.

    That they cannot be written is logged: the study and the promotion stand.
    """
    winner = result.winner
    if winner is None or winner.algorithm is None or result.run is None:
        return _SettingsOfWinner()
    arguments = (project, runtime, result.run.model_type, winner.algorithm, winner.options)
    changes = None
    try:
        changes = settings_changes.list_changes(*arguments)
        if not (apply and result.promoted and changes):
            return _SettingsOfWinner(changes)
        for variable in settings_changes.write_changes(*arguments)[1]:
            log.warning("%s in the environment overrides the tuned options", variable)
    except RetrainerError as error:
        log.error("The options were not written to '%s': %s", project.config_file, error)  # noqa: TRY400  no traceback
        return _SettingsOfWinner(changes, exit_code=error.exit_code)
    return _SettingsOfWinner(changes, str(project.config_file))


def _show(
    context: typer.Context,
    model_type: ModelTypeName | None,
    stream: str | None,
    name: str | None,
    plot: Path | None,
    *,
    as_json: bool,
) -> None:
    with open_project(context) as (opened, _):
        project = opened.choose_stream(stream)
        found = study.list_studies(project, model_type)
        chosen = name or (found[0].name if found else None)
        shown = None if chosen is None else study.read_study(project, chosen)
        location = storage.describe_storage(project)
    if plot is not None and shown is None:
        raise UsageError("--plot: no study to draw", hint="Run `retrainer tune timing` first")
    if as_json:
        console.document(documents.tuning.StudiesDocument.from_reports(found, shown))
    else:
        render.show_studies(found, shown, location=location)
    if plot is not None and shown is not None:
        write_plot(plot, [charts.trials(shown)], "no complete trials")


def _refuse_with_show(**options: object) -> None:
    for name, value in options.items():
        if value is not None and value is not False:
            raise UsageError(f"--{name.replace('_', '-')} cannot be used with --show", hint="Omit one")


def _show_progress(progress: TuningProgress) -> None:
    console.progress(render.describe_progress(progress))
