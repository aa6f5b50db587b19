"""What the paid calls of one run share: an account of what they cost, and a folder of the answers that came.

The pipeline opens a workspace for a run, an evaluation or a comparison; a plugin whose forecasts cost money finds it by
`workspace()`. So a limit holds for both sides of a comparison together, and an evaluation that was cut off is gone on
with, not paid for again.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from retrainer.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

ANSWERS_KEPT_DAYS = 30


class LimitReached(Exception):
    """One more attempt could exceed a limit of the run. Says which."""


@dataclass
class Account:
    """What the calls of a run took so far.

    Attributes:
        attempts: HTTP requests begun.
        input_tokens, output_tokens: as told by the answers.
        refusals: answers in which the model refused.
        cost_usd: of the answers, and of the attempts whose answer was lost, at their estimate.
        reserved_usd: the estimate of the attempts under way.
    """

    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    refusals: int = 0
    cost_usd: float = 0.0
    reserved_usd: float = 0.0

    def begin(self, estimate_usd: float, *, max_calls: int | None, max_cost: float | None) -> None:
        """Count an attempt and reserve what it may cost.

        Raises:
            LimitReached: with it, the run could take more than the limits allow. Nothing is counted then.
        """
        if max_calls is not None and self.attempts >= max_calls:
            raise LimitReached(f"the limit of {max_calls} calls (max_calls) is reached")
        if max_cost is not None and self.cost_usd + self.reserved_usd + estimate_usd > max_cost:
            raise LimitReached(
                f"one more call could take the cost over ${max_cost:g} (max_cost): ${self.cost_usd:.4f} is spent"
            )
        self.attempts += 1
        self.reserved_usd += estimate_usd

    def end(self, estimate_usd: float, cost_usd: float) -> None:
        """Replace what an attempt reserved by what it cost."""
        self.reserved_usd -= estimate_usd
        self.cost_usd += cost_usd


@dataclass
class Workspace:
    """The account and the answers of one run.

    Attributes:
        account: what was spent.
        answers: the folder of answers; None where none are kept.
    """

    account: Account = field(default_factory=Account)
    answers: Path | None = None
    _used: set[Path] = field(default_factory=set)
    _asked: Counter[str] = field(default_factory=Counter)

    def key_of(self, request: Any) -> str:
        """Return the key of a request: the hash of all of it, and how often the same one was asked before it.

        Call it once for each forecast, in their order; begin anew with `restart` where a set of forecasts begins.
        """
        digest = sha256(json.dumps(request, sort_keys=True, ensure_ascii=True).encode("ascii")).hexdigest()
        self._asked[digest] += 1
        return f"{digest}-{self._asked[digest]}"

    def restart(self) -> None:
        """Count requests from the start again: the next set of forecasts may ask for the same answers."""
        self._asked.clear()

    def recall(self, key: str) -> dict[str, Any] | None:
        """Return the answer that came for a request, in this run or in one that was cut off; None without one."""
        if self.answers is None:
            return None
        path = self.answers / f"{key}.json"
        try:
            answer: dict[str, Any] = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return None
        self._used.add(path)
        return answer

    def keep(self, key: str, answer: dict[str, Any]) -> None:
        """Keep an answer until the run is over, safe from a kill. It can be read by the user alone."""
        if self.answers is None:
            return
        path = self.answers / f"{key}.json"
        try:
            self.answers.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(path, json.dumps(answer, ensure_ascii=True).encode("ascii"), mode=0o600)
        except OSError as error:
            log.warning("An answer could not be kept in '%s': %s", self.answers, error.strerror)
            return
        self._used.add(path)

    def forget(self) -> None:
        """Remove the answers that this run used, and those that nobody came back for."""
        if self.answers is None:
            return
        oldest = time.time() - ANSWERS_KEPT_DAYS * 86_400
        with suppress(OSError):
            for path in self.answers.iterdir():
                if path in self._used or path.lstat().st_mtime < oldest:
                    path.unlink(missing_ok=True)


_open: ContextVar[Workspace | None] = ContextVar("workspace", default=None)


def workspace() -> Workspace:
    """Return the workspace of the run that is going on; where none is, one of its own that keeps nothing."""
    return _open.get() or Workspace()


@contextmanager
def opened_workspace(answers: Path | None) -> Iterator[Workspace]:
    """Open a workspace. Its answers are forgotten at the end, and kept where the end is an error or a kill.

    Args:
        answers: the folder of answers; made when the first one is kept.
    """
    made = Workspace(answers=answers)
    token = _open.set(made)
    try:
        yield made
        made.forget()
    finally:
        _open.reset(token)
