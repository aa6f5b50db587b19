"""`optuna-dashboard` opens the studies."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from retrainer.tuning.storage import storage_url
from tests.clusters import wait_for_port
from tests.programs import free_port
from tests.tuning.conftest import tuned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrainer.project import Project

DASHBOARD = Path(sys.executable).parent / "optuna-dashboard"


@contextmanager
def dashboard(url: str) -> Iterator[str]:
    """Start the dashboard on the loopback interface; yield its URL."""
    address = f"127.0.0.1:{free_port()}"
    host, port = address.split(":")
    process = subprocess.Popen(
        [DASHBOARD, url, "--host", host, "--port", port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for_port(address)
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def read(url: str) -> Any:
    with urllib.request.urlopen(url) as response:  # noqa: S310  loopback
        return json.load(response)


@pytest.mark.slow  # starts a server
def test_the_dashboard_serves_the_study(five_hours: Project) -> None:
    if find_spec("optuna_dashboard") is None:
        pytest.skip("optuna-dashboard is not installed")
    result = tuned(five_hours)
    with dashboard(storage_url(five_hours).render_as_string(hide_password=False)) as base:
        (study,) = read(f"{base}/api/studies")["study_summaries"]
        assert study["study_name"] == result.report.summary.name
        shown = read(f"{base}/api/studies/{study['study_id']}?after=0")["trials"]
    values = {trial["number"]: trial.get("values") for trial in shown}
    assert set(values) == {trial.number for trial in result.report.trials}
    complete = [trial for trial in result.report.trials if trial.value is not None]
    assert complete
    for trial in complete:
        assert values[trial.number] == [pytest.approx(trial.value)]
