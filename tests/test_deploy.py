"""The files of deploy/: each can be parsed, and the command line in it retrains."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from retrainer.schedule import systemd
from retrainer.schedule.command import UnattendedCommand
from retrainer.schedule.expression import parse_schedule
from tests.conftest import NOW, open_project, regular_posts

if TYPE_CHECKING:
    from tests.conftest import Runner

DEPLOY = Path(__file__).parent.parent / "deploy"
HOME = Path("/srv/retrainer")
COMMAND = UnattendedCommand(
    HOME / "venv/bin/python", HOME / "config/config.yaml", HOME / "logs/retrainer.log", HOME / "env"
)


@pytest.fixture
def with_posts(folder: Path) -> Path:
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    project.close()
    (folder / "logs").mkdir()
    return folder


def run_bare(command: str | list[str], folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command line as cron does: hardly any environment, another folder; the paths of the file made ours."""
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
        timeout=120,
    )


def assert_both_were_trained(folder: Path, retrainer: Runner) -> None:
    runs = retrainer("history", "--json", cwd=folder).json["training_runs"]
    assert {(run["model_type"], run["status"]) for run in runs} == {("timing", "completed"), ("content", "completed")}


def test_the_crontab(with_posts: Path, retrainer: Runner) -> None:
    (line,) = [line for line in (DEPLOY / "crontab").read_text().splitlines() if line[0] in "0123456789*"]
    *fields, user, command = line.split(maxsplit=6)
    assert parse_schedule(" ".join(fields)).text == "0 3 * * *"
    assert (user, command) == ("retrainer", COMMAND.crontab_command())
    (with_posts / "env").write_text("RETRAINER_RETRAINING__TEST_SPLIT=0.5\n")
    done = run_bare(command, with_posts)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert_both_were_trained(with_posts, retrainer)
    log = (with_posts / "logs" / "retrainer.log").read_text()
    assert "TIMING MODEL RETRAINING COMPLETE" in log
    assert "Split data: 60 train, 60 test" in log, "the environment file was read"


def test_the_systemd_units(with_posts: Path, retrainer: Runner, tmp_path: Path) -> None:
    texts = {name: (DEPLOY / name).read_text() for name in (systemd.SERVICE, systemd.TIMER)}
    without_comments = {name: text[text.index("[Unit]") :] for name, text in texts.items()}
    assert without_comments == {
        systemd.SERVICE: systemd.service(COMMAND, "retrainer"),
        systemd.TIMER: systemd.timer(parse_schedule("daily")),
    }
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    unit.read_string(texts[systemd.SERVICE])
    done = run_bare(shlex.split(unit["Service"]["ExecStart"]), with_posts)
    assert done.returncode == 0, done.stderr
    assert_both_were_trained(with_posts, retrainer)
    analyze = shutil.which("systemd-analyze")
    if analyze is not None:
        for name, text in texts.items():
            (tmp_path / name).write_text(text.replace(str(COMMAND.interpreter), sys.executable))
        files = [str(tmp_path / name) for name in texts]
        verified = subprocess.run([analyze, "verify", "--man=no", *files], capture_output=True, text=True, check=False)
        assert "retrainer." not in verified.stderr, verified.stderr


def with_our_commands(**environ: str) -> dict[str, str]:
    return {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **environ}


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


def test_the_render_file(with_posts: Path, retrainer: Runner) -> None:
    (service,) = yaml.safe_load((DEPLOY / "render.yaml").read_text())["services"]
    assert (service["type"], parse_schedule(service["schedule"]).text) == ("cron", parse_schedule("weekly").text)
    assert service["startCommand"] == "retrainer train --auto-promote"
    done = subprocess.run(shlex.split(service["startCommand"]), cwd=with_posts, env=with_our_commands(), check=False)
    assert done.returncode == 0
    assert_both_were_trained(with_posts, retrainer)


def test_the_ci_workflow(with_posts: Path, retrainer: Runner, tmp_path: Path) -> None:
    workflow: dict[Any, Any] = yaml.safe_load((DEPLOY / "retrain.yml").read_text())
    triggers = workflow[True]  # how YAML 1.1 reads `on`
    assert parse_schedule(triggers["schedule"][0]["cron"]).text == parse_schedule("weekly").text
    script = workflow["jobs"]["retrain"]["steps"][-1]["run"]
    assert shlex.split(script)[:3] == ["retrainer", "train", "--auto-promote"]
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=with_posts,
        env=with_our_commands(GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md")),
        check=False,
    )
    assert done.returncode == 0
    assert_both_were_trained(with_posts, retrainer)
    assert "## ✓ timing: promoted" in (tmp_path / "summary.md").read_text()
