"""`claude_api` with two independent servers: the same code, another base URL."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.programs import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.command_line import Runner

BIN = Path(sys.executable).parent


@retry(retry=retry_if_exception_type(OSError), stop=stop_after_delay(600), wait=wait_fixed(0.1), reraise=True)
def wait_until_it_answers(port: int) -> None:
    try:
        urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
    except URLError as error:
        if not hasattr(error, "code"):  # an error of HTTP is an answer
            raise


@contextmanager
def running(command: list[str], port: int, **environ: str) -> Iterator[str]:
    """Run a server on loopback and yield its base URL."""
    process = subprocess.Popen(
        command, env={**os.environ, **environ}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until_it_answers(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def trained_and_evaluated(retrainer: Runner, url: str, **environ: str) -> None:
    """Train, which evaluates, and evaluate once more."""
    env = {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "sk-ant-any-key-will-do-here",
        "RETRAINER_CONTENT_MODEL__ALGORITHM": "claude_api",
        **environ,
    }
    done = retrainer("train", "content", "--json", env=env)
    assert done.code == 0, done.err
    (run,) = done.json["training_runs"]
    assert run["evaluation"]["num_predictions"] == 20
    assert run["evaluation"]["metrics"]["overall_score"] > 0
    again = retrainer("evaluate", run["model_version_id"], "--json", env=env)
    assert again.code == 0, again.err
    assert again.json["num_predictions"] == 20


@pytest.mark.slow
@pytest.mark.usefixtures("posts")
def test_it_works_with_llmock(retrainer: Runner) -> None:
    port = free_port()
    command = [str(BIN / "llmock"), "serve", "--host", "127.0.0.1", "--port", str(port), "--response-style", "varied"]
    with running(command, port) as url:
        trained_and_evaluated(retrainer, f"{url}/anthropic")


@pytest.mark.slow
@pytest.mark.usefixtures("posts")
def test_it_works_with_llmock_if_every_fifth_request_fails(retrainer: Runner) -> None:
    port = free_port()
    command = [str(BIN / "llmock"), "serve", "--host", "127.0.0.1", "--port", str(port), "--error-rate", "503=0.2"]
    with running(command, port) as url:
        trained_and_evaluated(retrainer, f"{url}/anthropic", RETRAINER_CONTENT_MODEL__CLAUDE_API__MAX_RETRIES="8")


@pytest.mark.slow
@pytest.mark.usefixtures("posts")
def test_it_works_with_localstack_claude(retrainer: Runner) -> None:
    """It knows older models only, and this one has no price."""
    port = free_port()
    with running([str(BIN / "claude-local")], port, CLAUDE_HOST="127.0.0.1", CLAUDE_PORT=str(port)) as url:
        trained_and_evaluated(retrainer, url, RETRAINER_CONTENT_MODEL__CLAUDE_API__MODEL="claude-haiku-4-5")
