"""Fast to start: what the light commands must not import."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import open_project

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = (
    "prophet",
    "pandas",
    "numpy",
    "anthropic",
    "sqlalchemy",
    "alembic",
    "rich",
    "pyarrow",
    "httpx2",
    "joblib",
    "matplotlib",
    "fastapi",
)


def test_what_plugin_authors_import_is_imported_late() -> None:
    script = (
        "import sys, retrainer.algorithms as ours; from retrainer.algorithms import Algorithm, CostEstimate, hookimpl;"
        "early = 'numpy' in sys.modules; values = [getattr(ours, name) for name in ours.__all__];"
        "print(early, all(values), hasattr(ours, 'no_such_name'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["plugins"], ["train", "--help"], ["replay", "--help"], ["serve", "--help"], ["--version"], []],
)
def test_light_commands_import_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    script = (
        "import sys; from retrainer.__main__ import run; code = run(sys.argv[1:]);"
        f"heavy = sorted({{name.split('.')[0] for name in sys.modules}} & set({HEAVY!r}));"
        "print(heavy, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    assert done.stdout


@pytest.mark.parametrize("command", ["history", "versions"])
def test_reading_a_sqlite_registry_imports_no_more_than_it_needs(command: str, folder: Path) -> None:
    project = open_project(folder)
    assert project.registry.list_runs() == []
    project.close()
    script = (
        "import sys; from retrainer.__main__ import run; code = run([sys.argv[1]]);"
        f"heavy = sorted({{name.split('.')[0] for name in sys.modules}} & set({HEAVY!r}) - {{'sqlalchemy'}});"
        "dialect = [name for name in sys.modules if name.startswith('sqlalchemy.dialects.postgresql')];"
        "print(heavy, dialect, 'psutil' in sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, command], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[] [] False"
