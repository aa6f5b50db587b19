"""Write the package of a new algorithm, with tests."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

from retrainer.entry_points import installed_algorithms
from retrainer.errors import RetrainerError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

NAME = re.compile(r"[a-z][a-z0-9_]*")


def write_plugin(name: str, folder: Path) -> list[Path]:
    """Write the package of a timing algorithm that works, to be changed by its author.

    Args:
        name: the algorithm's name.
        folder: the folder of the package, which is created.

    Returns:
        The files written.

    Raises:
        UsageError: the name is invalid or taken, or the folder exists.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"invalid name '{name}'", hint="Use lower-case letters, digits and underscores, such as last_gap"
        )
    if name in installed_algorithms():
        raise UsageError(f"the algorithm '{name}' is installed already", hint="Choose another name")
    files = {
        "pyproject.toml": "pyproject.toml",
        f"retrainer_{name}.py": "algorithm.py",
        f"tests/test_{name}.py": "test_algorithm.py",
    }
    template = resources.files("retrainer.algorithms") / "template"
    try:
        folder.mkdir(parents=True)
        (folder / "tests").mkdir()
    except FileExistsError:
        raise UsageError(f"'{folder}' exists already", hint="Choose another folder") from None
    except OSError as error:
        raise RetrainerError(f"cannot create '{folder}': {error.strerror}", hint="Choose a writable path") from error
    for path, source in files.items():
        text = (template / f"{source}.txt").read_text(encoding="utf-8")
        (folder / path).write_text(text.format(name=name, dashed=name.replace("_", "-")), encoding="utf-8")
    return [folder / path for path in files]
