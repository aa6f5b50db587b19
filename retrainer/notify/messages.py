"""What is said of an event."""

from __future__ import annotations

import socket
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from retrainer.times import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retrainer.config import EventName


@dataclass(frozen=True)
class Message:
    """What is said.

    Attributes:
        event: by which it is chosen; None for a test, which all get.
        title: a few words.
        text: a sentence or two.
        document: for a webhook.
    """

    event: EventName | None
    title: str
    text: str
    document: dict[str, Any]


def message_of(event: Mapping[str, Any], project: str) -> Message | None:
    """Return what is said of an event; None where nothing is, such as of a run whose promotion was told already.

    Args:
        event: as the hook `on_event` gets it.
        project: the name of the project's folder.
    """
    name = _name(event)
    if name is None:
        return None
    subject = f"The {event['model_type']} model" if event.get("model_type") else "The retraining"
    what = {
        "failure": "failed" if not event.get("model_type") else "could not be retrained",
        "promotion": f"has a new version in production: {event.get('version_id')}",
        "rollback": f"was rolled back: {event.get('version_id')} is live again",
        "no_promotion": "stays as it was",
    }[name]
    return _message(name, f"{subject} {what}", str(event.get("reason") or ""), project, event)


def test_message(project: str) -> Message:
    """Return a message that says only that messages arrive."""
    return _message(None, "A test message", "Notifications arrive.", project, {})


def _name(event: Mapping[str, Any]) -> EventName | None:
    kind = event.get("kind")
    if kind == "failure":
        return "failure"
    if kind == "promotion":
        return "promotion"
    if kind == "rollback":
        return "rollback"
    run = event.get("run") or {}
    if run.get("status") == "failed":
        return "failure"
    return "no_promotion" if run.get("status") == "completed" and not run.get("promoted_to_production") else None


def _message(name: EventName | None, title: str, reason: str, project: str, event: Mapping[str, Any]) -> Message:
    host = socket.gethostname()
    text = f"{title} (project '{project}' on '{host}'). {reason}".strip()
    document = {
        "event": name or "test",
        "id": str(uuid.uuid4()),  # the same when it is sent again
        "sent_at": format_time(datetime.now(UTC)),
        "text": text,
        "project": project,
        "host": host,
        "model_type": event.get("model_type"),
        "version_id": event.get("version_id"),
        "from_version_id": event.get("from_version_id"),
        "reason": reason,
        "run": event.get("run"),
    }
    return Message(name, f"retrainer: {title}", text, document)
