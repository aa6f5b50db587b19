"""What every request passes before anything else looks at it: who calls, from where, and how much is sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from anyio import current_time, fail_after
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from retrainer.api.auth import TOKEN_HINT, is_loopback
from retrainer.api.errors import failure

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from retrainer.api.auth import Auth

MAX_BODY_BYTES = 1_000_000
PART_SECONDS = 5  # between one part of a body and the next
BODY_SECONDS = 30  # for the whole of it
PUBLIC_PATHS = ("/health/live", "/health/ready")
_OWN_PAGES = {"same-origin", "none"}  # what a browser says of a request that no foreign page made
_HOST = re.compile(r"(?:(?P<name>[^:\[\]]+)|\[(?P<ipv6>[^\[\]]+)\])(?::[0-9]+)?")
_CLOSE = {"Connection": "close"}
_TOO_LARGE = f"the body is larger than {MAX_BODY_BYTES} bytes"


class AccessMiddleware:
    """Refuses what may not pass.

    Without a token, whoever is on this machine may call, and so might any web page in a browser on it. Such a page is
    known by the name it called (`Host`: a name of its own that was made to point here) and by its `Origin`.
    """

    def __init__(self, app: ASGIApp, access: Auth) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        authorization = headers.get("authorization")
        known = self._access.holds(authorization.encode("latin-1") if authorization else None)
        refusal = (
            self._reject_browser(scope, headers)
            or self._reject_anonymous_read(scope, authorization, known=known)
            or _reject_large_body(headers)
        )
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        scope["state"]["trusted"] = known or self._access.token is None
        await self._app(scope, _limit_body(receive), send)

    def _reject_browser(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        if self._access.token is not None:  # no page knows it
            return None
        host = headers.get("host", "")
        if not is_loopback(_name_of(host)):
            return failure(
                403,
                "forbidden_host",
                f"the name '{host[:80]}' is not this machine's own",
                hint=f"Call localhost or 127.0.0.1, or set a token. {TOKEN_HINT}",
            )
        own = (None, f"{scope['scheme']}://{host}")
        if headers.get("origin") not in own or headers.get("sec-fetch-site", "none") not in _OWN_PAGES:
            return failure(403, "forbidden_origin", "a web page may not call this", hint="Set a token to allow more")
        return None

    def _reject_anonymous_read(self, scope: Scope, authorization: str | None, *, known: bool) -> JSONResponse | None:
        """Where reads are closed, ask for the token whatever is asked for."""
        if known or not self._access.protect_reads or scope["path"] in PUBLIC_PATHS:
            return None
        return unauthorized(wrong=authorization is not None)


class TrustedRoute(APIRoute):
    """A route for those who bring the token, where one is set; nothing else is looked at before."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()

        async def answer_if_trusted(request: Request) -> Response:
            if not request.state.trusted:
                return unauthorized(wrong="authorization" in request.headers)
            return await answer(request)

        return answer_if_trusted


def unauthorized(*, wrong: bool) -> JSONResponse:
    """Answer a request without the token, or with a wrong one (RFC 6750, section 3)."""
    said = 'Bearer realm="retrainer"' + (', error="invalid_token"' if wrong else "")
    return failure(
        401,
        "unauthorized",
        "this token is not the right one, or not in the scheme Bearer" if wrong else "this needs the token",
        hint="Send the header 'Authorization: Bearer TOKEN'",
        headers={"WWW-Authenticate": said},
    )


def _name_of(host: str) -> str:
    """Return the name in a `Host` header, without the port; empty where it is not written like one."""
    parts = _HOST.fullmatch(host)
    return (parts["name"] or parts["ipv6"]).lower() if parts else ""


def _reject_large_body(headers: Headers) -> JSONResponse | None:
    """Refuse a large body before any of it is read."""
    length = headers.get("content-length", "0")
    if length.isdigit() and int(length) <= MAX_BODY_BYTES:
        return None
    return failure(413, "too_large", _TOO_LARGE, headers=_CLOSE)


def _limit_body(receive: Receive) -> Receive:
    """Stop reading a body that turns out too large, or does not come: it would also hold up the server's end."""
    seen, complete = 0, False
    deadline = current_time() + BODY_SECONDS

    async def counted() -> Message:
        nonlocal seen, complete
        if complete:  # what comes now is that the caller has gone
            return await receive()
        try:
            with fail_after(min(PART_SECONDS, deadline - current_time())):
                message = await receive()
        except TimeoutError:
            late = f"the body was not complete within {BODY_SECONDS} s"
            said = late if current_time() >= deadline else f"no more of the body came within {PART_SECONDS} s"
            raise HTTPException(408, said, _CLOSE) from None
        complete = not message.get("more_body", False)
        seen += len(message.get("body", b""))
        if seen > MAX_BODY_BYTES:
            raise HTTPException(413, _TOO_LARGE, _CLOSE)
        return message

    return counted
