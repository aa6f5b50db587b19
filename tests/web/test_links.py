"""Every page that a link leads to: it is there, with the headers that protect it and nothing from elsewhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urljoin, urlsplit

import pytest
from selectolax.lexbor import LexborHTMLParser

from tests.api.conftest import TOKEN, thread_server
from tests.web.conftest import PROTECTED
from tests.web.visitor import Visitor

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2

START = ("/", "/overview", "/versions", "/runs", "/posts", "/live", "/replay", "/login")
MAX_PAGES = 120
# A policy that lets no text become a program, whatever slips through.
POLICY = {
    "default-src 'none'",
    "style-src 'self'",
    "script-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
}


def check_page(answer: httpx2.Response) -> None:
    """Check the headers of a page, and that it has neither scripts nor styles of its own."""
    if urlsplit(str(answer.url)).path != "/docs":
        policy = answer.headers["content-security-policy"]
        assert {one.strip() for one in policy.split(";")} == POLICY
        assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] in {"same-origin", "no-referrer"}
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = LexborHTMLParser(answer.text)
    assert not page.css("[style], style, script:not([src]), iframe, object, embed, base")
    for node in page.css("*"):
        assert not [name for name in node.attributes if name.startswith("on")], node.html
    assert not re.search(r"""(?:src|action|srcset|poster|data)\s*=\s*["']?(?:https?:)?//""", answer.text)
    assert TOKEN not in answer.text


@pytest.mark.parametrize("logged_in", [False, True], ids=["anonymous", "logged in"])
def test_every_link_leads_to_a_page_that_is_protected(logged_in: bool, trained: str, folder: Path) -> None:
    with thread_server(folder, env=PROTECTED) as server, Visitor(server) as visitor:
        if logged_in:
            assert visitor.log_in().status_code == 303
        waiting, seen = list(START), set(START)
        while waiting and len(seen) < MAX_PAGES:
            path = waiting.pop(0)
            answer = visitor.get(path)
            if answer.status_code == 303:
                targets = [answer.headers["location"]]
            else:
                assert answer.status_code in ({200} if "/action/" not in path else {200, 409, 422}), (path, answer.text)
                assert "Traceback" not in answer.text
                if not answer.headers["content-type"].startswith("text/html"):
                    continue
                check_page(answer)
                nodes = LexborHTMLParser(answer.text).css("a[href], link[href], script[src], img[src]")
                targets = [str(node.attributes.get("href") or node.attributes.get("src")) for node in nodes]
            for target in targets:
                address = urldefrag(urljoin(path, target)).url
                assert address.startswith("/"), f"{path} leads elsewhere: {target}"
                if address not in seen and address != "/docs":
                    seen.add(address)
                    waiting.append(address)
        assert any(address.startswith(f"/version/{trained}") for address in seen)
    assert "Traceback" not in "".join(server.lines)
