"""Authentication: the token, and what web pages and other machines can do without it."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.api.conftest import TOKEN, WITH_TOKEN

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.conftest import Serve, ServeProcess, Server
    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins

PROTECTED = {"RETRAINER_API_TOKEN": TOKEN}


def test_writes_need_the_token_and_reads_do_not(two_versions: tuple[str, str], serve: Serve) -> None:
    server = serve(env=PROTECTED)
    promotion = f"/models/promote/{two_versions[1]}"
    for path in (promotion, "/models/retrain", "/models/rollback/timing"):
        answer = server.post(path)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="retrainer"'
        assert answer.json()["error"]["code"] == "unauthorized"
    assert server.get("/models/production").json()["timing_model"]["version_id"] == two_versions[0]
    assert server.get("/models/training-history?status=running").json()["count"] == 0
    assert server.post(promotion, headers=WITH_TOKEN).status_code == 200


def test_a_wrong_token_or_scheme_is_refused(serve: Serve, folder: Path) -> None:
    server = serve(env=PROTECTED)
    for authorization in (
        "Bearer another-token-of-letters",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        f"Token {TOKEN}",
        TOKEN,
        "Bearer",
        b"Bearer \xc3\xa9\xff",
        "",
    ):
        answer = server.post("/models/retrain", headers={"Authorization": authorization})
        assert answer.status_code == 401, authorization
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="retrainer", error="invalid_token"'
        assert TOKEN not in answer.text
    assert server.get("/models/training-history").json()["total"] == 0


def test_the_authorization_scheme_is_case_insensitive(trained: str, serve: Serve) -> None:
    server = serve(env=PROTECTED)
    answer = server.post(f"/models/promote/{trained}", headers={"Authorization": f"bearer {TOKEN}"})
    assert answer.status_code == 200


def test_protect_reads_covers_everything_but_health(trained: str, serve: Serve) -> None:
    server = serve(protect_reads=True, env=PROTECTED)
    for path in ("/models/production", "/models/versions", "/metrics", "/openapi.json", "/nothing"):
        assert server.get(path).status_code == 401, path
    assert server.get("/models/production", headers=WITH_TOKEN).status_code == 200
    assert server.get("/metrics", headers=WITH_TOKEN).status_code == 200
    assert server.get("/health/live").status_code == 200
    assert server.get("/health/ready").status_code == 200


def test_a_token_file_overrides_the_environment(trained: str, serve_process: ServeProcess, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o644)
    server = serve_process("--token-file", str(file), env={"RETRAINER_API_TOKEN": "some-other-token-of-letters"})
    assert server.post(f"/models/promote/{trained}", headers=WITH_TOKEN).status_code == 200
    assert any("Other users can read the token file" in line for line in server.lines)


@pytest.mark.parametrize(
    ("arguments", "token", "message"),
    [
        (["--host", "0.0.0.0"], None, "--host: '0.0.0.0' can be reached from other machines, and no token is set"),  # noqa: S104
        (["--host", "::"], None, "--host: '::' can be reached from other machines"),
        (["--host", "example.org"], None, "--host: 'example.org' can be reached from other machines"),
        (["--protect-reads"], None, "--protect-reads requires a token, and none is set"),
        ([], "short", "RETRAINER_API_TOKEN: the token has fewer than 16 characters"),
        ([], "", "RETRAINER_API_TOKEN: the token has fewer than 16 characters"),
        ([], "two words of letters", "RETRAINER_API_TOKEN: the token must be one word"),
        ([], "ein-schlüssel-mit-umlaut", "RETRAINER_API_TOKEN: the token must be one word"),
        (["--token-file", "nowhere"], None, "cannot read the token file 'nowhere': No such file"),
        (["--token-file", "."], None, "cannot read the token file '.': it is a folder"),
        (["--port", "70000"], None, "--port: invalid value '70000' (must be less than or equal to 65535)"),
        (["--allowed-host", "http://x"], None, "--allowed-host: invalid value 'http://x' (must be a host name"),
        (["--allowed-host", "x:80"], None, "--allowed-host: invalid value 'x:80' (must be a host name"),
    ],
)
def test_unsafe_options_are_refused_in_one_line(
    arguments: list[str], token: str | None, message: str, folder: Path, retrainer: Runner
) -> None:
    done = retrainer("serve", *arguments, env={} if token is None else {"RETRAINER_API_TOKEN": token})
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.startswith(f"Error: {message}")
    if token and len(token) > 5:
        assert token not in line


OTHER_HOSTS = ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1].evil", "0.0.0.0")  # noqa: S104
EACH_AUTH = pytest.mark.parametrize("env", [{}, PROTECTED], ids=["no token set", "token set"])


@EACH_AUTH
def test_without_the_token_only_allowed_host_names_are_served(env: dict[str, str], trained: str, serve: Serve) -> None:
    """A page that rebinds its own name to this machine is not served, even where everybody may read."""
    server = serve(env=env)
    for host in OTHER_HOSTS:
        for method, path in (("GET", "/models/production"), ("POST", f"/models/promote/{trained}")):
            answer = server.request(method, path, headers={"Host": host})
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (403, "forbidden_host"), host
            assert "api.allowed_hosts" in error["hint"]
        assert server.get("/health/ready", headers={"Host": host}).status_code == 200
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8000"):
        assert server.get("/models/production", headers={"Host": host}).status_code == 200, host


@EACH_AUTH
def test_without_the_token_requests_of_web_pages_are_refused(env: dict[str, str], trained: str, serve: Serve) -> None:
    server = serve(env=env)
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": server.url.replace("http:", "https:")},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        for method, path in (("POST", f"/models/promote/{trained}"), ("GET", "/models/predict/timing")):
            answer = server.request(method, path, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden_origin"), headers
    for headers in ({"Origin": server.url}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        assert server.get("/models/production", headers=headers).status_code == 200, headers


@pytest.mark.parametrize(
    "lines",
    [
        ["Host: 127.0.0.1", "Host: evil.example"],
        ["Host: 127.0.0.1", "Origin: http://127.0.0.1", "Origin: https://evil.example"],
        ["Host: 127.0.0.1", "Origin: https://evil.example", "Origin: http://127.0.0.1"],
        ["Host: 127.0.0.1", "Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"],
    ],
)
def test_every_one_of_several_headers_counts(bad_input_server: Server, lines: list[str]) -> None:
    with socket.create_connection(("127.0.0.1", bad_input_server.port)) as connection:
        head = "\r\n".join(["GET /models/production HTTP/1.1", *lines, "Connection: close", "", ""])
        connection.sendall(head.encode())
        answer = connection.makefile("rb").readline()
    assert answer.split()[1] in {b"400", b"403"}, answer


def test_with_the_token_any_host_name_is_served(trained: str, serve: Serve) -> None:
    server = serve(env=PROTECTED)
    headers = {"Host": "models.example.org", "Origin": "https://models.example.org", **WITH_TOKEN}
    assert server.post(f"/models/promote/{trained}", headers=headers).status_code == 200
    headers["Authorization"] += "x"
    answer = server.get("/models/production", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden_host")


@pytest.mark.slow
def test_further_host_names_are_allowed_by_option_and_by_setting(trained: str, serve_process: ServeProcess) -> None:
    server = serve_process(
        "--allowed-host",
        "Models.Example.org",
        "--allowed-host",
        "[2001:db8::1]",
        env={"RETRAINER_API__ALLOWED_HOSTS": "[retrainer, 10.0.0.7]"},
    )
    for host in ("models.example.org", "models.example.org:443", "[2001:db8::1]:8000", "retrainer", "10.0.0.7:8000"):
        assert server.get("/models/production", headers={"Host": host}).status_code == 200, host
    origin = {"Host": "models.example.org", "Origin": "http://models.example.org"}
    assert server.get("/models/production", headers=origin).status_code == 200
    assert server.get("/models/production", headers={"Host": "example.org"}).status_code == 403


def test_every_answer_carries_headers_that_restrict_a_browser(bad_input_server: Server) -> None:
    for path, host in (("/health/live", ""), ("/openapi.json", "127.0.0.1"), ("/x", "127.0.0.1"), ("/x", "evil")):
        headers = bad_input_server.get(path, headers={"Host": host}).headers
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"


PAID = """
    from retrainer.algorithms import Algorithm, hookimpl

    @hookimpl
    def algorithm():
        return Algorithm(name="paid", model_types=("content",), summary="Costs money.", paid=True)

    @hookimpl
    def train(posts):
        return {}

    @hookimpl
    def predict(posts, origins):
        from retrainer.model_types.content import ContentForecast
        return [ContentForecast("a text about the garden") for _ in range(len(origins))]
"""


def test_paid_forecasts_need_the_token(trained: str, serve: Serve, plugins: Plugins, retrainer: Runner) -> None:
    plugins.add("paid", PAID)
    run = retrainer("train", "content", "--algorithm", "paid", "--json", env=plugins.environ).json
    paid = run["training_runs"][0]["model_version_id"]
    assert retrainer("promote", paid, env=plugins.environ).code == 0
    server = serve(env={**PROTECTED, **plugins.environ})
    for path in ("/models/predict/content", f"/models/compare/{paid}/{paid}"):
        assert server.get(path).status_code == 401
        assert server.get(path, headers=WITH_TOKEN).status_code in {200, 409}, path
    assert server.get("/models/predict/timing").status_code == 200


@pytest.mark.slow
def test_the_token_appears_nowhere(trained: str, serve_process: ServeProcess, folder: Path) -> None:
    server = serve_process(env=PROTECTED)
    ids = server.post("/models/retrain", headers=WITH_TOKEN).json()["run_ids"]
    server.ended(ids["timing"])
    server.ended(ids["content"])
    assert TOKEN not in server.get("/openapi.json").text
    server.stop()
    assert TOKEN not in "".join(server.lines)
    logs = [path.read_text() for path in (folder / "logs" / "runs").iterdir()]
    assert len(logs) == 2
    assert not any(TOKEN in text for text in logs)


@pytest.mark.slow
def test_a_missing_extra_is_one_line_with_the_command_to_install_it(folder: Path) -> None:
    packages = ("fastapi", "uvicorn", "prometheus_client")
    script = """
import os, sys
from retrainer.cli.program import run
for package in sys.argv[1:]:
    child = os.fork()  # as a process that has imported none of them
    if not child:
        sys.modules[package] = None
        sys.exit(run(["serve"]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2, package
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *packages], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for package, line in zip(packages, done.stderr.splitlines(), strict=True):
        assert line.endswith("Install it with: pip install 'retrainer[api]'")
        assert f"'{package}'" in line
