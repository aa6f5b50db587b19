"""What can be changed on the pages: what each change would do, for the confirmation, and the change itself.

They call the functions of the commands of the same names.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.errors import ProductionChanged, RetrainerError, UsageError
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.pipeline.loading import is_paid
from retrainer.pipeline.promotion import promote_version, roll_back
from retrainer.registry.promotions import require_promotable
from retrainer.render.documents.versions import ChangedDocument
from retrainer.streams import of_stream
from retrainer.web.confirmation import ChangeRequest, Choice, Confirmation, Done, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project

NONE = "none"


@dataclass(frozen=True)
class Change:
    """A kind of change.

    Attributes:
        parameters: of its address, besides `stream`.
        confirm: says what it would do.
        carry_out: does it.
    """

    parameters: tuple[str, ...]
    confirm: Callable[[ChangeRequest], Confirmation]
    carry_out: Callable[[ChangeRequest], Done]


def _live_id(project: Project, model_type: ModelTypeName) -> str:
    live = project.registry.get_production(model_type)
    return live.version_id if live else NONE


def _require_seen(request: ChangeRequest, state: str, what: str) -> None:
    """Check that what the confirmation showed still holds.

    Raises:
        ProductionChanged: it does not.
    """
    if request.form.get("seen") != state:
        hint = "Check the new state below, then confirm again"
        raise ProductionChanged(f"{what} has changed since this page was shown", hint=hint)


def _score_row(project: Project, before: str, after: str) -> list[Row]:
    scores = []
    for version_id in (before, after):
        rows = [] if version_id == NONE else project.registry.list_evaluations(version_id, limit=1)
        scores.append(f"{rows[0].overall_score:.4f}" if rows else "not evaluated")
    return [Row("Score on its own latest test", *scores)]


def _paid_warning(request: ChangeRequest, project: Project, types: Sequence[ModelTypeName]) -> tuple[str, ...]:
    """Warn if a run pays for forecasts, of the version that it trains or of the one in production."""
    runtime, paid = request.site.runtime, []
    for name in types:
        configured = project.settings.model(name).algorithm
        if runtime.algorithms(configured, name).description.paid:
            paid.append(configured)
        live = project.registry.get_production(name)
        with suppress(RetrainerError):  # a run reports it, and goes on without its forecasts
            if live is not None and is_paid(runtime, live):
                paid.append(live.algorithm)
    names = " and ".join(f"'{algorithm}'" for algorithm in dict.fromkeys(paid))
    return (f"Forecasts of {names} cost money, and a run makes some to compare the versions.",) if paid else ()


def _confirm_promotion(request: ChangeRequest) -> Confirmation:
    project, version = request.find_version()
    version_id, model_type = version.version_id, version.model_type_name
    live = _live_id(project, model_type)
    require_promotable(version)
    if version.is_production:
        raise UsageError(f"'{version_id}' is already in production", hint="Nothing to do")
    hold, notes = project.registry.get_hold(model_type), []
    if project.settings.retraining.refits(model_type):
        notes.append("It is first refitted on all posts, which may take as long as its training.")
    if hold is not None:
        notes.append(f"Automatic promotion of {model_type} is on hold: {hold.reason}.")
    paid = is_paid(request.site.runtime, version)
    return Confirmation(
        heading=f"Promote {version_id}?",
        button="Promote",
        rows=[
            Row(f"Version of {model_type} in production", live, version_id),
            *_score_row(project, live, version_id),
        ],
        notes=[*notes, "You can undo this with a rollback."],
        warnings=(f"Forecasts of '{version.algorithm}' cost money.",) if paid else (),
        compare=None if live == NONE else (live, version_id),
        reason="Promoted in the browser",
        seen=live,
    )


def _promote(request: ChangeRequest) -> Done:
    project, version = request.find_version()
    _require_seen(request, _live_id(project, version.model_type_name), "production")
    reason, site = request.reason("Promoted in the browser"), request.site
    change = promote_version(project, site.runtime, version.version_id, reason, request.now)
    return Done(ChangedDocument.from_promotion(change, version.version_id, project.stream).message, "/overview")


def _confirm_rollback(request: ChangeRequest) -> Confirmation:
    project, model_type = request.find_model()
    (promotion, *_) = project.registry.find_promotions_to_undo(model_type)
    before, live = project.registry.get_version_before(promotion), _live_id(project, model_type)
    return Confirmation(
        heading=f"Roll back {model_type}?",
        button="Roll back",
        rows=[
            Row(f"Version of {model_type} in production", live, before.version_id),
            *_score_row(project, live, before.version_id),
        ],
        notes=[
            f"This undoes the promotion of {promotion.at:%Y-%m-%d %H:%M} UTC. Its reason was: {promotion.reason}.",
            "The previous fit must load and forecast first; if it cannot, nothing changes.",
        ],
        choices=(Choice("hold", "Hold automatic promotion until you release it", default=True),),
        compare=(live, before.version_id),
        reason="Rolled back in the browser",
        seen=live,
    )


def _roll_back(request: ChangeRequest) -> Done:
    project, model_type = request.find_model()
    _require_seen(request, _live_id(project, model_type), "production")
    reason, hold = request.reason("Rolled back in the browser"), "hold" in request.form
    change = roll_back(project, request.site.runtime, model_type, reason, request.now, hold=hold)
    message = f"Rolled back from {change.from_version} to {change.to_version}"
    return Done(message + (f"; automatic promotion of {model_type} is on hold" if hold else ""), "/overview")


def _describe_hold(project: Project, model_type: ModelTypeName) -> str:
    hold = project.registry.get_hold(model_type)
    return "on" if hold is None else f"on hold since {hold.since:%Y-%m-%d %H:%M} UTC: {hold.reason}"


def _confirm_hold(request: ChangeRequest) -> Confirmation:
    project, model_type = request.find_model()
    state = _describe_hold(project, model_type)
    if state != "on":
        raise UsageError(f"automatic promotion of {model_type} is already {state}", hint="Release it first")
    return Confirmation(
        heading=f"Hold {model_type}?",
        button="Hold",
        rows=[Row(f"Automatic promotion of {model_type}", "on", "on hold until it is released")],
        notes=["New versions are still trained and compared. You can promote one by hand."],
        reason="Held in the browser",
        seen=state,
    )


def _hold(request: ChangeRequest) -> Done:
    project, model_type = request.find_model()
    changed = project.registry.hold(model_type, request.reason("Held in the browser"), request.now)
    return Done(f"Automatic promotion of {model_type} is {'now' if changed else 'already'} on hold", "/overview")


def _confirm_release(request: ChangeRequest) -> Confirmation:
    project, model_type = request.find_model()
    state = _describe_hold(project, model_type)
    if state == "on":
        raise UsageError(f"automatic promotion of {model_type} is not on hold", hint="Nothing to do")
    return Confirmation(
        heading=f"Release {model_type}?",
        button="Release",
        rows=[Row(f"Automatic promotion of {model_type}", state, "on")],
        notes=["The next run will again promote its version if it is better."],
        reason="Released in the browser",
        seen=state,
    )


def _release(request: ChangeRequest) -> Done:
    project, model_type = request.find_model()
    _require_seen(request, _describe_hold(project, model_type), "the hold")
    changed = project.registry.release(model_type, request.reason("Released in the browser"), request.now)
    return Done(f"Automatic promotion of {model_type} is {'released' if changed else 'not on hold'}", "/overview")


def _confirm_pin(request: ChangeRequest, *, pinned: bool) -> Confirmation:
    _, version = request.find_version()
    name, words = ("Pin", ("no", "yes")) if pinned else ("Unpin", ("yes", "no"))
    if version.pinned == pinned:
        state = "already" if pinned else "not"
        raise UsageError(f"'{version.version_id}' is {state} pinned", hint="Nothing to do")
    return Confirmation(
        heading=f"{name} {version.version_id}?",
        button=name,
        rows=[Row("Pinned", *words)],
        notes=["A pinned version is never archived." if pinned else "A later run may archive it if it is old."],
        reason=f"{name}ned in the browser",
        seen=str(version.pinned),
    )


def _pin(request: ChangeRequest, *, pinned: bool) -> Done:
    project, version = request.find_version()
    reason = request.reason(f"{'Pinned' if pinned else 'Unpinned'} in the browser")
    changed = project.registry.pin(version.version_id, reason, request.now, pinned=pinned)
    words = ("now" if changed else "already") if pinned else ("no longer" if changed else "not")
    return Done(f"{version.version_id} is {words} pinned", f"/version/{version.version_id}")


def _retrained_types(request: ChangeRequest, project: Project) -> list[ModelTypeName]:
    """Return the type of the address or, if it names none, those that are enabled."""
    if "type" in request.target:
        return [request.find_model()[1]]
    return [name for name in MODEL_TYPE_NAMES if project.settings.retraining.is_enabled(name)]


def _confirm_retraining(request: ChangeRequest) -> Confirmation:
    project = request.site.streams.choose(request.target.get("stream"))
    types = _retrained_types(request, project)
    if not types:
        raise UsageError("retraining is disabled", hint="Enable it in the settings")
    automatic = project.settings.retraining.auto_promote
    held = [name for name in types if project.registry.get_hold(name) is not None]
    notes = [f"Automatic promotion of {' and '.join(held)} is on hold, so no version goes live."] if held else []
    return Confirmation(
        heading=f"Retrain {' and '.join(types)}?",
        button="Retrain",
        rows=[
            Row(f"Version of {name} in production", _live_id(project, name), _new_version(project, name))
            for name in types
        ],
        notes=["The run is a separate process; you can close this page.", *notes],
        warnings=_paid_warning(request, project, types),
        choices=(Choice("promote", "Promote the new version if it is better", default=automatic),),
        seen=NONE,
    )


def _new_version(project: Project, model_type: ModelTypeName) -> str:
    return f"a new version by '{project.settings.model(model_type).algorithm}', if it is better"


def _retrain(request: ChangeRequest) -> Done:
    project = request.site.streams.choose(request.target.get("stream"))
    types = _retrained_types(request, project)
    model_type = types[0] if "type" in request.target else None
    run_ids = request.site.runs.start(project, model_type, auto_promote="promote" in request.form)
    started = [run_id for run_id in run_ids.values() if run_id is not None]
    message = f"Started {' and '.join(started)}{of_stream(project.stream)}"
    return Done(message, f"/run/{started[0]}" if len(started) == 1 else "/runs")


CHANGES = {
    "promote": Change(("version",), _confirm_promotion, _promote),
    "rollback": Change(("type",), _confirm_rollback, _roll_back),
    "hold": Change(("type",), _confirm_hold, _hold),
    "release": Change(("type",), _confirm_release, _release),
    "pin": Change(
        ("version",), lambda request: _confirm_pin(request, pinned=True), lambda request: _pin(request, pinned=True)
    ),
    "unpin": Change(
        ("version",), lambda request: _confirm_pin(request, pinned=False), lambda request: _pin(request, pinned=False)
    ),
    "retrain": Change(("type",), _confirm_retraining, _retrain),
}
