"""Posts as tokens: each with the moment and the time since the post before, as the network reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    Times = NDArray[np.datetime64]

WINDOW_TOKENS = 384
MAX_POST_TOKENS = 160  # of a post; the rest is cut off
_DAYS = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")  # the first of 1970 was a Thursday
IGNORED = -100  # a label that does not count, as in torch.nn.functional.cross_entropy
_MAX_CHARACTERS = 8 * MAX_POST_TOKENS  # given to the tokenizer, which is slow on a text of a megabyte


@dataclass(frozen=True)
class Tokens:
    """A post as tokens.

    Attributes:
        header: of its moment, such as `Wed 11h +7m:`.
        text: of its text, with the end-of-text token, also where it was cut off.
    """

    header: list[int]
    text: list[int]


def describe_moment(time: np.datetime64, before: np.datetime64 | None) -> str:
    """Return the weekday, the hour (UTC) and the time since the last post, as the network reads them."""
    hours = int(time.astype("datetime64[h]").astype(np.int64))
    return f"{_DAYS[hours // 24 % 7]} {hours % 24}h +{_describe_gap(time, before)}:"


def _describe_gap(time: np.datetime64, before: np.datetime64 | None) -> str:
    if before is None:
        return "?"
    minutes = max(0, int((time - before) / np.timedelta64(1, "m")))
    if minutes < 60:  # noqa: PLR2004  minutes of an hour
        return f"{minutes}m"
    return f"{minutes // 60}h" if minutes < 48 * 60 else f"{minutes // 1440}d"


class PostTokens:
    """The tokens of the posts of a stream, computed when they are asked for."""

    def __init__(self, tokenizer: Any, posts: pd.DataFrame, times: Times) -> None:
        self._tokenizer = tokenizer
        self._texts = posts["content"]
        self._times = times
        self._known: dict[int, Tokens] = {}

    def __len__(self) -> int:
        return len(self._times)

    def __getitem__(self, row: int) -> Tokens:
        if row not in self._known:
            header = self.header(row, self._times[row])
            self._known[row] = Tokens(header, self.text(str(self._texts.iloc[row])))
        return self._known[row]

    def header(self, row: int, time: np.datetime64) -> list[int]:
        """Return the tokens of the moment of the post that follows the one before a row."""
        ids: list[int] = self._encode(describe_moment(time, self._times[row - 1] if row else None))
        return ids

    def text(self, text: str) -> list[int]:
        """Return the tokens of a text and its end."""
        ids = self._encode(" " + text[:_MAX_CHARACTERS].strip())
        return [*ids[: MAX_POST_TOKENS - 1], self._tokenizer.eos_token_id]

    def _encode(self, text: str) -> list[int]:
        # A post that spells out a special token, such as the end of a text, contains these characters, not the token.
        read = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        ids: list[int] = read["input_ids"]
        return ids

    def prompt(self, last: int, time: np.datetime64 | None, context: int) -> list[int]:
        """Return the last posts up to a row and the moment of the next one, as many as a window holds.

        Args:
            last: the row of the last post.
            time: of the next post; None for a prompt without moments, as some windows of the training had none.
            context: the number of last posts.
        """
        ids = [] if time is None else self.header(last + 1, time)
        for row in range(last, max(-1, last - context), -1):
            header, text = [] if time is None else self[row].header, self[row].text
            if len(ids) + len(header) + len(text) > WINDOW_TOKENS:
                break
            ids = [*header, *text, *ids]
        return ids or [self._tokenizer.eos_token_id]


@dataclass(frozen=True)
class Example:
    """A window of consecutive posts.

    Attributes:
        ids: the tokens.
        labels: the tokens that are to be learned, those of texts; -100 for the others.
    """

    ids: list[int]
    labels: list[int]


def cut_windows(
    posts: PostTokens, rows: Sequence[int], offset: int, without_header: NDArray[np.bool_]
) -> list[Example]:
    """Cut consecutive posts into windows.

    Args:
        rows: of the posts, ascending.
        offset: how many posts the first window leaves out, so that each pass over the posts cuts them differently.
        without_header: (at least as many as windows) from which windows the moments are left out.
    """
    windows: list[Example] = []
    ids: list[int] = []
    labels: list[int] = []
    for row in rows[offset:]:
        post = posts[row]
        header = [] if without_header[len(windows) % len(without_header)] else post.header
        if ids and len(ids) + len(header) + len(post.text) > WINDOW_TOKENS:
            windows.append(Example(ids, labels))
            ids, labels = [], []
            header = [] if without_header[len(windows) % len(without_header)] else post.header
        ids = [*ids, *header, *post.text]
        labels = [*labels, *([IGNORED] * len(header)), *post.text]
    return [*windows, Example(ids, labels)] if ids else windows
