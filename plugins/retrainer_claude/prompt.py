"""The requests: the prompt and the examples of the model, and the posts known at each origin."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import islice
from string import Template
from typing import TYPE_CHECKING, Any, cast

from retrainer_claude.post_format import post_format
from retrainer_claude.text import truncate

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from anthropic.types import CacheControlEphemeralParam, MessageParam, TextBlockParam, ThinkingConfigParam
    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming as Request
    from numpy.typing import NDArray

    from retrainer.algorithms import Origins
    from retrainer_claude import ClaudeOptions
    from retrainer_claude.post_format import PostFormat

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_PROMPT_ITEMS = re.compile(r"^(?=- )|(?<=\n)(?=\n)", re.MULTILINE)  # before each item of a list, and each paragraph
_CACHED: CacheControlEphemeralParam = {"type": "ephemeral"}


def build_requests(
    model: dict[str, Any],
    posts: pd.DataFrame,
    origins: Origins,
    options: ClaudeOptions,
    without: frozenset[str] = frozenset(),
) -> list[Request]:
    """Return one request per origin; posts after the origin do not affect it.

    All begin with the prompt and the examples, and mark that part for the prompt cache.

    Args:
        without: the parts to leave out: `examples`; `last_posts`; `moment`, the time in the last question; `style`, the
            items of the prompt that state what was measured on the training posts.
    """
    times = _utc(origins.time)
    targets = times if origins.target_time is None else _utc(origins.target_time)
    return [
        _build_request(model, posts.iloc[: position + 1], time, target, options, without)
        for position, time, target in zip(origins.position, times, targets, strict=True)
    ]


def last_texts(posts: pd.DataFrame, position: int, form: PostFormat, count: int) -> list[str]:
    """Return the texts of the last posts with one, up to a position, oldest first."""
    newest_first = posts["content"].array[: position + 1][::-1]
    return list(islice(filter(None, map(form.read_post, newest_first)), count))[::-1]


def _build_request(
    model: dict[str, Any],
    known: pd.DataFrame,
    origin: datetime,
    target: datetime,
    options: ClaudeOptions,
    without: frozenset[str],
) -> Request:
    form = post_format(model)
    examples = [] if "examples" in without else _known_examples(model["examples"], known, origin)
    recent = [] if "last_posts" in without else _recent_posts(known, form, options)
    question = _question(recent, None if "moment" in without else target)
    system = _system_prompt(model, with_style="style" not in without)
    request: Request = {
        "model": options.model,
        "max_tokens": options.max_tokens,
        "system": [{"type": "text", "text": system, "cache_control": _CACHED}],
        "messages": [
            *_example_turns(examples, form),
            {"role": "user", "content": question},
        ],
        "thinking": cast("ThinkingConfigParam", {"type": options.thinking}),
    }
    if options.thinking == "adaptive":
        request["output_config"] = {"effort": "low"}
    return request


def _system_prompt(model: dict[str, Any], *, with_style: bool) -> str:
    prompt = model["prompt"]
    if not with_style:
        prompt = "".join(item for item in _PROMPT_ITEMS.split(prompt) if not Template(item).get_identifiers())
    style = model["style"].items()
    facts = {name: f"{value:.0%}" if name.startswith("share_") else f"{value:.0f}" for name, value in style}
    return Template(prompt).substitute(facts).strip()


def _known_examples(examples: list[dict[str, str]], known: pd.DataFrame, origin: datetime) -> list[dict[str, str]]:
    """Return the examples published by the origin: all of them, unless it lies among the training posts."""
    last_known = (origin, str(known["post_id"].iloc[-1]) if len(known) else "")
    return [
        example
        for example in examples
        if (datetime.fromisoformat(example["created_at"]), example["post_id"]) <= last_known
    ]


def _example_turns(examples: list[dict[str, str]], form: PostFormat) -> list[MessageParam]:
    turns: list[MessageParam] = []
    for example in examples:
        question = _question([], datetime.fromisoformat(example["created_at"]))
        answer: TextBlockParam = {"type": "text", "text": form.write_post(example["content"])}
        if example is examples[-1]:
            answer["cache_control"] = _CACHED
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": [answer]}]
    return turns


def _recent_posts(known: pd.DataFrame, form: PostFormat, options: ClaudeOptions) -> list[str]:
    """Return the last posts with a text, oldest first, each with its time."""
    newest_first = zip(known["created_at"].array[::-1], known["content"].array[::-1], strict=True)
    with_text = ((time, text) for time, content in newest_first if (text := form.read_post(content)))
    recent = [
        form.write_recent(_format_time(time), truncate(text, options.example_max_characters))
        for time, text in islice(with_text, options.recent_posts)
    ]
    return recent[::-1]


def _question(recent_posts: list[str], target: datetime | None) -> str:
    """Return the question for the post of a time; None for the next one, whenever it comes."""
    question = "The next post:" if target is None else f"The post of {_format_time(target)}:"
    return "\n\n".join(["The latest posts, oldest first:", *recent_posts, question]) if recent_posts else question


def _format_time(time: datetime) -> str:
    return f"{_WEEKDAYS[time.weekday()]}, {time:%Y-%m-%d %H:%M} UTC"


def _utc(times: NDArray[np.datetime64]) -> list[datetime]:
    return [time.replace(tzinfo=UTC) for time in times.astype("datetime64[us]").tolist()]
