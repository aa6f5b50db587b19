"""Logins, sessions and forms, as an attacker tries them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING

import pytest

from retrainer.web.sessions import ATTEMPT_SECONDS, ATTEMPTS, MAX_SESSIONS, SESSION_SECONDS, LoginLimit, Sessions
from tests.api.conftest import TOKEN, WITH_TOKEN, thread_server
from tests.web.conftest import PROTECTED
from tests.web.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx2

    from tests.api.conftest import Server

WRONG = "another-token-of-letters"


@pytest.fixture
def server(trained: str, folder: Path) -> Iterator[Server]:
    with thread_server(folder, env=PROTECTED) as started:
        yield started


def session_cookie(answer: httpx2.Response) -> tuple[str, str, dict[str, str]]:
    """Return the name, value and attributes of the cookie that a login has set."""
    for line in answer.headers.get_list("set-cookie"):
        for name, morsel in SimpleCookie(line).items():
            if morsel.value and not name.endswith("_form"):
                return name, morsel.value, {key: str(value) for key, value in morsel.items() if value}
    raise AssertionError(answer.headers)


def test_a_login_gives_a_random_id_in_a_cookie_that_only_the_server_reads(server: Server) -> None:
    ids = set()
    for _ in range(2):
        with Visitor(server) as visitor:
            answer = visitor.log_in()
            assert (answer.status_code, answer.headers["location"]) == (303, "/")
            _, session_id, attributes = session_cookie(answer)
            assert attributes == {"httponly": "True", "samesite": "strict", "path": "/", "max-age": str(12 * 3600)}
            ids.add(session_id)
            assert "Log out" in visitor.get("/versions").text
    assert len(ids) == 2
    assert all(len(session_id) >= 40 and TOKEN not in session_id for session_id in ids)


def test_the_cookie_is_secure_behind_a_proxy_with_tls(server: Server) -> None:
    with Visitor(server, **{"X-Forwarded-Proto": "https", "Host": "localhost"}) as visitor:
        page = visitor.get("/login")
        (form_line,) = page.headers.get_list("set-cookie")
        form_cookie = form_line.partition(";")[0]
        assert "; Secure" in form_line
        form = visitor.find_form("/login")  # a new one: its cookie is not kept, since this connection has no TLS
        page = visitor.get("/login")
        form_cookie = page.headers["set-cookie"].partition(";")[0]
        csrf = page.text.partition('name="csrf" value="')[2].partition('"')[0]
        headers = {"Origin": "https://localhost", "Cookie": form_cookie}
        answer = visitor.post(form.address, {"csrf": csrf, "token": TOKEN}, **headers)
        assert answer.status_code == 303, answer.text
        name, _, attributes = session_cookie(answer)
        assert name.startswith("__Host-")
        assert attributes["secure"] == "True"
        assert visitor.post(form.address, {"csrf": csrf, "token": TOKEN}, Origin="http://localhost").status_code == 403


def test_the_token_is_in_no_page_address_or_log(server: Server) -> None:
    with Visitor(server) as visitor:
        answers = [visitor.log_in(WRONG), visitor.log_in(TOKEN + "x"), visitor.log_in()]
        answers += [visitor.get(path) for path in ("/", "/versions", "/login", "/logout")]
    for answer in answers:
        written = f"{answer.url} {answer.headers} {answer.text}"
        assert TOKEN not in written
        assert WRONG not in written
    assert TOKEN not in "".join(server.lines)
    assert WRONG not in "".join(server.lines)


def test_failed_logins_of_a_client_are_limited_and_those_of_others_are_not(server: Server) -> None:
    with Visitor(server, **{"X-Forwarded-For": "192.0.2.7"}) as attacker:
        for _ in range(ATTEMPTS):
            assert attacker.log_in(WRONG).status_code == 403
        for token in (WRONG, TOKEN):
            answer = attacker.log_in(token)
            assert answer.status_code == 429
            assert 0 < int(answer.headers["retry-after"]) <= ATTEMPT_SECONDS
            assert "set-cookie" not in answer.headers or "_form" in answer.headers["set-cookie"]
    with Visitor(server, **{"X-Forwarded-For": "192.0.2.8"}) as visitor:
        assert visitor.log_in().status_code == 303


def test_failed_logins_at_the_same_time_count_one_after_another(server: Server) -> None:
    def attempt(_: int) -> int:
        with Visitor(server) as visitor:
            return visitor.log_in(WRONG).status_code

    with ThreadPoolExecutor(16) as threads:
        codes = list(threads.map(attempt, range(24)))
    assert sorted(set(codes)) == [403, 429]
    assert codes.count(403) == ATTEMPTS


def test_the_limit_of_all_clients_holds_for_those_who_change_their_address() -> None:
    now = [0.0]
    limit = LoginLimit(lambda: now[0])
    count = 0
    while not limit.wait(f"client {count}"):
        limit.add_failure(f"client {count}")
        count += 1
        now[0] += 0.1
    assert count == 50
    now[0] += ATTEMPT_SECONDS
    assert limit.wait("client 0") == 0


def test_a_session_ends_after_twelve_hours_and_only_the_hash_of_its_id_is_kept() -> None:
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    session_id = sessions.start()
    assert session_id not in repr(vars(sessions))
    now[0] += SESSION_SECONDS - 1
    assert sessions.get(session_id)
    now[0] += 2
    assert sessions.get(session_id) is None


def test_logins_cannot_fill_the_memory() -> None:
    sessions = Sessions()
    ids = [sessions.start() for _ in range(MAX_SESSIONS + 1)]
    assert sessions.get(ids[0]) is None
    assert sessions.get(ids[-1])


def test_an_id_that_was_planted_is_not_adopted(server: Server) -> None:
    """A page of another site on this host may set a cookie before the login."""
    with Visitor(server) as visitor:
        name, _, _ = session_cookie(visitor.log_in())
    with Visitor(server) as victim:
        victim.client.cookies.set(name, "planted", domain="127.0.0.1")
        assert "Log out" not in victim.get("/versions").text
        _, session_id, _ = session_cookie(victim.log_in())
        assert session_id != "planted"
    for cookie in ("planted", "", "x" * 5000, "%00", session_id[:-1], session_id + "x"):
        answer = server.get("/versions", headers={"Cookie": f"{name}={cookie}"})
        assert "Log out" not in answer.text


def test_a_logout_ends_the_session_on_the_server(server: Server) -> None:
    with Visitor(server) as visitor:
        name, session_id, _ = session_cookie(visitor.log_in())
        assert visitor.post("/logout", {"csrf": "x"}).status_code == 403  # another site may not end it
        assert "Log out" in visitor.get("/versions").text
        assert visitor.send(visitor.find_form("/logout")).status_code == 303
        assert "Log out" not in visitor.get("/versions").text
        answer = server.get("/versions", headers={"Cookie": f"{name}={session_id}"})
        assert "Log out" not in answer.text


def test_the_api_ignores_the_cookie(trained: str, folder: Path) -> None:
    with thread_server(folder, protect_reads=True, env=PROTECTED) as server, Visitor(server) as visitor:
        assert visitor.log_in().status_code == 303
        assert visitor.get("/versions").status_code == 200
        assert visitor.get("/models/production").status_code == 401
        for path in (f"/models/promote/{trained}", "/models/retrain", "/models/rollback/timing"):
            assert visitor.client.post(path).status_code == 401
        assert server.get("/models/production", headers=WITH_TOKEN).status_code == 200


def test_protected_pages_lead_to_the_login_and_back(trained: str, folder: Path) -> None:
    with thread_server(folder, protect_reads=True, env=PROTECTED) as server, Visitor(server) as visitor:
        for path in ("/", "/versions?page=1", "/live", "/replay"):
            answer = visitor.get(path)
            assert answer.status_code == 303, path
            assert answer.headers["location"].startswith("/login?next="), path
            assert "baseline" not in answer.text
        for path in ("/login", "/nowhere"):
            page = visitor.get(path, headers={"Accept": "text/html"}).text
            assert "baseline" not in page
            assert folder.name not in page, path
        answer = visitor.log_in(path=visitor.get("/versions?page=1").headers["location"])
        assert answer.headers["location"] == "/versions?page=1"
        page = visitor.get("/versions?page=1").text
        assert trained in page
        assert f"<span>{folder.name}</span>" in page


@pytest.mark.parametrize(
    "address",
    ["//evil.example", "https://evil.example", r"/\evil.example", "javascript:alert(1)", "/%0d%0aX-Evil:1", "/\t/evil"],
)
def test_a_login_leads_to_no_other_site(address: str, server: Server) -> None:
    with Visitor(server) as visitor:
        page = visitor.get("/login", params={"next": address})
        assert page.status_code == 200
        answer = visitor.log_in(path=str(page.url).removeprefix(server.url))
        assert answer.status_code == 303
        assert answer.headers["location"] in {"/", "/%0d%0aX-Evil:1"}
        assert "x-evil" not in answer.headers


def test_a_login_needs_its_own_form(server: Server) -> None:
    with Visitor(server) as visitor, Visitor(server) as other:
        foreign = other.find_form("/login")
        assert visitor.post("/login", {"token": TOKEN}).status_code == 403
        assert visitor.send(foreign, token=TOKEN).status_code == 403
        own = visitor.find_form("/login")
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
            answer = visitor.post(own.address, {**own.fields, "token": TOKEN}, Origin=origin)
            assert answer.status_code == 403
        answer = visitor.client.post(
            own.address, data={**own.fields, "token": TOKEN}, headers={"Sec-Fetch-Site": "cross-site"}
        )
        assert answer.status_code == 403
        assert visitor.send(own, token=TOKEN).status_code == 303


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"token=x&token=y&csrf=z", "application/x-www-form-urlencoded"),
        (b"csrf=\xff\xfe%ff&token=\xc3", "application/x-www-form-urlencoded"),
        (b"&".join(b"f%d=1" % number for number in range(500)), "application/x-www-form-urlencoded"),
        (b'{"token": "x"}', "application/json"),
        (b"token=" + b"x" * 900_000, "application/x-www-form-urlencoded"),
        (b"token=x", "multipart/form-data; boundary=x"),
        (b"", ""),
    ],
)
def test_a_strange_form_is_refused_and_counts_for_nothing(body: bytes, content_type: str, server: Server) -> None:
    with Visitor(server) as visitor:
        form = visitor.find_form("/login")
        headers = {"Origin": server.url, "Content-Type": content_type}
        answer = visitor.client.post(form.address, content=body, headers=headers)
        assert 400 <= answer.status_code < 500
        assert "Traceback" not in answer.text
        assert visitor.log_in().status_code == 303
    assert "Traceback" not in "".join(server.lines)


def test_pages_are_served_under_allowed_names_only(server: Server) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", ""):
        for path in ("/", "/versions", "/login", "/docs"):
            assert server.get(path, headers={"Host": host}).status_code == 403, (host, path)


def test_without_a_token_the_pages_are_read_only(trained: str, folder: Path) -> None:
    with thread_server(folder) as server, Visitor(server) as visitor:
        assert visitor.get("/versions").status_code == 200
        page = visitor.get("/login").text
        assert "--token-file" in page
        assert "<form" not in page
        assert visitor.post("/login", {"token": ""}).status_code == 403
        assert visitor.post("/login", {"token": "None"}).status_code == 403
