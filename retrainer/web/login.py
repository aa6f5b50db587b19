"""Log in with the token of the server, and log out.

The browser never keeps the token: it gets a random id, in a cookie that only this server's pages send back.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

from starlette.routing import Route

from retrainer.errors import RetrainerError
from retrainer.web.forms import ForgedForm, read_form
from retrainer.web.pages import (
    PageResponse,
    answer_error,
    cookie_name,
    find_session,
    get_site,
    redirect,
    render,
)
from retrainer.web.rendering import Page
from retrainer.web.sessions import SESSION_SECONDS

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger(__name__)

FORM_SECONDS = 3600  # how long the form of a login may be sent


async def show_login(request: Request) -> Response:
    """Show the form for the token or, without one, how to set it."""
    back = _address_inside(request.query_params.get("next"))
    return redirect(back) if find_session(request) is not None else _form(request, back)


async def log_in(request: Request) -> Response:
    """Log in with the token of the form."""
    site = get_site(request)
    back = _address_inside(request.query_params.get("next"))
    if site.auth.token is None:
        return _form(request, back, status=403)
    # An id that the browser got with the form shows that the form is ours: there is no session yet.
    form_id = request.cookies.get(_form_cookie(request), "")
    try:
        fields = await read_form(request, site.sessions.form_token(form_id))
    except ForgedForm:
        return _form(request, back, "The form has expired. Try again", status=403)
    except RetrainerError as error:
        return await answer_error(request, error)
    client = request.client.host if request.client else ""
    # No await from here on: attempts at the same time are counted one after another.
    if seconds := site.logins.wait(client):
        message = f"Too many failed logins. Try again in {seconds} s"
        return _form(request, back, message, status=429, headers={"Retry-After": str(seconds)})
    if not secrets.compare_digest(fields.get("token", "").strip().encode(), site.auth.token.encode()):
        site.logins.add_failure(client)
        log.warning("Failed login from %s", client)
        return _form(request, back, "The token is wrong", status=403)
    log.info("Login from %s", client)
    answer = redirect(back)
    _set_cookie(request, answer, cookie_name(request), site.sessions.start(), SESSION_SECONDS)
    answer.delete_cookie(_form_cookie(request), secure=_is_secure(request), httponly=True, samesite="strict")
    return answer


async def logout(request: Request) -> Response:
    """Ask whether to end the session, or end it."""
    session = find_session(request)
    if session is None:
        return redirect("/")
    if request.method in {"GET", "HEAD"}:
        return PageResponse(render(request, Page("logout.html", "Log out", {"csrf": session.csrf})))
    try:
        await read_form(request, session.csrf)
    except RetrainerError as error:
        return await answer_error(request, error)
    get_site(request).sessions.end(request.cookies[cookie_name(request)])
    answer = redirect("/")
    answer.delete_cookie(cookie_name(request), secure=_is_secure(request), httponly=True, samesite="strict")
    return answer


def _form(
    request: Request, back: str, problem: str = "", *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    site, form_id = get_site(request), secrets.token_urlsafe(16)
    values = {"csrf": site.sessions.form_token(form_id), "next": back, "problem": problem}
    answer = PageResponse(render(request, Page("login.html", "Log in", values)), status, headers)
    if site.auth.token is not None:
        _set_cookie(request, answer, _form_cookie(request), form_id, FORM_SECONDS)
    return answer


def _form_cookie(request: Request) -> str:
    return f"{cookie_name(request)}_form"


def _set_cookie(request: Request, answer: Response, name: str, value: str, seconds: int) -> None:
    answer.set_cookie(
        name, value, max_age=seconds, path="/", secure=_is_secure(request), httponly=True, samesite="strict"
    )


def _is_secure(request: Request) -> bool:
    return request.url.scheme == "https"


def _address_inside(address: str | None) -> str:
    """Return the address to go to after a login: of a page of ours, whatever a link may say."""
    if address is None or not address.startswith("/") or address.startswith("//"):
        return "/"
    return address if address.isascii() and address.isprintable() and "\\" not in address else "/"


ROUTES = [
    Route("/login", show_login),
    Route("/login", log_in, methods=["POST"]),
    Route("/logout", logout, methods=["GET", "POST"]),
]
