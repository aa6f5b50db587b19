"""Plugins for tests: the code of algorithms and observers, a folder to install them into, and an observer."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retrainer.algorithms import hookimpl

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TIMING = """\
import os
from pathlib import Path

import numpy as np
from retrainer.algorithms import Algorithm, hookimpl
{setup}

@hookimpl
def algorithm():
    return Algorithm(name="{name}", model_types=("timing",), summary="The same wait for every origin.")

@hookimpl
def train(posts):
{train}
    return {{"hours": {hours}}}

@hookimpl
def predict(model, posts, origins):
{predict}
    from retrainer.model_types.timing import TimingForecasts

    wait = np.broadcast_to(np.asarray({wait}, dtype=float), len(origins))
    return TimingForecasts(np.repeat(wait[:, None], 99, axis=1), wait)
{hooks}
"""

# Each word, and the end, has half of its probability from the posts known at the origin, the last few of them, and half
# of 1 / 1000 from a vocabulary of a thousand words.
_WORDS_OF_THE_LAST_POSTS = """\
import numpy as np
from retrainer.algorithms import Algorithm, ContentForecast, Likelihoods, hookimpl

@hookimpl
def algorithm():
    return Algorithm(name="{name}", model_types=("content",), summary="Words of the last posts.")

@hookimpl
def train(posts):
    return {{}}

@hookimpl
def predict(model, posts, origins):
    return [ContentForecast({text}) for position in origins.position]

@hookimpl
def likelihood(model, posts, origins, texts):
    nats = [log_likelihood(posts, position, text) for position, text in zip(origins.position, texts, strict=True)]
    return Likelihoods(np.array(nats), np.array([len(words(text)) for text in texts]))

def words(text):
    return [*text.split(), "<end>"]

def log_likelihood(posts, position, text):
    last = posts["content"].iloc[position + 1 + {shift} - {known} : position + 1 + {shift}]
    known = [word for post in last for word in words(post)]
    shares = [known.count(word) / len(known) if known else 0 for word in words(text)]
    return float(np.log([0.5 * share + 0.5 / 1000 for share in shares]).sum())
"""

_OBSERVER = """\
from retrainer.algorithms import hookimpl

{hooks}
"""


def timing_algorithm(
    name: str,
    hours: str | float = 5.0,
    *,
    setup: str = "",
    train: str = "",
    predict: str = "",
    wait: str = "model['hours']",
    hooks: str = "",
) -> str:
    """Return the code of a timing algorithm, which forecasts a wait of so many hours unless more is given.

    Args:
        name: the algorithm's name.
        hours: an expression of the wait that the model holds; it may use `posts`.
        setup: statements of the module.
        train: statements before the model is returned.
        predict: statements before the forecasts are made; they may use `model`, `posts` and `origins`.
        wait: an expression of the forecast wait, for all origins or for each.
        hooks: further functions of the module.
    """
    return _TIMING.format(
        name=name,
        hours=hours,
        setup=textwrap.dedent(setup),
        train=textwrap.indent(textwrap.dedent(train), "    "),
        predict=textwrap.indent(textwrap.dedent(predict), "    "),
        wait=wait,
        hooks=textwrap.dedent(hooks),
    )


def content_algorithm(
    name: str, *, known: int = 3, text: str = "posts['content'].iloc[position]", shift: int = 0
) -> str:
    """Return the code of a content algorithm that says how likely texts are.

    Args:
        name: the algorithm's name.
        known: the number of last posts that the likelihood depends on; 0 for a likelihood that ignores the context.
        text: an expression of the forecast; it may use `posts` and `position`. By default, the previous post.
        shift: by how many posts the likelihood looks into the future.
    """
    return _WORDS_OF_THE_LAST_POSTS.format(name=name, known=known, text=text, shift=shift)


@dataclass(frozen=True)
class Plugins:
    """A folder of installed packages, as `pip install --target` leaves them."""

    site: Path

    def add(
        self,
        name: str,
        code: str,
        *,
        distribution: str | None = None,
        group: str = "retrainer.algorithms",
        attribute: str = "",
    ) -> None:
        """Install a package with one module and one entry point, which is the module or an attribute of it."""
        distribution = distribution or f"retrainer-{name.replace('_', '-')}"
        module = distribution.replace("-", "_") + "_module"
        (self.site / f"{module}.py").write_text(textwrap.dedent(code))
        info = self.site / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}{attribute and ':'}{attribute}\n")

    def add_observer(self, name: str, hooks: str) -> None:
        """Install a package with an observer that has these hooks."""
        self.add(name, _OBSERVER.format(hooks=textwrap.dedent(hooks)), group="retrainer.observers")

    @property
    def environ(self) -> dict[str, str]:
        """The environment in which a process finds the packages."""
        return {"PYTHONPATH": str(self.site)}


class Diary:
    """An observer in this process that keeps the events."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []

    @hookimpl
    def on_event(self, event: Mapping[str, Any]) -> None:
        self.events.append(event)

    def kinds(self) -> list[str]:
        return [str(event["kind"]) for event in self.events]
