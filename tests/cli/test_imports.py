"""Start-up time: what light commands must not import."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.main import get_group

from retrainer.cli.app import COMMANDS, app
from tests.conftest import open_project

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = (
    *("prophet", "anthropic", "alembic", "rich", "httpx2", "joblib", "matplotlib", "fastapi"),
    *("optuna", "pandas", "numpy", "sqlalchemy", "pyarrow", "torch", "safetensors", "fsspec", "s3fs"),
)


def test_the_plugin_api_is_imported_lazily() -> None:
    script = (
        "import sys, retrainer.algorithms as ours; from retrainer.algorithms import Algorithm, CostEstimate, hookimpl;"
        "early = 'numpy' in sys.modules; values = [getattr(ours, name) for name in ours.__all__];"
        "print(early, all(value is not None for value in values), hasattr(ours, 'no_such_name'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]


def assert_imports_none_of(names: tuple[str, ...], arguments: list[str], folder: Path) -> None:
    script = (
        "import sys; from retrainer.cli.program import run; code = run(sys.argv[1:]);"
        f"heavy = sorted({{name.split('.')[0] for name in sys.modules}} & set({names!r}));"
        "print(heavy, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    assert done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_the_main_help_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    assert_imports_none_of((*HEAVY, "pydantic"), arguments, tmp_path)


def test_listing_plugins_imports_nothing_heavy(tmp_path: Path) -> None:
    assert_imports_none_of(HEAVY, ["plugins", "--json"], tmp_path)


@pytest.mark.parametrize("command", ["train", "tune", "replay", "serve", "history", "posts", "doctor", "config"])
def test_the_help_of_a_command_imports_nothing_heavy(command: str, tmp_path: Path) -> None:
    assert_imports_none_of(HEAVY, [command, "--help"], tmp_path)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_main_help_shows_the_first_line_of_each_command(name: str) -> None:
    group = get_group(app)
    context = group.make_context("retrainer", [], resilient_parsing=True)
    _, command, _ = group.resolve_command(context, [name])
    assert command is not None
    assert command.help is not None
    assert command.help.splitlines()[0] == COMMANDS[name].help


@pytest.mark.parametrize("command", ["history", "versions"])
def test_reading_a_sqlite_registry_imports_no_more_than_it_needs(command: str, folder: Path) -> None:
    project = open_project(folder)
    assert project.registry.list_runs() == []
    project.close()
    script = (
        "import sys; from retrainer.cli.program import run; code = run([sys.argv[1]]);"
        f"heavy = sorted({{name.split('.')[0] for name in sys.modules}} & set({HEAVY!r}) - {{'sqlalchemy'}});"
        "dialect = [name for name in sys.modules if name.startswith('sqlalchemy.dialects.postgresql')];"
        "print(heavy, dialect, 'psutil' in sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, command], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[] [] False"
