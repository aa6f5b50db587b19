"""What the documentation says about settings, metrics, exit codes, files and targets is true."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
import yaml
from pydantic import BaseModel

from retrainer import errors
from retrainer.algorithms.manager import load_algorithm
from retrainer.config import Settings
from retrainer.model_types import MODEL_TYPE_NAMES, get_model_type
from retrainer.posts.sample import sample_posts, write_sample_csv
from retrainer.settings_file import load_settings
from tests.docs.pages import PAGES, ROOT, blocks, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins

BANNED = re.compile(
    r"\b(told|foretold|foretell|mend(ed)?|anew|whoever|thereof|the specification)\b|\bof (theirs|yours)\b",
    re.IGNORECASE,
)
OTHERS = ("docs/plugins.md",)  # has tests of its own


def rows(page: str, heading: str | None = None) -> dict[str, str]:
    """Return the first two cells of each table row of a page, or of the section below a heading."""
    text = read(page)
    if heading is not None:
        text = re.split(rf"^#+ {re.escape(heading)}\n", text, flags=re.MULTILINE)[1].split("\n#")[0]
    return dict(re.findall(r"^\| (.+?) \| (.*?) \|", text, re.MULTILINE))


def test_every_exit_code_is_documented() -> None:
    documented = {int(code) for code in rows("docs/operating.md", "Exit codes") if code.isdigit()}
    raised = {
        error.exit_code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.RetrainerError)
    }
    assert raised | {0, 10, 11, 130} == documented


def test_every_metric_is_documented() -> None:
    documented = {name for cell in rows("docs/metrics.md") for name in re.sub(r" \(.*\)", "", cell).split(", ")}
    measured = {metric.label for name in MODEL_TYPE_NAMES for metric in get_model_type(name).metrics}
    assert measured - documented == set()


def settings_of(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each key of a settings class, with its default as JSON."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings_of(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, json.dumps(field.get_default(call_default_factory=True), default=lambda _: ...)


def test_every_setting_is_documented_with_its_default() -> None:
    documented = {
        key.strip("`"): default.strip("`")
        for key, default in rows("docs/configuration.md").items()
        if key.strip("`").split(".")[0] in Settings.model_fields
    }
    assert documented == dict(settings_of(Settings))


@pytest.mark.parametrize("algorithm", ["prophet", "ensemble", "neural_tpp", "finetuned_lm", "claude_api", "baseline"])
def test_every_option_of_an_algorithm_is_documented_with_its_default(algorithm: str) -> None:
    documented = {
        re.sub(r"[` *]", "", key): default.strip("`")
        for key, default in rows("docs/configuration.md", algorithm).items()
        if key.startswith("`")
    }
    options = load_algorithm(algorithm).description.config
    assert options
    expected = {
        name: "{…}" if name == "prices" else json.dumps(field.default) for name, field in options.model_fields.items()
    }
    assert documented == expected


def test_the_options_marked_as_of_today_are_those(folder: Path) -> None:
    marked = {key.strip("`* ") for key in rows("docs/configuration.md", "claude_api") if key.endswith("*")}
    assert marked == set(load_algorithm("claude_api").description.operational)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in OTHERS])
def test_every_settings_block_is_valid(page: str, tmp_path: Path) -> None:
    for block in blocks(page, "yaml"):
        path = tmp_path / "config.yaml"
        path.write_text(block.text)
        load_settings(path, {})


def test_inline_settings_are_valid(tmp_path: Path) -> None:
    for page in PAGES:
        for text in re.findall(r"`(\w+: \{.*?\})`", re.sub(r"\n", " ", read(page))):
            path = tmp_path / "config.yaml"
            path.write_text(text)
            assert yaml.safe_load(text)
            load_settings(path, {})


def test_every_setting_named_in_the_text_exists() -> None:
    known = {key for key, _ in settings_of(Settings)}
    for page in PAGES:
        for key in re.findall(r"`((?:database|posts|retraining|notifications)\.[a-z_.]+)`", read(page)):
            assert key in known or key == "posts.csv", (page, key)


def test_every_path_named_in_the_text_exists() -> None:
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in {"data", "models"})
    for page in PAGES:
        for name in re.findall(rf"`((?:{folders})/[\w./-]*)`", read(page)):
            assert (ROOT / name).exists() or (page, name) == ("docs/operating.md", "deploy/"), (page, name)


def test_every_promise_names_tests_that_exist() -> None:
    text, _, rest = read("docs/guarantees.md").partition("## Not promised")
    promises = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| promise ")]
    assert len(promises) > 40
    assert rest.count("\n- ") > 5
    for promise in promises:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", promise.rpartition(" | ")[2])
        assert tests, promise
        for file, function in tests:
            assert f"\ndef {function}(" in (ROOT / file).read_text(), f"{file}::{function}"


def test_every_link_of_the_readme_leads_to_a_file() -> None:
    for page in ("README.md", "CONTRIBUTING.md", "SECURITY.md"):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", read(page)):
            assert (ROOT / link).exists(), (page, link)


def test_every_make_target_named_in_the_text_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = read(page) + "\n".join(f"`{line}`" for block in blocks(page, "bash") for line in block.text.splitlines())
        assert set(re.findall(r"`make ([\w-]+)", text)) <= targets, page


def test_the_readme_is_short_and_the_language_is_plain() -> None:
    assert len(read("README.md").splitlines()) <= 150
    for page in (*PAGES, "CHANGELOG.md"):
        assert BANNED.findall(read(page)) == [], page


def test_the_plugin_of_the_readme_trains_and_conforms(
    folder: Path, plugins: Plugins, retrainer: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = blocks("README.md", "python")
    plugins.add("last_gap", block.text)
    write_sample_csv(folder / "posts.csv", sample_posts())
    assert retrainer("posts", "import", "posts.csv").code == 0
    assert retrainer("train", "timing", "--algorithm", "last_gap", env=plugins.environ).code == 0
    monkeypatch.syspath_prepend(str(plugins.site))
    from retrainer.algorithms.testing import check_algorithm

    check_algorithm("last_gap")
