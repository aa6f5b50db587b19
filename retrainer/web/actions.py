"""The pages that change something: a confirmation that names what changes, and the change."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.routing import Route

from retrainer.errors import ProductionChanged, RetrainerError
from retrainer.web.changes import CHANGES, Change
from retrainer.web.confirmation import ChangeRequest
from retrainer.web.forms import read_form
from retrainer.web.pages import (
    PageResponse,
    answer_error,
    find_session,
    get_site,
    read_parameters,
    redirect,
    redirect_to_login,
    render,
)
from retrainer.web.rendering import Page, address_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from retrainer.web.confirmation import Confirmation, Done
    from retrainer.web.sessions import Session


async def action(request: Request) -> Response:
    """Show what a change would do, or carry it out."""
    name = request.path_params["name"]
    if name not in CHANGES:
        raise HTTPException(404)
    session = find_session(request)
    if session is None:  # the login page says so if there is no token
        return redirect_to_login(request)
    change = CHANGES[name]
    try:
        target = read_parameters(request, {"stream", *change.parameters})
        if request.method in {"GET", "HEAD"}:
            return await _confirmation(request, change, target, session)
        form = await read_form(request, session.csrf)
        return await _carry_out(request, change, target, form, session)
    except RetrainerError as error:
        return await answer_error(request, error)


async def _carry_out(
    request: Request, change: Change, target: dict[str, str], form: dict[str, str], session: Session
) -> Response:
    site = get_site(request)
    wanted = ChangeRequest(site, target, form, datetime.now(UTC))

    def carry_out() -> tuple[Done, str | None]:
        return change.carry_out(wanted), wanted.name_stream()

    try:
        done, stream = await site.threads.run("change", carry_out)
    except ProductionChanged as error:
        return await _confirmation(request, change, target, session, error)
    session.notices[:] = [done.message]
    return redirect(address_of(done.address, stream=stream))


async def _confirmation(
    request: Request, change: Change, target: dict[str, str], session: Session, problem: RetrainerError | None = None
) -> Response:
    site = get_site(request)
    wanted = ChangeRequest(site, target, {}, datetime.now(UTC))

    def confirm() -> tuple[Confirmation, str | None]:
        return change.confirm(wanted), wanted.name_stream()

    confirmation, stream = await site.threads.run("inspect", confirm)
    values = {
        "confirmation": confirmation,
        "csrf": session.csrf,
        "address": address_of(request.url.path, **target),
        "back": "/overview",
        "problem": problem,
    }
    page = Page("action.html", confirmation.heading, values, stream=stream)
    return PageResponse(render(request, page), problem.http_status if problem else 200)


ROUTES = [Route("/action/{name}", action, methods=["GET", "POST"])]
