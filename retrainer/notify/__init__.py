"""Who is told of what: a webhook, mail and chats through apprise, and a healthcheck.

They hear of events as any observer does, after the commit; what cannot be delivered is a warning and changes nothing.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.errors import RetrainerError, wrap_unexpected

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from retrainer.pipeline.run import Failure, RunResult
    from retrainer.project import Project


@dataclass
class Attempt:
    """One call of `train`, which a healthcheck follows.

    Attributes:
        failed: whether anything of it went wrong.
    """

    failed: bool = False

    def ended(self, outcomes: Sequence[RunResult | Failure], code: int) -> None:
        """Tell of what failed before a run could be recorded; the runs told of themselves.

        Args:
            code: the exit code of the outcomes.
        """
        from retrainer.pipeline.run import Failure  # noqa: PLC0415  imported by now: it made the outcomes

        self.failed = code != 0
        for outcome in outcomes:
            if isinstance(outcome, Failure) and outcome.run is None:
                tell_of_failure(outcome.error, outcome.model_type)


def tell_of_failure(error: RetrainerError, model_type: str | None = None) -> None:
    """Tell the observers of a retraining that failed without a run on record; no type where it concerns all."""
    from retrainer.algorithms.events import publish  # noqa: PLC0415

    event = {"kind": "failure", "model_type": model_type, "version_id": None, "reason": str(error), "run": None}
    publish(event)


@contextmanager
def observing(project: Project, environ: Mapping[str, str], attempt: Attempt | None = None) -> Iterator[None]:
    """Tell those whom the settings name of what happens in the block.

    Args:
        environ: where the URLs and keys are.
        attempt: a call of `train`, for the healthcheck; its errors are told too. None for another command.
    """
    from retrainer.algorithms.events import observed_by  # noqa: PLC0415
    from retrainer.notify.notifier import Notifier  # noqa: PLC0415

    notifier = Notifier(project.settings.notifications, environ, project.folder.name)
    with observed_by("notifications", notifier):
        if attempt is None:
            yield
            return
        notifier.ping("start")
        try:
            yield
        except BaseException as error:
            attempt.failed = True
            if isinstance(error, Exception):
                tell_of_failure(error if isinstance(error, RetrainerError) else wrap_unexpected(error))
            raise
        finally:
            notifier.ping("fail" if attempt.failed else "success")
