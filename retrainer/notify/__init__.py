"""Notifications by webhook, by mail and chat (apprise), and healthcheck pings.

The notifier receives events like any observer, after the commit. A delivery that fails is logged and changes nothing.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.algorithms.events import Event, EventBus, Observer
from retrainer.errors import RetrainerError, wrap_unexpected
from retrainer.notify.notifier import Notifier
from retrainer.pipeline.results import Failure
from retrainer.render.events import event_document
from retrainer.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from retrainer.pipeline.results import RunResult
    from retrainer.project import Project


@dataclass
class TrainCall:
    """One call of `train`, which a healthcheck follows.

    Attributes:
        failed: whether any part of it failed.
    """

    failed: bool = False

    def finish(self, runtime: Runtime, outcomes: Sequence[RunResult | Failure], code: int) -> None:
        """Publish the failures that have no recorded run; recorded runs have published theirs.

        Args:
            code: the exit code of the outcomes.
        """
        self.failed = code != 0
        for outcome in outcomes:
            if isinstance(outcome, Failure) and outcome.run is None:
                runtime.events.publish(
                    Event("failure", outcome.model_type, None, str(outcome.error), stream=outcome.stream)
                )


@contextmanager
def open_runtime(
    project: Project, environ: Mapping[str, str], train_call: TrainCall | None = None
) -> Iterator[Runtime]:
    """Create the runtime of a command, whose events are delivered to the configured channels and installed observers.

    Args:
        environ: where the URLs and keys of the channels are.
        train_call: a call of `train`, which pings the healthcheck and publishes its errors; None for other commands.
    """
    notifier = Notifier(project.settings.notifications, environ, project.folder.name)
    events = EventBus(event_document, [Observer("notifications", notifier)])
    runtime = Runtime(events=events, answers_dir=project.answers_dir)
    if train_call is None:
        yield runtime
        return
    notifier.ping("start")
    try:
        yield runtime
    except BaseException as error:
        train_call.failed = True
        if isinstance(error, Exception):
            failure = error if isinstance(error, RetrainerError) else wrap_unexpected(error)
            events.publish(Event("failure", None, None, str(failure)))
        raise
    finally:
        notifier.ping("fail" if train_call.failed else "success")
