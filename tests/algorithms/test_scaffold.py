"""A new plugin, and the one in the README, install as written, and pass their tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from retrainer.algorithms.scaffold import write_plugin
from retrainer.errors import RetrainerError
from tests.conftest import no_room_for_files

if TYPE_CHECKING:
    from tests.command_line import Runner

ROOT = Path(__file__).parents[2]


def install(package: Path, site: Path) -> dict[str, str]:
    """Build a wheel of a package and install it; return the environment that finds it."""
    offline = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *offline, str(package)], check=True, timeout=600)
    return {"PYTHONPATH": str(site)}


def test_a_full_disk_leaves_no_part_of_a_plugin(tmp_path: Path) -> None:
    with no_room_for_files(), pytest.raises(RetrainerError, match="cannot write to"):
        write_plugin("two_gaps", tmp_path / "new")
    assert write_plugin("two_gaps", tmp_path / "new")


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_a_new_plugin_installs_passes_its_tests_and_trains(
    folder: Path, retrainer: Runner, retrainer_process: Runner
) -> None:
    written = retrainer("plugins", "new", "two_gaps", "--json")
    assert written.code == 0
    package = folder / written.json["folder"]
    assert sorted(map(str, (path.relative_to(package) for path in package.rglob("*") if path.is_file()))) == [
        "pyproject.toml",
        "retrainer_two_gaps.py",
        "tests/test_two_gaps.py",
    ]
    environ = install(package, folder / "site")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    tested = subprocess.run(
        command, cwd=package, env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )
    assert "3 passed" in tested.stdout, tested.stdout
    assert re.search(r"^two_gaps +algorithm .* ok ", retrainer_process("plugins", env=environ).out, re.MULTILINE)
    assert retrainer_process("train", "timing", "--algorithm", "two_gaps", "--dry-run", env=environ).code == 0


@pytest.mark.slow
def test_the_plugin_in_the_readme_installs_as_written(tmp_path: Path, retrainer_process: Runner) -> None:
    text = (ROOT / "README.md").read_text()
    for name, block in re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", text, re.DOTALL):
        (tmp_path / name).write_text(block)
    environ = install(tmp_path, tmp_path / "site")
    command = "from retrainer.algorithms.testing import check_algorithm; check_algorithm('last_gap')"
    subprocess.run([sys.executable, "-c", command], env={**os.environ, **environ}, cwd=tmp_path, check=True)
    listed = retrainer_process("plugins", "--json", cwd=tmp_path, env=environ).json
    assert [(one["distribution"], one["status"]) for one in listed if one["name"] == "last_gap"] == [
        ("retrainer-last-gap", "ok")
    ]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Last-Gap", "invalid name 'Last-Gap'. Use lower-case letters, digits and, between them, underscores, such as"),
        ("last_", "invalid name 'last_'. "),
        ("baseline", "the algorithm 'baseline' is already installed. Choose another name"),
        ("models", "'retrainer-models' already exists. Choose another folder"),
    ],
)
def test_a_new_plugin_replaces_nothing(name: str, problem: str, folder: Path, retrainer: Runner) -> None:
    (folder / "retrainer-models").mkdir()
    before = sorted(folder.rglob("*"))
    done = retrainer("plugins", "new", name)
    assert done.code == 2
    assert problem in done.err
    assert sorted(folder.rglob("*")) == before
