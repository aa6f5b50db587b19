"""The README says what is true."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer import errors
from retrainer.model_types import get_model_type
from retrainer.posts.sample import sample_posts, write_sample_csv
from tests.notify.receiver import Receiver
from tests.programs import installed

if TYPE_CHECKING:
    import pytest

    from tests.command_line import Runner
    from tests.conftest import Plugins

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_plugin_of_the_readme_trains_and_conforms(
    folder: Path, plugins: Plugins, retrainer: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = README.split("# retrainer_last_gap.py\n")[1].split("    # pyproject.toml")[0]
    plugins.add("last_gap", textwrap.dedent(block))
    write_sample_csv(folder / "posts.csv", sample_posts())
    assert retrainer("posts", "import", "posts.csv").code == 0
    assert retrainer("train", "timing", "--algorithm", "last_gap", env=plugins.environ).code == 0
    monkeypatch.syspath_prepend(str(plugins.site))
    from retrainer.algorithms.testing import check_algorithm

    check_algorithm("last_gap")


def test_the_exit_codes_of_the_readme_are_those_of_the_errors() -> None:
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    raised = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.RetrainerError)
    }
    assert raised <= table


def test_every_figure_that_evaluate_explains_is_explained_in_the_readme() -> None:
    explained = [metric.label for metric in get_model_type("content").metrics if metric.description]
    first_cells = re.findall(r"^\| ([^|]+) \|", README, re.MULTILINE)
    named = {label for cell in first_cells for label in cell.split(", ")}
    assert set(explained) <= named


def test_every_file_of_the_house_exists() -> None:
    root = Path(__file__).parent.parent
    for name in re.findall(r"^    (\S+(?:/|\.py))\s{2,}", README, re.MULTILINE):
        assert (root / name).exists(), name


# What the page leaves running ends: the runs by themselves, the server by a signal.
AFTERWARDS = """
retrainer schedule remove
until curl --silent -H "Authorization: Bearer $RETRAINER_API_TOKEN" \\
    "http://127.0.0.1:{port}/models/training-history?status=running" | grep -q '"total":0'; do sleep 0.2; done
kill %1
wait %1
curl --silent http://127.0.0.1:{port}/health/live && exit 1
retrainer history --json | python3 -c "import json, sys; print(json.dumps(json.load(sys.stdin)))"
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_every_command_of_the_operating_page_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cron_folder: Path
) -> None:
    """Run as it stands, from a virtual environment to the CI job; packages that are installed here are not fetched."""
    page = README.split("## Operating it")[1].split("\n## ")[0]
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", page, re.MULTILINE)
    script = textwrap.dedent("\n".join(textwrap.dedent(block) for block in blocks))
    assert script.count("retrainer ") > 8
    installed("curl")
    root = Path(__file__).parent.parent
    (tmp_path / "retrainer").symlink_to(root)
    write_sample_csv(tmp_path / "posts.csv", sample_posts())
    environ = {
        **os.environ,
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip takes the word of a --no-… option for what it switches off
        "PATH": f"{cron_folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "RETRAINER_TIMING_MODEL__ALGORITHM": "baseline",
        "RETRAINER_CONTENT_MODEL__ALGORITHM": "baseline",
    }
    port = free_port()
    with Receiver() as receiver:
        ours = script.replace("https://hooks.example", receiver.url).replace("https://ping.example", receiver.url)
        ours = ours.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("serve --p", f"serve --port {port} --p")
        done = subprocess.run(
            ["bash", "-e", "-c", "trap 'kill $(jobs -p) || true' EXIT\n" + ours + AFTERWARDS.format(port=port)],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        paths = [one.path for one in receiver.received]
    assert paths.count("/your-webhook") == 3, "a test, and the promotions of both types"
    assert paths[-1] == "/your-healthcheck"
    assert (tmp_path / "project" / "env").stat().st_mode & 0o077 == 0
    assert "Installed. Next call: " in done.stdout
    assert "Removed from your crontab" in done.stdout
    assert '{"status":"ready"}' in done.stdout
    assert "retrainer_database_up 1.0" in done.stdout
    assert '"status":"started"' in done.stdout
    history = json.loads(done.stdout.splitlines()[-1])["training_runs"]
    assert [run["status"] for run in history] == ["completed"] * 4, "two by --if-due, two over HTTP"
    unit = (tmp_path / "project" / "retrainer-api.service").read_text()
    assert f"EnvironmentFile={tmp_path}/project/env\n" in unit
    assert "your-key" not in done.stdout + done.stderr + unit
    assert (tmp_path / "project" / ".github" / "workflows" / "retrain.yml").exists()
