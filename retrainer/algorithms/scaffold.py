"""Write the package of a new algorithm, with tests."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from retrainer.entry_points import ALGORITHM_NAME, installed_algorithms
from retrainer.errors import UsageError
from retrainer.files import remove, report_write_errors, write_files

if TYPE_CHECKING:
    from pathlib import Path


def write_plugin(name: str, folder: Path) -> list[Path]:
    """Write the package of a timing algorithm that works, to be changed by its author.

    Args:
        name: the algorithm's name.
        folder: the folder of the package, which is created.

    Returns:
        The files written.

    Raises:
        UsageError: the name is invalid or taken, or the folder exists.
        RetrainerError: the folder cannot be written.
    """
    if not ALGORITHM_NAME.fullmatch(name):
        raise UsageError(
            f"invalid name '{name}'",
            hint="Use lower-case letters, digits and, between them, underscores, such as last_gap",
        )
    if name in installed_algorithms():
        raise UsageError(f"the algorithm '{name}' is already installed", hint="Choose another name")
    sources = {
        "pyproject.toml": "pyproject.toml",
        f"retrainer_{name}.py": "algorithm.py",
        f"tests/test_{name}.py": "test_algorithm.py",
    }
    template = resources.files("retrainer.algorithms") / "template"
    files = {}
    for path, source in sources.items():
        text = (template / f"{source}.txt").read_text(encoding="utf-8")
        files[path] = text.format(name=name, dashed=name.replace("_", "-")).encode()
    with report_write_errors(folder):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise UsageError(f"'{folder}' already exists", hint="Choose another folder") from None
        try:
            write_files(files, folder)
        except OSError:
            remove(folder)  # what there is of it is ours, and the next call would refuse the folder
            raise
    return [folder / path for path in files]
