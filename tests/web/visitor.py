"""A visitor of the pages without a browser: keeps cookies, and fills in the forms of a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urljoin

import httpx2
from selectolax.lexbor import LexborHTMLParser

from tests.api.conftest import NO_TLS, PATIENCE, TOKEN

if TYPE_CHECKING:
    from types import TracebackType

    from selectolax.lexbor import LexborNode

    from tests.api.conftest import Server


@dataclass(frozen=True)
class Form:
    """A form of a page: where it goes, and the fields as the page has filled them in."""

    address: str
    fields: dict[str, str]


class Visitor:
    """Calls a server as a browser does, with the origin of its pages."""

    def __init__(self, server: Server, **headers: str) -> None:
        self.url = server.url
        self.client = httpx2.Client(
            base_url=server.url, headers=headers, timeout=PATIENCE, verify=NO_TLS, follow_redirects=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.client.close()

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return self.client.get(path, **options)

    def post(self, path: str, fields: dict[str, str], **headers: str) -> httpx2.Response:
        """Send a form from a page of the server itself, unless the headers say otherwise."""
        return self.client.post(path, data=fields, headers={"Origin": self.url, **headers})

    def find_form(self, path: str, action: str = "") -> Form:
        """Return the form of a page that is posted to an address which contains `action`."""
        page = self.get(path)
        assert page.status_code == 200, page.text
        for node in LexborHTMLParser(page.text).css("form"):
            address = urljoin(path, node.attributes.get("action") or path)
            if (node.attributes.get("method") or "get").lower() == "post" and action in address:
                return Form(address, dict(_read_fields(node)))
        raise AssertionError(f"{path} has no form for '{action}'")

    def send(self, form: Form, **fields: str) -> httpx2.Response:
        """Send a form with these fields filled in."""
        return self.post(form.address, {**form.fields, **fields})

    def log_in(self, token: str = TOKEN, path: str = "/login") -> httpx2.Response:
        """Send the form of the login."""
        return self.send(self.find_form(path, "/login"), token=token)


def _read_fields(form: LexborNode) -> list[tuple[str, str]]:
    nodes = [node for node in form.css("input, textarea, select, button") if node.attributes.get("name")]
    return [(str(node.attributes["name"]), node.attributes.get("value") or "") for node in nodes]
