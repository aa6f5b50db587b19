"""The commands of the documentation work: each page's are run in order, in a folder of their own."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from retrainer.cli.app import app
from retrainer.cli.program import GLOBAL_FLAGS, GLOBAL_OPTIONS
from retrainer.posts.sample import sample_posts, write_sample_csv
from retrainer.project import Project, create_project
from retrainer.streams import DEFAULT_STREAM
from tests.claude_server import ClaudeServer
from tests.command_line import run_in_process
from tests.docs.pages import PAGES, ROOT, SHELL, blocks, read
from tests.notify.receiver import Receiver
from tests.programs import free_port, installed, process_named

NOT_RUN = {
    ("README.md", "git clone <this repository> retrainer && cd retrainer"): "downloads, and runs these tests",
    ("CONTRIBUTING.md", "make demo        # see it work"): "downloads, and runs these tests",
    ("docs/cluster.md", 'retrainer config set database.url "$DATABASE_URL"'): "the test's workers are on this machine",
    (
        "docs/language-model.md",
        "pip install torch --index-url URL  # the index of CPU builds, from PyTorch's installation page",
    ): "downloads a base model",
    ("docs/operating.md", "docker build -f deploy/Dockerfile -t retrainer ."): "needs Docker and its images",
    ("docs/operating.md", "sudo cp retrainer-api.service /etc/systemd/system/"): "changes the machine",
}
BASELINE = {"RETRAINER_TIMING_MODEL__ALGORITHM": "baseline", "RETRAINER_CONTENT_MODEL__ALGORITHM": "baseline"}
MONTHLY = {**BASELINE, "RETRAINER_RETRAINING__SCHEDULE_DAYS": "28"}  # a replay has a quarter of the steps
SETTINGS = {
    "docs/tutorial.md": {},
    "docs/promotion.md": MONTHLY,
    "docs/replay.md": MONTHLY,
    "docs/explain.md": {"RETRAINER_TIMING_MODEL__ALGORITHM": "baseline"},
    "docs/content.md": {"RETRAINER_TIMING_MODEL__ALGORITHM": "baseline"},
    "docs/live.md": {},
}
THREE_STREAMS = ["news", "news_2", "garden"]
# The streams with posts of the project that a page is about, where it does not begin with `retrainer init`.
STREAMS = {
    "docs/importing.md": [],
    "docs/explain.md": [DEFAULT_STREAM],
    "docs/content.md": [DEFAULT_STREAM],
    "docs/live.md": [],
    "docs/metrics.md": [DEFAULT_STREAM],
    "docs/ab-tests.md": [DEFAULT_STREAM],
    "docs/promotion.md": [DEFAULT_STREAM],
    "docs/pages.md": [DEFAULT_STREAM],
    "docs/python-api.md": [DEFAULT_STREAM],
    "docs/replay.md": [DEFAULT_STREAM],
    "docs/rest-api.md": [DEFAULT_STREAM],
    "docs/store.md": [DEFAULT_STREAM],
    "docs/tuning.md": [DEFAULT_STREAM],
    "docs/cluster.md": THREE_STREAMS,
    "docs/streams.md": THREE_STREAMS,
}
# What is trained before.
TRAINED = {
    "docs/explain.md": ["timing"],
    "docs/content.md": ["timing"],
    "docs/metrics.md": ["content"],
    "docs/pages.md": ["timing", "content"],
}

PREAMBLE = """
set -e
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
version() {  # the newest but so many, of timing if there is one
    retrainer --quiet versions --json | python3 -c "if True:
        import json, sys
        versions = json.load(sys.stdin)['versions']
        of_timing = [version for version in versions if version['model_type'] == 'timing']
        print((of_timing or versions)[$1]['version_id'])"
}
wait_for_runs() {
    until python3 -c "if True:
        import sqlite3, sys
        runs = sqlite3.connect('data/retrainer.db')
        running = 'SELECT 1 FROM retrainer_training_runs WHERE status = ?'
        sys.exit(any(runs.execute(running, ['running'])))"; do sleep 0.2; done
}
"""
STOP_SERVER = """
if [ -n "$(jobs -p)" ]; then
    kill %1
    wait %1
    kill $(jobs -p) 2>/dev/null || true
    wait  # for a second server, which is about to start
    if curl --silent http://127.0.0.1:{port}/health/live; then exit 1; fi
fi
"""
STEP = "@@ step"
PROGRAM: Any = typer.main.get_command(app)


@dataclass(frozen=True)
class PageRun:
    """What running a page's commands came to.

    Attributes:
        outputs: of each step, what it printed.
        folder: where they ran.
        notified: the paths of the notifications sent.
    """

    outputs: list[str]
    folder: Path
    notified: list[str]

    @property
    def output(self) -> str:
        return "\n".join(self.outputs)


def steps_of(page: str) -> list[tuple[str, list[str]]]:
    """Return the commands of a page in order, each with the output shown; a named file is written, Python is run."""
    steps: list[tuple[str, list[str]]] = []
    for block in blocks(page, *SHELL, "python"):
        if (page, block.first_line) in NOT_RUN:
            continue
        if block.language in SHELL:
            steps += block.steps()
        elif block.file_name is None:
            steps.append((f"python3 - <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK", []))
    return steps


PAGES_WITH_COMMANDS = [page for page in PAGES if steps_of(page)]


def make_project(page: str, folder: Path, new_database: Path) -> None:
    """Make the project that a page is about."""
    create_project(folder)
    shutil.copy(new_database, folder / "data" / "retrainer.db")
    with closing(Project.find(folder, {})) as project:
        for stream in STREAMS[page]:
            project.posts.for_stream(stream).add(sample_posts(), datetime.now(UTC))
    for model_type in TRAINED.get(page, []):
        assert run_in_process(folder)("train", model_type, env=SETTINGS.get(page, BASELINE)).code == 0


def run_page(page: str, folder: Path, new_database: Path, *, after: str = "") -> PageRun:
    """Run the commands of a page in a folder that holds a checkout `retrainer` and synthetic `posts.csv`."""
    installed("curl")
    (folder / "retrainer").symlink_to(ROOT)
    write_sample_csv(folder / "posts.csv", sample_posts())
    port = free_port()
    script = PREAMBLE
    if page in STREAMS:
        make_project(page, folder / "project", new_database)
        script += "cd project"
    for command, _ in steps_of(page):
        script += f"\necho '{STEP}'\n{_local(command, port)}\n"
        if "/models/retrain" in command:
            script += "wait_for_runs\n"
    script += f"\necho '{STEP}'\n" + textwrap.dedent(after) + STOP_SERVER.format(port=port)
    # The pages are about a machine with cron; without one, `doctor` has something to report.
    with Receiver() as receiver, ClaudeServer() as claude, process_named("crond", folder):
        script = script.replace("https://hooks.example", receiver.url).replace("https://ping.example", receiver.url)
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=folder,
            env={
                **os.environ,
                **SETTINGS.get(page, BASELINE),
                "ANTHROPIC_BASE_URL": claude.url,
                "COLUMNS": "200",
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PIP_NO_DEPS": "1",
                "PIP_NO_INDEX": "1",
                "PIP_NO_BUILD_ISOLATION": "0",  # pip takes the word of a --no-… option for what it switches off
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path.endswith("site-packages")),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )
        notified = [request.path for request in receiver.received]
    outputs = done.stdout.split(STEP + "\n")
    assert done.returncode == 0, f"{page}: {outputs[-1]}"
    return PageRun(outputs[1:], folder, notified)


def _local(command: str, port: int) -> str:
    """Let a command use a free port and versions that exist."""
    command = command.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    command = re.sub(r"(retrainer\b.*) serve\b", rf"\1 serve --port {port}", command)
    command = re.sub(r"\bOLD_VERSION\b", '"$(version 1)"', command)
    return re.sub(r"(?<![\w_])VERSION\b", '"$(version 0)"', command)


def without_figures(line: str) -> str:
    """Reduce a line of output to what does not depend on the time, the machine or the width of a column."""
    line = re.sub(r"\b[a-z_]+_\d{8}_\d{6}_[0-9a-f]{4}\b", "VERSION", line)
    line = re.sub(r"[-−+]?\d[\d.,:]*", "0", line)
    return re.sub(r"─+", "─", " ".join(line.split()))


def assert_shown(page: str, shown: list[tuple[str, list[str]]], outputs: list[str]) -> None:
    """Check that each command printed the lines that the page shows below it, in this order."""
    for (command, lines), output in zip(shown, outputs, strict=False):
        printed = iter([without_figures(line) for line in output.splitlines()])
        for line in lines:
            assert without_figures(line) in printed, f"{page}: {command!r} does not print {line!r}:\n{output}"


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES_WITH_COMMANDS if page != "docs/operating.md"])
@pytest.mark.usefixtures("cron_folder")
def test_every_command_works_and_prints_what_the_page_shows(page: str, tmp_path: Path, new_database: Path) -> None:
    assert_shown(page, steps_of(page), run_page(page, tmp_path, new_database).outputs)


@pytest.mark.slow
@pytest.mark.usefixtures("cron_folder")
def test_the_installation_of_the_operating_page_works(tmp_path: Path, new_database: Path) -> None:
    """From a virtual environment to the CI job; packages that are installed here are not downloaded."""
    history = "retrainer history --json | python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)))'"
    page = run_page("docs/operating.md", tmp_path, new_database, after=history)
    assert page.notified.count("/your-webhook") == 6, (
        "a test, stale posts, the promotions of both types, one by hand, a rollback"
    )
    assert page.notified.count("/your-healthcheck/start") == page.notified.count("/your-healthcheck") - 1
    project = tmp_path / "project"
    assert (project / "env").stat().st_mode & 0o077 == 0
    assert "Next call: " in page.output
    assert "Removed from your crontab" in page.output
    assert '{"status":"ready"}' in page.output
    assert "retrainer_database_up 1.0" in page.output
    assert '"status":"started"' in page.output
    runs = json.loads(page.outputs[-1].splitlines()[0])["training_runs"]
    assert [run["status"] for run in runs] == ["completed"] * 4, "two by --if-due, two over HTTP"
    unit = (project / "retrainer-api.service").read_text()
    assert f"EnvironmentFile={project}/env\n" in unit
    assert "your-key" not in page.output + unit
    assert (project / ".github" / "workflows" / "retrain.yml").exists()


def test_every_block_that_is_not_run_is_there() -> None:
    assert NOT_RUN.keys() <= {(page, block.first_line) for page in PAGES for block in blocks(page, *SHELL)}


def command_lines() -> list[tuple[str, str]]:
    """Return every `retrainer …` in the blocks and the text of the documentation and in deploy/, with its page."""
    found = []
    for page in PAGES:
        text = re.sub(r"\\\n *", " ", read(page)).replace("\\|", "|")
        found += [(page, line) for line in re.findall(r"`(retrainer [^`\n]+)`", text)]
        for block in blocks(page, *SHELL):
            code = re.sub(r"\\\n *", " ", block.text)
            found += [(page, line) for line in re.findall(r"^(?:\$ )?(?:\w+=\S+ )*(retrainer .+)$", code, re.MULTILINE)]
    for path in sorted((ROOT / "deploy").iterdir()):
        lines = re.findall(r"\bretrainer ((?:--\S+ \S+ )*(?:train|serve|schedule|init)\b.*)", path.read_text())
        found += [(path.name, f"retrainer {line}") for line in lines]
    return found


def unknown_words(line: str) -> list[str]:
    """Return the commands and options of a command line that the program does not know."""
    words = shlex.split(re.split(r" (?:#|>|&|\|\|)(?= |$)|[;)`]", line)[0].replace("…", ""), comments=True)[1:]
    command = PROGRAM
    known = {*GLOBAL_FLAGS, *GLOBAL_OPTIONS, *_options(command)}
    unknown = []
    for word in words:
        inner = getattr(command, "commands", {})
        if word.startswith("--"):
            if word.partition("=")[0] not in known:
                unknown.append(word)
        elif word in inner:
            command = command.resolve_command(typer.Context(command), [word])[1]
            known |= _options(command)
    if command is PROGRAM and words and words[-1] not in {"--help", "--version", "--install-completion"}:
        unknown += words[:1]
    return unknown


def _options(command: Any) -> set[str]:
    return {"--help", "--version"} | {
        name for option in command.params for name in (*option.opts, *option.secondary_opts)
    }


def test_every_command_and_option_of_the_documentation_exists() -> None:
    lines = command_lines()
    assert len(lines) > 60
    assert [(page, line, unknown) for page, line in lines if (unknown := unknown_words(line))] == []
