"""What is sent: the body of one request, made of the model and the posts known at the origin."""

from __future__ import annotations

from datetime import UTC, datetime
from string import Template
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from retrainer_claude.text import cleaned, cut

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from anthropic.types import (
        CacheControlEphemeralParam,
        MessageParam,
        OutputConfigParam,
        TextBlockParam,
        ThinkingConfigParam,
    )
    from numpy.typing import NDArray

    from retrainer.algorithms import Origins
    from retrainer_claude import ClaudeOptions

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_CACHED: CacheControlEphemeralParam = {"type": "ephemeral"}


class Request(TypedDict):
    """The arguments of `messages.create`."""

    model: str
    max_tokens: int
    system: list[TextBlockParam]
    messages: list[MessageParam]
    thinking: ThinkingConfigParam
    output_config: NotRequired[OutputConfigParam]


def build_requests(
    model: dict[str, Any], posts: pd.DataFrame, origins: Origins, options: ClaudeOptions
) -> list[Request]:
    """Return one request an origin: the same inputs give the same requests, whatever follows the origin.

    All begin with the same text, the prompt and the examples, and that part is marked for the prompt cache.
    """
    times = _utc(origins.time)
    targets = times if origins.target_time is None else _utc(origins.target_time)
    return [
        _request(model, posts.iloc[: position + 1], origin=time, target=target, options=options)
        for position, time, target in zip(origins.position, times, targets, strict=True)
    ]


def _request(
    model: dict[str, Any], known: pd.DataFrame, origin: datetime, target: datetime, options: ClaudeOptions
) -> Request:
    request: Request = {
        "model": options.model,
        "max_tokens": options.max_tokens,
        "system": [{"type": "text", "text": _system_text(model), "cache_control": _CACHED}],
        "messages": [
            *_example_turns(_known_examples(model["examples"], known, origin)),
            {"role": "user", "content": _question(_latest_posts(known, options), target)},
        ],
        "thinking": _thinking(options),
    }
    if options.thinking == "adaptive":
        request["output_config"] = {"effort": "low"}
    return request


def _thinking(options: ClaudeOptions) -> ThinkingConfigParam:
    match options.thinking:  # a literal in each branch: the SDK's types know no other spelling
        case "disabled":
            return {"type": "disabled"}
        case "between_tools":
            return {"type": "between_tools"}
        case "adaptive":
            return {"type": "adaptive"}


def _system_text(model: dict[str, Any]) -> str:
    facts = {
        name: f"{value:.0%}" if name.startswith("share_") else f"{value:.0f}" for name, value in model["style"].items()
    }
    return Template(model["prompt"]).substitute(facts).strip()


def _known_examples(examples: list[dict[str, str]], known: pd.DataFrame, origin: datetime) -> list[dict[str, str]]:
    """Return the examples published by the origin: all of them, unless it lies among the training posts."""
    last_known = (origin, str(known["post_id"].iloc[-1]) if len(known) else "")
    return [
        example
        for example in examples
        if (datetime.fromisoformat(example["created_at"]), example["post_id"]) <= last_known
    ]


def _example_turns(examples: list[dict[str, str]]) -> list[MessageParam]:
    turns: list[MessageParam] = []
    for number, example in enumerate(examples, start=1):
        answer: TextBlockParam = {"type": "text", "text": example["content"]}
        if number == len(examples):
            answer["cache_control"] = _CACHED
        turns.append({"role": "user", "content": _question([], datetime.fromisoformat(example["created_at"]))})
        turns.append({"role": "assistant", "content": [answer]})
    return turns


def _latest_posts(known: pd.DataFrame, options: ClaudeOptions) -> list[str]:
    """Return the last posts with a text, oldest first, each headed by its time."""
    contents, times = known["content"].array, known["created_at"].array
    latest: list[str] = []
    for row in range(len(known) - 1, -1, -1):
        if len(latest) == options.recent_posts:
            break
        if text := cleaned(contents[row]):
            text = cut(text, options.example_max_characters)
            latest.append(f'<post time="{_spoken(times[row])}">\n{text}\n</post>')
    return latest[::-1]


def _question(latest_posts: list[str], target: datetime) -> str:
    ask = f"The post of {_spoken(target)}:"
    if not latest_posts:
        return ask
    return "\n\n".join(["The latest posts, oldest first:", *latest_posts, ask])


def _spoken(time: datetime) -> str:
    return f"{_WEEKDAYS[time.weekday()]}, {time:%Y-%m-%d %H:%M} UTC"


def _utc(times: NDArray[np.datetime64]) -> list[datetime]:
    return [time.replace(tzinfo=UTC) for time in times.astype("datetime64[us]").tolist()]
