"""Request middleware: who may call, and how much may be sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from anyio import current_time, fail_after
from fastapi.routing import APIRoute
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException

from retrainer.api.errors import failure
from retrainer.serving.auth import is_loopback
from retrainer.web.routes import is_page

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from retrainer.serving.auth import Auth

MAX_BODY_BYTES = 1_000_000
CHUNK_SECONDS = 5  # for the next part of a body
BODY_SECONDS = 30  # for the whole body
PUBLIC_PATHS = ("/health/live", "/health/ready")
SECURITY_HEADERS = {  # of every answer that has none of its own; the pages have
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_SAME_SITE = {"same-origin", "none"}  # values of Sec-Fetch-Site for requests that no other site made
_HOST = re.compile(r"(?:(?P<name>[^:\[\]]+)|\[(?P<ipv6>[^\[\]]+)\])(?::[0-9]+)?")
_CLOSE = {"Connection": "close"}
_TOO_LARGE = f"the body is larger than {MAX_BODY_BYTES} bytes"


class HeadersMiddleware:
    """Adds the headers that say what a browser may do with an answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and complete the headers of the answer."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class AccessMiddleware:
    """Rejects requests that are not allowed.

    A web page in a browser can call the server too, if the browser can reach it. Such a page does not know the token,
    and is recognized by the host name it called (a name of its own that resolves to the server) and by its origin.
    """

    def __init__(self, app: ASGIApp, auth: Auth) -> None:
        self._app = app
        self._auth = auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        authorization = headers.get("authorization")
        has_token = self._auth.accepts(authorization.encode("latin-1") if authorization else None)
        rejection = _reject_framing(headers)
        if rejection is None and not has_token and scope["path"] not in PUBLIC_PATHS:
            rejection = self._reject_browser(scope, headers)
            if rejection is None and self._auth.protect_reads and not is_page(scope["path"]):
                rejection = unauthorized(wrong=authorization is not None)  # a page sends its visitor to the login
        if rejection is not None:
            await rejection(scope, receive, send)
            return
        scope["state"]["trusted"] = has_token or self._auth.token is None
        await self._app(scope, _limit_body(receive), send)

    def _reject_browser(self, scope: Scope, headers: Headers) -> Response | None:
        host, *more_hosts = headers.getlist("host") or [""]
        name = _host_name(host)
        if more_hosts or not (is_loopback(name) or name in self._auth.allowed_hosts):
            return failure(
                403,
                "forbidden_host",
                f"'{host[:80]}' is not an allowed name of this server",
                hint="Add it to api.allowed_hosts or --allowed-host, or send the token",
            )
        if is_page(scope["path"]) and _is_navigation(scope, headers):
            return None
        own_origin = f"{scope['scheme']}://{host}"
        is_own = {*headers.getlist("origin")} <= {own_origin} and {*headers.getlist("sec-fetch-site")} <= _SAME_SITE
        if not is_own:
            return failure(403, "forbidden_origin", "requests from web pages are refused", hint="Send the token")
        return None


class TrustedRoute(APIRoute):
    """A route that requires the token, if one is set, before anything else is checked."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_if_trusted(request: Request) -> Response:
            if not request.state.trusted:
                return unauthorized(wrong="authorization" in request.headers)
            return await handle(request)

        return handle_if_trusted


def unauthorized(*, wrong: bool) -> Response:
    """Return the answer to a request without the token, or with a wrong one (RFC 6750, section 3)."""
    challenge = 'Bearer realm="retrainer"' + (', error="invalid_token"' if wrong else "")
    return failure(
        401,
        "unauthorized",
        "the token is wrong, or not in the scheme Bearer" if wrong else "the token is required",
        hint="Send the header 'Authorization: Bearer TOKEN'",
        headers={"WWW-Authenticate": challenge},
    )


def _is_navigation(scope: Scope, headers: Headers) -> bool:
    """Whether a browser opens the address in a tab, as by a link in a chat: the site of the link cannot read it."""
    fetch = [headers.getlist(f"sec-fetch-{name}") for name in ("mode", "dest")]
    return scope["method"] == "GET" and "origin" not in headers and fetch == [["navigate"], ["document"]]


def _host_name(host: str) -> str:
    """Return the name in a `Host` header, without the port; empty if the header is malformed."""
    parts = _HOST.fullmatch(host)
    return (parts["name"] or parts["ipv6"]).lower() if parts else ""


def _reject_framing(headers: Headers) -> Response | None:
    """Reject a body before any of it is read: by its length, or because a proxy may have seen another length."""
    length = headers.get("content-length", "0")
    if "content-length" in headers and "transfer-encoding" in headers:
        message = "the request has both Content-Length and Transfer-Encoding"
        return failure(400, "bad_request", message, hint="Send one of them", headers=_CLOSE)
    if length.isdigit() and int(length) <= MAX_BODY_BYTES:
        return None
    return failure(413, "too_large", _TOO_LARGE, headers=_CLOSE)


def _limit_body(receive: Receive) -> Receive:
    """Stop reading a body that is too large or too slow, which would also delay the end of the server."""
    size, complete = 0, False
    deadline = current_time() + BODY_SECONDS

    async def receive_limited() -> Message:
        nonlocal size, complete
        if complete:  # only the disconnection of the caller can follow
            return await receive()
        try:
            with fail_after(min(CHUNK_SECONDS, deadline - current_time())):
                message = await receive()
        except TimeoutError:
            too_slow = f"the body was not complete within {BODY_SECONDS} s"
            stalled = f"no more of the body came within {CHUNK_SECONDS} s"
            raise HTTPException(408, too_slow if current_time() >= deadline else stalled, _CLOSE) from None
        complete = not message.get("more_body", False)
        size += len(message.get("body", b""))
        if size > MAX_BODY_BYTES:
            raise HTTPException(413, _TOO_LARGE, _CLOSE)
        return message

    return receive_limited
