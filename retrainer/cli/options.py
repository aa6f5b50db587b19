"""The options and arguments that several commands share, and how their values are parsed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from retrainer import times
from retrainer.cli.completion import complete_streams, complete_types, complete_versions
from retrainer.model_types import ORIGIN_RULES, ModelTypeName, OriginRule, parse_model_type
from retrainer.posts.validation import shorten
from retrainer.streams import check_stream_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta


def choice(*choices: str) -> Callable[[str], str]:
    """Return a parser that accepts these words only."""

    def parse(text: str) -> str:
        if text not in choices:
            raise typer.BadParameter(f"invalid value '{text}' (choose {', '.join(choices[:-1])} or {choices[-1]})")
        return text

    return parse


def parse_time(text: str) -> datetime:
    """Parse an ISO 8601 time; UTC where it names no zone."""
    try:
        return times.parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def parse_past_time(text: str) -> datetime:
    """Parse an ISO 8601 time that is not in the future."""
    time = parse_time(text)
    if time > datetime.now(UTC):
        raise typer.BadParameter(f"'{text}' is in the future")
    return time


def parse_time_or_delay(text: str) -> datetime | timedelta:
    """Parse an ISO 8601 time, or a delay such as 36h, 3d or 1w."""
    try:
        return times.parse_time_or_delay(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as 90s, 30m, 2h or 1d."""
    try:
        return times.parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def parse_time_or_last(text: str) -> datetime | Literal["last"]:
    """Parse an ISO 8601 time, or `last`."""
    try:
        return times.parse_time_or_last(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def time_option(help: str, *names: str, metavar: str = "TIME", past: bool = False) -> Any:  # noqa: A002  as in Typer
    """Return an option that holds a time, by default named after its parameter."""
    return typer.Option(*names, metavar=metavar, parser=parse_past_time if past else parse_time, help=help)


def _parse_stream(name: str) -> str:
    """Refuse what no stream is called, such as the empty name of an unset variable of a script."""
    try:
        return check_stream_name(name)
    except ValueError as error:
        raise typer.BadParameter(f"'{shorten(name)}' {error}") from None


def stream_option(help: str, *, metavar: str = "NAME") -> Any:  # noqa: A002  as in Typer
    """Return the option that chooses a stream, or streams by patterns."""
    return typer.Option("--stream", metavar=metavar, parser=_parse_stream, autocompletion=complete_streams, help=help)


StreamOption = Annotated[str | None, stream_option("The stream; required if there are several.")]
VersionStreamOption = Annotated[
    str | None,
    stream_option(
        "The stream of the version; required with @production, @previous or @latest if there are several streams."
    ),
]
StreamsOption = Annotated[
    list[str] | None,
    stream_option("Only this stream, or those that match, as in 'news_*'. Repeatable.", metavar="NAME|PATTERN"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
TypeArgument = Annotated[
    ModelTypeName,
    typer.Argument(
        metavar="TYPE",
        parser=parse_model_type,
        autocompletion=complete_types,
        help="The model type: timing or content.",
    ),
]
OptionalTypeArgument = Annotated[
    ModelTypeName | None,
    typer.Argument(
        metavar="timing|content",
        parser=parse_model_type,
        autocompletion=complete_types,
        help="Only this model type. By default, both.",
    ),
]
TypeOption = Annotated[
    ModelTypeName | None,
    typer.Option(
        "--type",
        metavar="TYPE",
        parser=parse_model_type,
        autocompletion=complete_types,
        help="Only timing or only content.",
    ),
]
MaxCostOption = Annotated[
    float | None,
    typer.Option(metavar="DOLLARS", min=0, help="The maximum total cost of paid forecasts; required if there are any."),
]
VersionArgument = Annotated[
    str,
    typer.Argument(
        metavar="VERSION",
        autocompletion=complete_versions,
        help="A version: its ID, a unique beginning or end of it, or @production, @previous, @latest.",
    ),
]
Origin = Annotated[
    OriginRule | None,
    typer.Option(
        metavar="post|clock",
        parser=choice(*ORIGIN_RULES),
        help="Timing: forecast right after each post, or at evenly spaced times. By default, as in the settings.",
    ),
]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="The reason to record.")]
Limit = Annotated[int, typer.Option(metavar="N", min=1, max=1_000_000, help="The maximum number to show.")]
