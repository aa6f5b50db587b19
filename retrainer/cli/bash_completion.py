"""Completion in bash, which splits words at `@`, `:` and `=`: `timing @ production`, `daily : schedule_days = 1`."""

from __future__ import annotations

import os
import re

from typer._click.shell_completion import CompletionItem, add_completion_class
from typer._completion_classes import BashComplete

# The words are lines. An `@` after anything but a model type starts a word, such as `@production`.
_SEPARATORS = re.compile(r"(?:\n(?=[:=])|(?<=\ntiming)\n(?=@)|(?<=\ncontent)\n(?=@))?([@:=]+)\n?")
_REPLACED_AFTER = re.compile(r"(?!['\"]).*(?:[:=]|(?=@))")  # of a word without quotes, bash replaces the last part


class BashCompletion(BashComplete):
    """Joins what bash split, and offers only the part that bash replaces."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, and the one at the cursor."""
        words = os.environ["COMP_WORDS"].split("\n")[: int(os.environ["COMP_CWORD"]) + 1]
        joined = _SEPARATORS.sub(r"\1", "\n".join(words)).split("\n")
        os.environ.update(COMP_WORDS="\n".join(joined), COMP_CWORD=str(len(joined) - 1))
        kept = _REPLACED_AFTER.match(joined[-1])
        self._kept = kept[0] if kept else ""
        return super().get_completion_args()

    def format_completion(self, item: CompletionItem) -> str:
        """Return what bash inserts."""
        return super().format_completion(item).removeprefix(self._kept)


def use_bash_completion() -> None:
    """Let Typer complete with this class."""
    add_completion_class(BashCompletion, "bash")
