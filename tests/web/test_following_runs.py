"""A run that goes on, in a real browser and while the server stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.api.conftest import NO_TLS, PATIENCE, serve, serve_process, turnstile, waiting
from tests.web.browser import tab

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

    from tests.api.conftest import Serve, ServeProcess, Server, Turnstile

__all__ = ["serve", "serve_process", "turnstile", "waiting"]

pytestmark = pytest.mark.slow


def start_run(server: Server, turnstile: Turnstile) -> str:
    """Start a run, and return its id once it is training."""
    run_ids = server.post("/models/retrain", json={"model_type": "timing"}).json()["run_ids"]
    turnstile.await_arrival()
    return str(run_ids["timing"])


def test_a_browser_sees_a_run_go_on_and_end(
    trained: str, serve: Serve, waiting: dict[str, str], turnstile: Turnstile, browser: Browser
) -> None:
    server = serve(env={**waiting, "WAIT_TO_TRAIN": str(turnstile.path)})
    run_id = start_run(server, turnstile)
    with tab(browser, server.url) as visit:
        visit.open(f"/run/{run_id}")
        page = visit.page
        page.wait_for_selector("tr.step.running[data-step='3']")
        page.wait_for_function("document.querySelector('[data-log]').textContent.includes('Training new timing model')")
        assert visit.inspect() == []
        turnstile.let_through()
        page.wait_for_selector("h2#decision", timeout=PATIENCE * 1000)
        assert page.locator("tr.step.running").count() == 0
        assert "TIMING MODEL RETRAINING COMPLETE" in page.locator("[data-log]").inner_text()
        assert visit.problems == []


def test_a_follower_does_not_hold_up_the_end_of_the_server(
    trained: str, serve_process: ServeProcess, waiting: dict[str, str], turnstile: Turnstile, folder: Path
) -> None:
    server = serve_process(env={**waiting, "WAIT_TO_TRAIN": str(turnstile.path)})
    run_id = start_run(server, turnstile)
    with httpx2.stream("GET", f"{server.url}/run/{run_id}/events", timeout=PATIENCE, verify=NO_TLS) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("retry:")
        assert server.stop() == 0
        assert not any(line == "event: end" for line in lines), "the run goes on"
    turnstile.let_through()
