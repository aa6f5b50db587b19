"""The messages about events."""

from __future__ import annotations

import socket
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from retrainer.escapes import visible
from retrainer.posts.validation import number, shorten
from retrainer.streams import DEFAULT_STREAM
from retrainer.times import format_time

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from retrainer.config import EventName


_FLEET_EVENTS = {"promoted": "promotion", "not_promoted": "no_promotion", "failed": "failure"}  # by outcome


@dataclass(frozen=True)
class Message:
    """A notification.

    Attributes:
        event: what it is about; None for a test message.
        selected_by: the events of which a channel has selected one to get it; a test message goes to all.
        title: a few words.
        text: a sentence or two.
        document: the JSON document for the webhook.
    """

    event: EventName | Literal["fleet"] | None
    selected_by: frozenset[str]
    title: str
    text: str
    document: dict[str, Any]

    def is_for(self, events: Collection[str]) -> bool:
        """Whether a channel that selected these events gets it."""
        return self.event is None or not self.selected_by.isdisjoint(events)


def message_of(event: Mapping[str, Any], project: str) -> Message | None:
    """Return the message about an event; None if there is none, as for a run whose promotion was an event already.

    Args:
        event: the event as `on_event` receives it.
        project: the name of the project's folder.
    """
    if event.get("kind") == "fleet":
        return _fleet_message(event, project)
    name = _event_name(event)
    if name is None:
        return None
    subject = f"The {event['model_type']} model" if event.get("model_type") else "The retraining"
    if name == "stale_posts":
        subject = "Posts"
    if name == "ab_test":
        subject = f"The A/B test of the {event['model_type']} model"
    if event.get("stream") not in {None, DEFAULT_STREAM}:
        subject += f" of the stream '{shorten(event['stream'])}'"
    predicate = {
        "failure": "could not be retrained" if event.get("model_type") else "failed",
        "promotion": f"has a new version in production: {event.get('version_id')}",
        "rollback": f"was rolled back to {event.get('version_id')}",
        "ab_test": "has ended",
        "degraded": "is degraded",
        "stale_posts": "have stopped arriving",
        "no_promotion": "keeps its production version",
    }[name]
    return _create_message(name, f"{subject} {predicate}", str(event.get("reason") or ""), project, event)


def _fleet_message(event: Mapping[str, Any], project: str) -> Message:
    """Return the message about the runs of several streams, for the channels that want to know of any of them."""
    occurred = {_FLEET_EVENTS[kind] for kind, count in event["outcomes"].items() if count and kind in _FLEET_EVENTS}
    if event["stopped"]:
        occurred.add("failure")
    parts = [str(event["reason"])]
    parts += [f"{error['stream']} {error['model_type']}: {error['message']}" for error in event["errors"][:3]]
    occurred |= {review["outcome"] for review in event["reviews"]}
    parts += [_describe_review(review) for review in event["reviews"][:3]]
    if event["ended_tests"]:
        occurred.add("ab_test")
        parts += [
            f"{test['stream']} {test['model_type']}: the A/B test has ended, {test['outcome']}: {test['reason']}"
            for test in event["ended_tests"][:3]
        ]
    if event["stale_streams"]:
        occurred.add("stale_posts")
        parts.append(f"Posts of {number(len(event['stale_streams']), 'stream')} have stopped arriving")
    reason = " ".join(f"{part.rstrip('.')}." for part in parts)
    message = _create_message("fleet", "Retraining of several streams finished", reason, project, event)
    keys = ("outcomes", "errors", "reviews", "ended_tests", "stale_streams")
    document = message.document | {key: event[key] for key in keys}
    return replace(message, selected_by=frozenset(occurred), document=document)


def _describe_review(review: Mapping[str, Any]) -> str:
    done = "is degraded" if review["outcome"] == "degraded" else f"was rolled back to {review['version_id']}"
    return f"{review['stream']} {review['model_type']} {done}: {review['reason']}"


def test_message(project: str) -> Message:
    """Return a message that tests whether messages arrive."""
    return _create_message(None, "A test message", "Notifications arrive.", project, {})


def _event_name(event: Mapping[str, Any]) -> EventName | None:
    if event.get("kind") in {"failure", "promotion", "rollback", "ab_test", "degraded", "stale_posts"}:
        name: EventName = event["kind"]
        return name
    run = event.get("run") or {}
    if run.get("status") == "failed":
        return "failure"
    return "no_promotion" if run.get("status") == "completed" and not run.get("promoted_to_production") else None


def _create_message(
    name: EventName | Literal["fleet"] | None, title: str, reason: str, project: str, event: Mapping[str, Any]
) -> Message:
    host = socket.gethostname()
    text = visible(f"{title} (project '{project}' on '{host}'). {reason}".strip())
    document = {
        "event": name or "test",
        "id": str(uuid.uuid4()),  # stays the same when the message is sent again
        "sent_at": format_time(datetime.now(UTC)),
        "text": text,
        "project": project,
        "host": host,
        "stream": event.get("stream"),
        "model_type": event.get("model_type"),
        "version_id": event.get("version_id"),
        "from_version_id": event.get("from_version_id"),
        "reason": reason,
        "run": event.get("run"),
    }
    return Message(name, frozenset({name or "test"}), visible(f"retrainer: {title}"), text, document)
