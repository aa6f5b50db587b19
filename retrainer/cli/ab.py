"""The commands of A/B tests: start, status, stop."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from retrainer import console
from retrainer.cli import groups
from retrainer.cli.completion import complete_versions
from retrainer.cli.context import has_several_streams, open_project, open_stream
from retrainer.cli.options import AsJson, OptionalTypeArgument, Reason, StreamOption, TypeArgument, stream_option
from retrainer.errors import UsageError
from retrainer.live import ab_tests
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.render import ab_tests as ab_tests_output
from retrainer.render import documents

app = typer.Typer(rich_markup_mode=None)
ab_app = typer.Typer(
    cls=groups.SuggestingGroup, rich_markup_mode=None, help="Compare a version with production on new posts."
)
app.add_typer(ab_app, name="ab")


@ab_app.command("start")
def start(
    context: typer.Context,
    model_type: TypeArgument,
    challenger: Annotated[
        str,
        typer.Argument(
            metavar="CHALLENGER",
            autocompletion=complete_versions,
            help="The version to test: its ID, a unique beginning or end of it, or @previous, @latest.",
        ),
    ],
    *,
    stream: StreamOption = None,
    share: Annotated[
        float,
        typer.Option(
            metavar="PERCENT",
            min=0,
            max=100,
            help="The percentage of subjects (`predict --subject`) that the challenger answers.",
        ),
    ] = 0,
    max_posts: Annotated[
        int, typer.Option(metavar="N", min=1, max=100_000, help="End undecided after N live posts.")
    ] = 2000,
    level: Annotated[
        float, typer.Option(metavar="LEVEL", min=0.0001, max=0.5, help="The maximum probability of a wrong decision.")
    ] = 0.05,
    max_cost: Annotated[
        float | None,
        typer.Option(
            metavar="DOLLARS",
            min=0,
            max=1_000_000_000,
            help="The maximum cost of each side's paid forecasts; required if there are any.",
        ),
    ] = None,
    reason: Reason = "Started by hand",
    as_json: AsJson = False,
) -> None:
    """Start an A/B test of a version against production.

    Both forecast every post that comes, and the test is decided as soon as one of them is shown to be better. With
    `retraining.refit`, the challenger is fitted again on all posts first.

    Example: retrainer ab start timing @latest --share 20
    """
    with open_stream(context, stream) as (project, runtime):
        version_id = project.registry.find_version(challenger, model_type).version_id
        state = ab_tests.start_test(
            project,
            runtime,
            model_type,
            version_id,
            reason,
            datetime.now(UTC),
            share=share,
            max_posts=max_posts,
            level=level,
            max_cost=max_cost,
        )
        several = has_several_streams(project)
    _show([state], as_json=as_json, several=several)


@ab_app.command("status")
def status(
    context: typer.Context,
    model_type: OptionalTypeArgument = None,
    *,
    stream: Annotated[str | None, stream_option("Only this stream.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score the new posts, decide the A/B test if they settle it, and show it.

    If no test is running, the last one is shown; with several streams, only running ones are.

    Example: retrainer ab status timing
    """
    with open_project(context) as (opened, runtime):
        now, several = datetime.now(UTC), has_several_streams(opened)
        if several and stream is None:
            running = opened.registry.across(None).list_running_tests(model_type)
            keys = [test.model_key for test in running]
        else:
            project = opened.choose_stream(stream)
            keys = [project.registry.key(name) for name in MODEL_TYPE_NAMES if model_type in {None, name}]
        found = [ab_tests.check_test(opened.for_stream(key.stream), runtime, key.model_type, now) for key in keys]
    states = [state for state in found if state is not None]
    if as_json:
        console.document(documents.ab_tests.ABTestsDocument.from_states(states))
    elif not states:
        of = "" if model_type is None else f" of {model_type}"
        console.text(f"No A/B test{of}. Start one with `retrainer ab start {model_type or 'TYPE'} CHALLENGER`")
    else:
        _show(states, as_json=False, several=several)


@ab_app.command("stop")
def stop(
    context: typer.Context,
    model_type: TypeArgument,
    *,
    stream: StreamOption = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Promote the challenger, with the fit that was tested.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Record that production was kept.")] = False,
    reason: Reason = "A/B test stopped by hand",
    as_json: AsJson = False,
) -> None:
    """Stop the A/B test of a model type.

    Without --promote, production stays as it is.

    Example: retrainer ab stop timing --keep --reason "the difference is too small"
    """
    if promote and keep:
        raise UsageError("--promote and --keep exclude each other", hint="Choose one")
    outcome: Literal["promoted", "kept", "stopped"] = "promoted" if promote else "kept" if keep else "stopped"
    with open_stream(context, stream) as (project, runtime):
        state = ab_tests.stop_test(project, runtime, model_type, outcome, reason, datetime.now(UTC))
        several = has_several_streams(project)
    _show([state], as_json=as_json, several=several)


def _show(states: list[ab_tests.ABTestState], *, as_json: bool, several: bool) -> None:
    if as_json:
        console.document(documents.ab_tests.ABTestDocument.from_state(states[0]))
        return
    for index, state in enumerate(states):
        if index:
            console.text()
        ab_tests_output.show_test(state, several=several)
