"""Read the form of a request."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from retrainer.errors import UsageError

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_FIELDS = 20
MAX_CHARACTERS = 2000  # of a field
CSRF_FIELD = "csrf"
FORM_TYPE = "application/x-www-form-urlencoded"


class ForgedForm(UsageError, http_status=403, code="forged_form"):
    """A form does not carry what the server has put into it."""


async def read_form(request: Request, csrf: str) -> dict[str, str]:
    """Return the fields of a form of ours.

    Args:
        request: the request, whose body is not read yet.
        csrf: what the form must carry.

    Raises:
        ForgedForm: another site may have made it, or the login that it belongs to has ended.
        UsageError: it is not a form, or has a field twice, too many or too long ones.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != FORM_TYPE:
        raise UsageError("the body is not a form", hint=f"Send it as {FORM_TYPE}")
    try:
        pairs = parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:  # also of characters that are not UTF-8
        raise UsageError("the form cannot be read") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise UsageError("a field of the form is given more than once")
    if any(len(value) > MAX_CHARACTERS or "\x00" in value for value in fields.values()):
        raise UsageError(f"a field of the form has more than {MAX_CHARACTERS} characters, or a zero byte")
    if not hmac.compare_digest(fields.pop(CSRF_FIELD, "").encode(), csrf.encode()):
        raise ForgedForm("the form has expired", hint="Reload the page and try again")
    return fields
