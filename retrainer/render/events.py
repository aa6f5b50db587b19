"""Events as documents, for observers and notifications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrainer.algorithms.events import Event


_FLEET_KEYS = {"outcomes", "errors", "stale_streams", "reviews", "ended_tests", "seconds", "cost_usd", "stopped"}
MAX_ERRORS = 10  # of a fleet


def event_document(event: Event) -> dict[str, Any]:
    """Return an event as the hook `on_event` receives it."""
    from retrainer.render import documents  # noqa: PLC0415  slow to import, and most commands emit no event

    document: dict[str, Any] = {
        "kind": event.kind,
        "stream": event.stream,
        "model_type": event.model_type,
        "version_id": event.version_id,
        "reason": event.reason,
    }
    if event.kind in {"promotion", "rollback"}:
        document["from_version_id"] = event.from_version_id
    if event.kind in {"run", "failure"}:
        document["run"] = None if event.run is None else documents.runs.run_document(event.run)
    if event.fleet is not None:
        fleet = documents.runs.FleetDocument.from_result(event.fleet)
        document |= fleet.model_dump(mode="json", include=_FLEET_KEYS)
        for name in ("errors", "reviews", "ended_tests"):
            document[name] = document[name][:MAX_ERRORS]
    return document
