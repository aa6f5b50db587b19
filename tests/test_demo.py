"""`make demo` installs the product alone, and demo.sh shows what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def dry_run(folder: Path, target: str) -> str:
    """Return the commands of a make target in a checkout without a virtual environment."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    done = subprocess.run(["make", "--dry-run", target], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_demo_installs_no_tools_and_the_tests_add_theirs(tmp_path: Path) -> None:
    assert re.findall(r"pip install .*(--editable .*)", dry_run(tmp_path, "demo")) == ["--editable ."]
    installed = re.findall(r"pip install .*(--editable .*)", dry_run(tmp_path, "test"))
    assert installed == ["--editable .", "--editable . --group dev"]


@pytest.mark.slow
def test_the_demo_shows_what_it_says_and_leaves_its_folder(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "ANTHROPIC_API_KEY"}
    environ |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TMPDIR": str(tmp_path),
        "COLUMNS": "100",
        "RETRAINER_CONFIG": "of another project",
    }
    done = subprocess.run(
        ["sh", str(ROOT / "demo.sh")], env=environ, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    steps = re.split(r"^\d\. ", done.stdout, flags=re.MULTILINE)
    _, _, first, better, worse, undone, forecast, policies, report = steps

    assert "Promoted: First timing model" in first
    assert re.search(r"better with probability 0\.9[5-9]", better)
    low, high = re.search(r"\nPromoted: New model is .* better \(95% interval ([\d.]+) to ([\d.]+)", better).groups()  # type: ignore[union-attr]
    assert 0 < float(low) < float(high)
    assert "\nNot promoted: New model is" in worse
    assert " worse (95% interval" in worse
    assert re.search(r"Model baseline_\w+ promoted to production", undone)
    assert re.search(r"Rolled back from baseline_\w+ to prophet_\w+", undone)
    assert "Next post: 2024-10-31 " in forecast
    assert "Chance of the next post per" in forecast
    assert "█" in forecast
    for policy in ("configured", "never", "always"):
        assert re.search(rf"^{policy} ", policies, re.MULTILINE)

    (folder,) = tmp_path.glob("retrainer-demo.*")
    assert f"The project is in {folder}. Three things to try:" in report
    assert "\nWrote report.html\n" in report
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    show = [sys.executable, "-m", "retrainer", "show", "timing@production", "--json"]
    version = json.loads(subprocess.run(show, cwd=folder, capture_output=True, text=True, check=True).stdout)
    assert version["version_id"].startswith("prophet_timing_")
