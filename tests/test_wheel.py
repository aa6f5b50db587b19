"""The wheel is complete: `init` and the migrations work from it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_a_wheel_works_outside_of_the_checkout(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    script = (
        f"import sys; sys.path.insert(0, {str(site)!r}); import retrainer; from retrainer.cli.program import run;"
        f"assert retrainer.__file__.startswith({str(site)!r}), retrainer.__file__;"
        "import os; assert run(['init', 'made', '--deploy']) == 0; os.chdir('made');"
        "assert run(['plugins', 'new', 'mine', '--json']) == 0;"
        "sys.exit(run(['versions', '--json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith('{\n  "versions": [],\n  "count": 0\n}\n')
    assert (tmp_path / "made" / "config" / "config.yaml").read_bytes() == (ROOT / "config" / "config.yaml").read_bytes()
    assert (tmp_path / "made" / "retrainer-mine" / "retrainer_mine.py").exists()
    assert (site / "retrainer_claude" / "prompt.md").exists()
    assert (site / "retrainer_neural" / "network.py").exists()
    assert (site / "retrainer_lm" / "training.py").exists()
    assert (site / "retrainer_ensemble" / "hedge.py").exists()
    for folder in ("templates", "static"):
        source = ROOT / "retrainer" / "web" / folder
        files = {path.relative_to(source): path.read_bytes() for path in source.rglob("*") if path.is_file()}
        assert files
        packaged = site / "retrainer" / "web" / folder
        assert {path: (packaged / path).read_bytes() for path in files} == files
    shipped = {path.name: path.read_bytes() for path in (ROOT / "deploy").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "made" / "deploy").iterdir()} == shipped
