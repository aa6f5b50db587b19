"""Turn views into routes: who may read, which parameters there are, threads, the cache, and pages for errors."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from retrainer.errors import DamagedValue, DatabaseError, RetrainerError, ServerBusy, UsageError, did_you_mean
from retrainer.streams import check_stream_name
from retrainer.web.rendering import Frame, Page, render_page
from retrainer.web.site import Visit

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.requests import Request

    from retrainer.web.sessions import Session
    from retrainer.web.site import Site
    from retrainer.web.specs import PageSpec

log = logging.getLogger(__name__)

SEE_OTHER = 303
NOT_FOUND = 404
SERVER_ERROR = 500
RETRY_SECONDS = "5"
MAX_CHARACTERS = 300  # of a parameter
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with `no-referrer`, browsers send the forms of a page without its origin
    "Cache-Control": "no-store",
}


class NoStream(UsageError):
    """A page is about one stream of several, and none is named."""


class PageResponse(Response):
    """A page, with the headers that say what a browser may do with it."""

    media_type = "text/html"

    def __init__(self, content: bytes, status_code: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(content, status_code, {**PAGE_HEADERS, **(headers or {})})


def route_of(spec: PageSpec) -> Route:
    path, view, work, cached = spec.path, spec.view, spec.work, spec.cached
    known = {"stream", *spec.parameters}

    async def endpoint(request: Request) -> Response:
        site = get_site(request)
        if (refusal := refuse_reader(request)) is not None:
            return refusal
        try:
            query = read_parameters(request, known)
            session = find_session(request)
            notice = session.notices.pop() if session is not None and session.notices else None
            key = (path, tuple(request.path_params.items()), tuple(sorted(query.items())), session is not None)

            def compute() -> bytes:
                visit = visit_of(request, query, session, spec.about)
                page = view(visit)
                if page.reloads_itself and session and notice:
                    session.notices.append(notice)  # it reloads before the notice can be read
                is_dated = cached in {"never", "briefly"}
                return render_page(page, Frame.around(page, visit, notice, is_dated=is_dated))

            return PageResponse(await site.respond(work, cached if notice is None else "never", key, compute))
        except NoStream:
            return redirect("/")
        except RetrainerError as error:
            return await answer_error(request, error)

    endpoint.__name__ = view.__name__
    return Route(path, endpoint, name=view.__name__)


def get_site(request: Request) -> Site:
    """Return the site that the server serves."""
    site: Site = request.app.state.site
    return site


def find_session(request: Request) -> Session | None:
    """Return the login of a request, if it has one."""
    return get_site(request).sessions.get(request.cookies.get(cookie_name(request)))


def cookie_name(request: Request) -> str:
    """Return the name of the cookie, which differs between the servers of one host; browsers check the prefix."""
    name = f"retrainer_{request.url.port or request.url.scheme}"
    return f"__Host-{name}" if request.url.scheme == "https" else name


def refuse_reader(request: Request) -> Response | None:
    """Send a visitor who may not read to the login; None if the page may be shown."""
    return None if _may_read(request) else redirect_to_login(request)


def _may_read(request: Request) -> bool:
    return not get_site(request).auth.protect_reads or request.state.trusted or find_session(request) is not None


def redirect_to_login(request: Request) -> Response:
    """Send a visitor to the login, and from there back to this address."""
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return redirect(f"/login?{urlencode({'next': back})}")


def redirect(address: str) -> Response:
    """Answer with the address of another page."""
    return RedirectResponse(address, SEE_OTHER, PAGE_HEADERS)


def read_parameters(request: Request, known: Collection[str]) -> dict[str, str]:
    """Return the parameters of the address.

    Raises:
        UsageError: one is unknown, given twice, too long or not a text that a database can hold.
    """
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            hint = did_you_mean(name, known) or f"Known parameters: {', '.join(sorted(known))}"
            raise UsageError(f"unknown parameter '{name[:80]}'", hint=hint)
        if name in found:
            raise UsageError(f"the parameter '{name}' is given more than once", hint="Give it once")
        if len(value) > MAX_CHARACTERS or "\x00" in value:
            raise UsageError(f"{name}: invalid value '{value[:80]}'")
        if value:  # an empty field of a form is none
            found[name] = value
    if "stream" in found:
        try:
            check_stream_name(found["stream"])
        except ValueError as error:
            raise UsageError(f"stream: invalid value '{found['stream'][:80]}' ({error})") from None
    return found


def visit_of(
    request: Request, query: dict[str, str], session: Session | None, about: Literal["stream", "project"] = "project"
) -> Visit:
    """Return a request as views see it.

    Raises:
        UnknownName: there is no such stream.
        NoStream: there are several, and none is named.
    """
    site, stream = get_site(request), query.get("stream")
    try:
        project = site.streams.choose(stream) if about == "stream" else site.project
    except UsageError as error:
        if stream is not None:
            raise
        raise NoStream(error.message) from error
    rest = {name: value for name, value in query.items() if name != "stream"}
    return Visit(site, project, stream, datetime.now(UTC), dict(request.path_params), rest, session, _may_read(request))


def render(request: Request, page: Page) -> bytes:
    """Render a page that has no view, or that shows a form of the session."""
    visit = visit_of(request, {}, find_session(request))
    return render_page(page, Frame.around(page, visit))


def retry_headers(error: RetrainerError) -> dict[str, str]:
    """Return when to ask again, for an error that may pass."""
    may_pass = isinstance(error, DatabaseError | ServerBusy) and not isinstance(error, DamagedValue)
    return {"Retry-After": RETRY_SECONDS} if may_pass else {}


async def answer_error(request: Request, error: RetrainerError) -> Response:
    """Answer with the page of an error: one line, and what to do."""
    if error.http_status >= SERVER_ERROR:
        log.error("%s", error)
    page = Page("error.html", "Not found" if error.http_status == NOT_FOUND else "Error", {"error": error})
    return PageResponse(render(request, page), error.http_status, retry_headers(error))
