"""The README says what is true."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer import errors
from retrainer.model_types import kind_of
from retrainer.posts.sample import sample_posts, write_sample_csv

if TYPE_CHECKING:
    import pytest

    from tests.conftest import Plugins, Runner

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_plugin_of_the_readme_trains_and_conforms(
    folder: Path, plugins: Plugins, retrainer: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = README.split("# retrainer_last_gap.py\n")[1].split("    # pyproject.toml")[0]
    plugins.add("last_gap", textwrap.dedent(block))
    write_sample_csv(folder / "posts.csv", sample_posts())
    assert retrainer("posts", "import", "posts.csv").code == 0
    assert retrainer("train", "timing", "--algorithm", "last_gap", env=plugins.environ).code == 0
    monkeypatch.syspath_prepend(str(plugins.site))
    from retrainer.algorithms.testing import check_algorithm

    check_algorithm("last_gap")


def test_the_exit_codes_of_the_readme_are_those_of_the_errors() -> None:
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    raised = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.RetrainerError)
    }
    assert raised <= table


def test_every_figure_that_evaluate_explains_is_explained_in_the_readme() -> None:
    explained = [metric.label for metric in kind_of("content").metrics if metric.meaning]
    first_cells = re.findall(r"^\| ([^|]+) \|", README, re.MULTILINE)
    named = {label for cell in first_cells for label in cell.split(", ")}
    assert set(explained) <= named


def test_every_file_of_the_house_exists() -> None:
    root = Path(__file__).parent.parent
    for name in re.findall(r"^    (\S+(?:/|\.py))\s{2,}", README, re.MULTILINE):
        assert (root / name).exists(), name
