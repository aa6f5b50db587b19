"""Text from outside that tries to control the terminal, or to forge lines: shown as text, wherever it comes from."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import NOW, configure, open_project, regular_posts
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Completed, Runner
    from tests.plugins_for_tests import Plugins

ATTACKS = {
    "title": "\x1b]0;owned\x07",
    "clear": "\x1b[2J\x1b[H",
    "clipboard": "\x1b]52;c;b3duZWQ=\x1b\\",
    "8-bit CSI": "\x9b31m",
    "8-bit OSC": "\x9d0;owned\x9c",
    "NEL": "a\x85b",
    "backspace": "safe\b\b\b\bevil",
    "delete": "\x7f",
    "overwrite": "safe\revil",
    "form feed": "a\fb\vc",
    "bidi": "\u202eevil\u202c\u2066a\u2069\u200e\u200f\u061c",
    "line separators": "a\u2028b\u2029c",
    "forged": "x\nError: forged\nWARNING: forged\nINFO forged",
    "markup": "[red]owned[/red] [link=https://evil.example]here[/link]",
    "emoji": ":bomb:",
}
HOSTILE = " ".join(ATTACKS.values())
FILE_NAME = HOSTILE.replace("/", "|")
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
FORGED = re.compile("^(Error|WARNING|INFO)[: ]+forged", re.MULTILINE)


def assert_harmless(done: Completed | str) -> None:
    """Check that nothing printed controls the terminal or forges a line, and that the hostile text was printed."""
    text = done if isinstance(done, str) else done.out + done.err
    assert not CONTROL.search(text), ascii(text)
    assert not FORGED.search(text) or "Next post, written for" in text, ascii(text)  # a post may have lines
    assert "Traceback" not in text
    assert "owned" in text, "the command printed none of it"


def strings(document: Any) -> list[str]:
    """Return every string in a JSON document."""
    if isinstance(document, dict):
        return [text for value in document.items() for text in strings(list(value))]
    if isinstance(document, list):
        return [text for value in document for text in strings(value)]
    return [document] if isinstance(document, str) else []


@pytest.fixture
def version(trained: str, folder: Path) -> str:
    """A project in production whose latest posts and whose reasons have the hostile text; the timing version."""
    project = open_project(folder)
    project.posts.add(regular_posts(30).assign(content=HOSTILE), NOW)
    project.registry.hold("timing", HOSTILE, NOW)
    project.registry.pin(trained, HOSTILE, NOW, pinned=True)
    project.close()
    return trained


FEW = [("predict", "content"), ("show", "VERSION")]
MANY = [
    ("show", HOSTILE),
    ("posts", "import", f"{HOSTILE}.csv"),
    ("evaluate", HOSTILE),
    ("compare", HOSTILE, "VERSION"),
    ("history", "--status", HOSTILE),
    ("history", "--since", HOSTILE),
    ("history", HOSTILE),
    (HOSTILE,),
    (f"--{HOSTILE}",),
    ("train", HOSTILE),
    ("train", "timing", "--algorithm", HOSTILE),
    ("train", "timing", "--summary", f"none/{HOSTILE}"),
    ("train", "timing", "--as-of", HOSTILE),
    ("production", "--log-format", HOSTILE),
    ("production", "--log-file", f"no/such/folder/{HOSTILE}"),
    ("--config", HOSTILE, "production"),
    ("rollback", "timing", "--to", HOSTILE),
    ("posts", "list"),
    ("posts", "show", "p00029"),
    ("posts", "show", HOSTILE),
    ("posts", "delete", HOSTILE, "--yes"),
    ("posts", "import", "rows.csv"),
    ("posts", "import", "columns.csv"),
    ("posts", "import", "columns.csv", "--column", HOSTILE),
    ("posts", "sample", f"no/such/{HOSTILE}"),
    ("replay", "timing", "--from", "2024-01-10", "--policy", HOSTILE),
    ("replay", "timing", "--from", "2024-01-10", "--plot", f"x.{FILE_NAME}"),
    ("schedule", "install", HOSTILE),
    ("schedule", "show", "--system", "--user", HOSTILE),
    ("schedule", "show", "--system", "--env-file", HOSTILE),
    ("init", f"file/{FILE_NAME}"),
]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [*FEW, *(pytest.param(words, marks=pytest.mark.slow) for words in MANY)],
    ids=lambda words: " ".join(words).replace(HOSTILE, "HOSTILE").replace(FILE_NAME, "HOSTILE"),
)
def test_hostile_text_is_printed_as_text(
    arguments: tuple[str, ...], as_json: bool, version: str, folder: Path, retrainer: Runner
) -> None:
    (folder / "file").touch()
    cell = '"' + HOSTILE.replace('"', '""') + '"'
    (folder / "rows.csv").write_text(f"id,created_at,content\n1,{cell},x\n2,2024-01-01,x\n", encoding="utf-8")
    (folder / "columns.csv").write_text(f"{cell},when\n1,2024-01-01\n", encoding="utf-8")
    words = [version if word == "VERSION" else word for word in arguments]
    done = retrainer(*words, *(["--json"] if as_json else []))
    assert_harmless(done)
    if as_json and done.out:
        assert any("owned" in text for text in strings(done.json))


@pytest.mark.parametrize("name", ["bidi", *(pytest.param(name, marks=pytest.mark.slow) for name in ATTACKS)])
@pytest.mark.usefixtures("trained")
def test_json_recovers_the_text(name: str, folder: Path, retrainer: Runner) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(30).assign(content=ATTACKS[name]), NOW)
    project.close()
    done = retrainer("predict", "content", "--json")
    assert not CONTROL.search(done.out + done.err)
    assert done.json["text"] == ATTACKS[name]


def test_the_reason_of_a_hold_is_one_line(version: str, retrainer: Runner) -> None:
    done = retrainer("production")
    assert_harmless(done)
    assert len([line for line in done.out.splitlines() if "on hold" in line or "forged" in line]) == 1
    assert "\\x1b]0;owned\\x07" in done.out
    assert "\\u202eevil" in done.out
    assert "x\\nError: forged" in done.out


@pytest.mark.parametrize("log_format", ["text", pytest.param("json", marks=pytest.mark.slow)])
def test_the_message_of_a_plugin_controls_neither_terminal_nor_files(
    log_format: str, folder: Path, retrainer: Runner, plugins: Plugins
) -> None:
    project = open_project(folder)
    project.posts.add(regular_posts(120), NOW)
    project.close()
    plugins.add("rude", timing_algorithm("rude", train=f"raise ValueError({HOSTILE + chr(0xDC9B)!r})"))
    train = ("train", "timing", "--algorithm", "rude", "--summary", "s.md", "--log-file", "runs.log")
    done = retrainer(*train, "--log-format", log_format, "--traceback", env=plugins.environ)
    assert done.code == 1
    text = (folder / "runs.log").read_text(encoding="utf-8")
    for shown in (done.err, text, (folder / "s.md").read_text(encoding="utf-8")):
        assert not CONTROL.search(shown), ascii(shown)
        assert "owned" in shown
    if log_format == "json":
        assert any(ATTACKS["title"] in json.loads(line)["message"] for line in text.splitlines())
    else:
        assert not [line for line in text.splitlines() if line.startswith("Error: forged") and "Z ERROR" in line]
    assert_harmless(retrainer("history"))
    assert retrainer("history", "--json").json["training_runs"][0]["status"] == "failed"
    plugins.add("broken", f"raise ImportError({HOSTILE!r})")
    assert_harmless(retrainer("plugins", env=plugins.environ))


def test_hostile_settings(folder: Path, retrainer: Runner) -> None:
    configure(folder, test_split=json.dumps(HOSTILE))
    assert_harmless(retrainer("history"))
    configure(folder, test_split="0.2", min_training_samples=f"50\n  {json.dumps(HOSTILE)}: 1")
    assert_harmless(retrainer("history"))
    assert_harmless(retrainer("history", env={f"RETRAINER_{HOSTILE.replace('=', '')}": "1"}))
    assert_harmless(retrainer("history", RETRAINER_CONFIG=HOSTILE))


@pytest.mark.slow
@pytest.mark.usefixtures("version")
def test_the_spinner_shows_hostile_text_as_text(folder: Path, plugins: Plugins) -> None:
    """On a terminal, where the program itself moves the cursor and sets colours."""
    plugins.add("rude", timing_algorithm("rude", train=f"raise ValueError({HOSTILE!r})"))
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "retrainer", "train", "timing", "--algorithm", "rude"]
    environ = {**os.environ, **plugins.environ, "TERM": "xterm"}
    with subprocess.Popen(command, cwd=folder, stdout=slave, stderr=slave, env=environ) as process:
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # when the process has ended
            while chunk := os.read(master, 65_536):
                shown += chunk
    os.close(master)
    assert process.returncode == 1
    text = shown.decode()
    assert "Working..." in text
    assert "\\x1b]0;owned\\x07" in text
    assert "[red]owned" in text
    assert ":bomb:" in text
    for attack in ("\x1b]", "\x1b[2J", "\x9b", "\x9d", "\u202e", "\u2028", "\x07", "\b", "\x7f"):
        assert attack not in text


@pytest.mark.slow
def test_the_warning_of_a_library_is_logged(folder: Path, plugins: Plugins) -> None:
    text = ATTACKS["clear"] + ATTACKS["8-bit CSI"] + ATTACKS["bidi"] + "owned"
    plugins.add("loud", timing_algorithm("loud", setup=f"import warnings; warnings.warn({text!r})"))
    command = [sys.executable, "-m", "retrainer", "plugins", "--json"]
    environ = {**os.environ, **plugins.environ}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=True)
    assert done.stderr.startswith("WARNING: UserWarning: ")
    assert "owned" in done.stderr
    assert not CONTROL.search(done.stderr)
    assert len(done.stderr.splitlines()) == 1
    assert "loud" in [plugin["name"] for plugin in json.loads(done.stdout)]
