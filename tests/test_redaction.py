"""Secrets reach neither messages nor programs that do not need them."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from retrainer import redaction
from retrainer.errors import RetrainerError
from tests.conftest import import_regular_posts, import_sample
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.command_line import Runner
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins

SECRET = "sk-not-a-key-0123456789"  # noqa: S105  invented
URL = "https://hooks.example/services/not-a-secret-path"
SECRETS = {"ANTHROPIC_API_KEY": SECRET, "PGPASSWORD": SECRET}
NEEDED = {"HTTPS_PROXY": "http://proxy:1", "TOKENIZERS_PARALLELISM": "false", "LD_LIBRARY_PATH": "/x", "TMPDIR": "/tmp"}  # noqa: S108


@pytest.fixture(autouse=True)
def _nothing_stays_hidden() -> Iterator[None]:
    before = set(redaction._secrets)
    yield
    redaction._secrets.clear()
    redaction._secrets.update(before)


def test_no_error_document_holds_a_secret(folder: Path, prepare: Prepare, retrainer: Runner, plugins: Plugins) -> None:
    prepare(folder, import_regular_posts)
    body = "raise ValueError(os.environ['MY_HOOK'])"
    plugins.add("leaking", timing_algorithm("leaking", train=body))
    env = {**plugins.environ, "MY_HOOK": URL, "RETRAINER_NOTIFICATIONS__WEBHOOK__URL_VARIABLE": "MY_HOOK"}
    env["RETRAINER_NOTIFICATIONS__WEBHOOK__EVENTS"] = "[rollback]"
    done = retrainer("train", "timing", "--algorithm", "leaking", "--json", "--summary", "summary.md", env=env)
    assert done.code == 1
    assert "its hook train failed: ValueError: ***" in done.json["errors"][0]["message"]
    shown = retrainer("history", "--json", env=env)
    for text in (done.out, done.err, shown.out, (folder / "summary.md").read_text()):
        assert "not-a-secret-path" not in text
    failed = retrainer("show", URL, "--json", env=env)
    assert failed.json["error"]["message"] == "unknown version '***'"


def test_secrets_in_the_environment_are_redacted_by_the_names_of_their_variables() -> None:
    redaction.hide_environment({**SECRETS, "KEY_FILE": "/home/user/key.txt", "API_KEY": "short"})
    error = RetrainerError(f"{SECRET} /home/user/key.txt short", hint=SECRET)
    assert str(error) == "*** /home/user/key.txt short. ***"


def test_stan_gets_no_secrets(
    folder: Path, prepare: Prepare, retrainer: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(folder, import_sample)
    started: list[dict[str, str]] = []
    popen = subprocess.Popen

    def record(*arguments: Any, **options: Any) -> subprocess.Popen[Any]:
        started.append(dict(options.get("env") or os.environ))
        return popen(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", record)
    trend = {"RETRAINER_TIMING_MODEL__PROPHET__TREND": "true"}  # without it there is no need of Stan
    done = retrainer("train", "timing", "--algorithm", "prophet", env={**NEEDED, **trend, "ANTHROPIC_API_KEY": SECRET})
    assert done.code == 0, done.err
    assert started
    assert not any(SECRET in environ.values() for environ in started)
    assert all(NEEDED.items() <= environ.items() for environ in started)


@pytest.mark.slow
def test_the_workers_of_a_replay_get_no_secrets(
    folder: Path, prepare: Prepare, retrainer: Runner, plugins: Plugins, tmp_path: Path
) -> None:
    prepare(folder, import_sample)
    note = f"Path('{tmp_path}', str(os.getpid())).write_bytes"
    body = f"{note}(Path('/proc/self/environ').read_bytes() + repr(dict(os.environ)).encode())"
    plugins.add("noting", timing_algorithm("noting", train=body))
    options = ("--from", "2024-03-01", "--to", "2024-05-01", "--jobs", "2", "--policy", "weekly: schedule_days=7")
    env = {**plugins.environ, **NEEDED, **SECRETS, "RETRAINER_TIMING_MODEL__ALGORITHM": "noting"}
    done = retrainer("replay", "timing", *options, env=env)
    assert done.code == 0, done.err
    notes = {int(path.name): path.read_bytes() for path in tmp_path.iterdir() if path.name.isdigit()}
    workers = [note for pid, note in notes.items() if pid != os.getpid()]
    assert workers
    assert not any(SECRET.encode() in note for note in workers)
    assert all(b"http://proxy:1" in note for note in workers)
