"""The files of deploy/ can be parsed, and their command lines train models."""

from __future__ import annotations

import configparser
import getpass
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from retrainer.schedule import systemd
from retrainer.schedule.command import ScheduledCommand
from retrainer.schedule.expression import parse_schedule
from tests.api.conftest import Server
from tests.conftest import import_regular_posts

if TYPE_CHECKING:
    from tests.command_line import Runner
    from tests.conftest import Prepare

DEPLOY = Path(__file__).parent.parent / "deploy"
SERVED_PORT = 8000
HOME = Path("/srv/retrainer")
COMMAND = ScheduledCommand(
    HOME / "venv/bin/python", HOME / "config/config.yaml", HOME / "logs/retrainer.log", HOME / "env"
)
SERVING = ("serve", "--host", "127.0.0.1", "--port", "8000", "--protect-reads")
SERVER = replace(COMMAND, log_file=HOME / "logs/server.log", arguments=SERVING)


@pytest.fixture
def with_posts(folder: Path, prepare: Prepare) -> Path:
    prepare(folder, import_regular_posts)
    (folder / "logs").mkdir()
    return folder


def run_bare(command: str | list[str], folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command line as cron does, in another folder and with a minimal environment; replace its example paths."""
    ours = [
        word.replace(str(COMMAND.interpreter), sys.executable).replace(str(HOME), str(folder))
        for word in ([command] if isinstance(command, str) else command)
    ]
    return subprocess.run(
        ["/bin/sh", "-c", ours[0]] if isinstance(command, str) else ours,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def assert_both_were_trained(folder: Path, retrainer: Runner) -> None:
    runs = retrainer("history", "--json", cwd=folder).json["training_runs"]
    assert {(run["model_type"], run["status"]) for run in runs} == {("timing", "completed"), ("content", "completed")}


@pytest.mark.slow
def test_the_crontab(with_posts: Path, retrainer: Runner) -> None:
    (line,) = [line for line in (DEPLOY / "crontab").read_text().splitlines() if line[0] in "0123456789*"]
    *fields, user, command = line.split(maxsplit=6)
    assert parse_schedule(" ".join(fields)).text == "0 3 * * *"
    assert (user, command) == ("retrainer", COMMAND.crontab_command())
    (with_posts / "env").write_text("RETRAINER_RETRAINING__TEST_SPLIT=0.5\n")
    done = run_bare(command, with_posts)
    assert (done.returncode, done.stdout) == (0, "")
    (warning,) = done.stderr.splitlines()
    assert warning.startswith("WARNING: The posts are stale: ")
    assert_both_were_trained(with_posts, retrainer)
    log = (with_posts / "logs" / "retrainer.log").read_text()
    assert "TIMING MODEL RETRAINING COMPLETE" in log
    assert "Split data: 60 train, 60 test" in log, "the environment file was read"


@pytest.mark.slow
def test_the_systemd_units(with_posts: Path, retrainer: Runner, tmp_path: Path) -> None:
    texts = {name: (DEPLOY / name).read_text() for name in (systemd.SERVICE, systemd.TIMER, systemd.SERVER)}
    without_comments = {name: text[text.index("[Unit]") :] for name, text in texts.items()}
    assert without_comments == {
        systemd.SERVICE: systemd.service(COMMAND, "retrainer"),
        systemd.TIMER: systemd.timer(parse_schedule("daily")),
        systemd.SERVER: systemd.server(SERVER, "retrainer"),
    }
    done = run_bare(command_of(texts[systemd.SERVICE]), with_posts)
    assert done.returncode == 0, done.stderr
    assert_both_were_trained(with_posts, retrainer)
    analyze = shutil.which("systemd-analyze")
    if analyze is not None:
        for name, text in texts.items():
            (tmp_path / name).write_text(text.replace(str(COMMAND.interpreter), sys.executable))
        files = [str(tmp_path / name) for name in texts]
        verified = subprocess.run([analyze, "verify", "--man=no", *files], capture_output=True, text=True, check=False)
        assert "retrainer." not in verified.stderr, verified.stderr


def command_of(unit: str) -> list[str]:
    """Return the words of a unit's ExecStart."""
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    parsed.read_string(unit)
    return shlex.split(parsed["Service"]["ExecStart"])


@pytest.mark.slow
def test_the_systemd_unit_of_the_server_requires_the_token(with_posts: Path) -> None:
    words = command_of((DEPLOY / systemd.SERVER).read_text())
    assert words[words.index("--port") + 1] == "8000"
    words[words.index("--port") + 1] = "0"
    token = "a-token-of-many-letters"  # noqa: S105  for the test
    ours = [
        word.replace(str(COMMAND.interpreter), sys.executable).replace(str(HOME), str(with_posts)) for word in words
    ]
    log = with_posts / "logs" / "server.log"
    with subprocess.Popen(ours, cwd="/", env={"PATH": "/usr/bin:/bin", "RETRAINER_API_TOKEN": token}) as process:
        try:
            server = Server(address_in(log))
            assert server.get("/health/ready").status_code == 200
            assert server.get("/models/production").status_code == 401
            authorized = {"Authorization": f"Bearer {token}"}
            assert server.get("/models/production", headers=authorized).status_code == 200
        finally:
            process.terminate()
    assert process.returncode == 0


def address_in(log: Path) -> str:
    """Return the address that a server logs when it starts to listen."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        found = re.search(r"Listening on (\S+)", log.read_text()) if log.exists() else None
        if found:
            return found[1]
        time.sleep(0.05)
    raise AssertionError("the server does not listen")


def test_serve_prints_its_unit(folder: Path, retrainer: Runner, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("RETRAINER_API_TOKEN=a-token-of-many-letters\n")
    done = retrainer("serve", "--systemd", "--protect-reads", "--env-file", str(tmp_path / "env"))
    assert done.out.startswith(f"# {systemd.FOLDER}/{systemd.SERVER}\n")
    command = ScheduledCommand(
        Path(sys.executable), folder / "config/config.yaml", folder / "logs/server.log", tmp_path / "env", SERVING
    )
    assert done.out.partition("\n")[2] == systemd.server(command, getpass.getuser())
    assert retrainer("serve", "--systemd", "--env-file", "none").code == 2
    assert retrainer("serve", "--env-file", str(tmp_path / "env")).code == 2


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=DEPLOY.parent, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def install_lines() -> list[str]:
    """Return the commands in the files of deploy/ that install retrainer."""
    (render,) = yaml.safe_load((DEPLOY / "render.yaml").read_text())["services"]
    workflow = yaml.safe_load((DEPLOY / "retrain.yml").read_text())
    steps = [step["run"] for step in workflow["jobs"]["retrain"]["steps"] if "run" in step]
    docker = (DEPLOY / "Dockerfile").read_text().replace("/wheels/", "deploy/")
    instructions = re.findall(r"^RUN (pip .*)", docker, re.MULTILINE)
    lines = [render["buildCommand"], *steps, *instructions]
    return [line for line in lines if line.startswith("pip install")]


@pytest.mark.slow
def test_every_install_line_works_in_a_folder_that_init_made(folder: Path, retrainer: Runner, wheel: Path) -> None:
    lines = install_lines()
    assert len(lines) == 3
    assert retrainer("init", ".", "--deploy").code == 0
    shutil.copy(wheel, folder / "deploy")
    for line in lines:
        tried = line.replace("pip install", f"{sys.executable} -m pip install --dry-run --no-deps --ignore-installed")
        done = subprocess.run(["sh", "-c", tried], cwd=folder, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr
        assert "Would install retrainer-" in done.stdout


def with_our_commands(**environ: str) -> dict[str, str]:
    return {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **environ}


@pytest.mark.slow
def test_the_dockerfile(with_posts: Path, retrainer: Runner, tmp_path: Path) -> None:
    parsed = DockerfileParser(path=str(tmp_path), cache_content=True)
    parsed.content = (DEPLOY / "Dockerfile").read_text()
    assert parsed.baseimage == "python:3.13-slim"
    instructions = {one["instruction"]: one["value"] for one in parsed.structure}
    assert instructions["USER"] == "retrainer"
    words = [*yaml.safe_load(instructions["ENTRYPOINT"]), *yaml.safe_load(instructions["CMD"])]
    config = parsed.envs["RETRAINER_CONFIG"].replace("/project", str(with_posts))
    done = subprocess.run(words, cwd="/", env=with_our_commands(RETRAINER_CONFIG=config), check=False)
    assert done.returncode == 0
    assert_both_were_trained(with_posts, retrainer)


@pytest.mark.slow
def test_the_image_also_serves(with_posts: Path) -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert {"api", "notify", "postgresql"} <= set(re.findall(r"\w+", re.findall(r"\[([\w,]+)\]\"", text)[0]))
    (serve,) = [line for line in text.splitlines() if " retrainer serve " in line]
    words = shlex.split(serve.partition(" -p 127.0.0.1:8000:8000 ")[2])
    assert f"EXPOSE {SERVED_PORT}\n" in text
    token = "a-token-of-many-letters"  # noqa: S105  for the test
    environ = with_our_commands(RETRAINER_CONFIG=str(with_posts / "config/config.yaml"), RETRAINER_API_TOKEN=token)
    log = with_posts / "logs" / "server.log"
    command = ["retrainer", "--log-file", str(log), *words[1:], "--port", "0"]
    with subprocess.Popen(command, cwd="/", env=environ) as process:
        try:
            server = Server(address_in(log).replace("0.0.0.0", "127.0.0.1"))  # noqa: S104
            assert server.get("/health/ready").status_code == 200
            assert server.get("/models/production").status_code == 401
            authorized = {"Authorization": f"Bearer {token}", "Host": "models.example.org"}
            assert server.get("/status", headers=authorized).status_code == 200
        finally:
            process.terminate()
    assert process.returncode == 0


@pytest.mark.slow
def test_the_installed_extras_of_the_image_suffice(with_posts: Path, tmp_path: Path, wheel: Path) -> None:
    """Into an empty environment, as the Dockerfile installs it."""
    (line,) = [line for line in install_lines() if "[api,notify,postgresql]" in line and "echo" in line]
    (tmp_path / "deploy").mkdir()
    shutil.copy(wheel, tmp_path / "deploy")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    program = tmp_path / "venv" / "bin"
    environ = {**os.environ, "PATH": f"{program}:{os.environ['PATH']}"}
    environ["PIP_NO_COMPILE"] = "0"  # pip takes the word of a --no-… option for what it switches off
    installed = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert installed.returncode == 0, installed.stderr
    code = (
        "import apprise, psycopg, retrainer.api.server, retrainer.api.app, retrainer.cli.serve;"
        "from retrainer.algorithms.manager import load_algorithm;"
        "print([load_algorithm(name).description.name for name in ('prophet', 'claude_api', 'baseline')])"
    )
    done = subprocess.run([program / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    environ["RETRAINER_CONFIG"] = str(with_posts / "config/config.yaml")
    trained = subprocess.run([program / "retrainer", "train", "timing"], cwd=tmp_path, env=environ, check=False)
    assert trained.returncode == 0


@pytest.mark.slow
def test_the_render_file(with_posts: Path, retrainer: Runner) -> None:
    (service,) = yaml.safe_load((DEPLOY / "render.yaml").read_text())["services"]
    assert (service["type"], parse_schedule(service["schedule"]).text) == ("cron", parse_schedule("weekly").text)
    assert service["startCommand"] == "retrainer train --fetch --auto-promote"
    done = subprocess.run(shlex.split(service["startCommand"]), cwd=with_posts, env=with_our_commands(), check=False)
    assert done.returncode == 0
    assert_both_were_trained(with_posts, retrainer)


@pytest.mark.slow
def test_the_ci_workflow(with_posts: Path, retrainer: Runner, tmp_path: Path) -> None:
    workflow: dict[Any, Any] = yaml.safe_load((DEPLOY / "retrain.yml").read_text())
    triggers = workflow[True]  # how YAML 1.1 reads `on`
    assert parse_schedule(triggers["schedule"][0]["cron"]).text == parse_schedule("weekly").text
    *_, training, upload = workflow["jobs"]["retrain"]["steps"]
    script = training["run"]
    assert shlex.split(script)[:4] == ["retrainer", "train", "--fetch", "--auto-promote"]
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=with_posts,
        env=with_our_commands(GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md")),
        check=False,
    )
    assert done.returncode == 0
    assert_both_were_trained(with_posts, retrainer)
    assert "## ✓ timing: promoted" in (tmp_path / "summary.md").read_text()
    assert upload["uses"].startswith("actions/upload-artifact@")
    assert upload["if"] == "${{ !cancelled() }}", "also after a failed run"
    assert (with_posts / upload["with"]["path"]).read_text().startswith("<!doctype html>")
