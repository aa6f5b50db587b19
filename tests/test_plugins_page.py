"""The code of docs/plugins.md works: it is installed, tested and run as printed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from http.server import HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from retrainer import algorithms
from retrainer.algorithms.hookspecs import AlgorithmHooks, ObserverHooks
from retrainer.posts.sample import sample_posts, write_sample_csv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.command_line import Runner

PAGE = (Path(__file__).parent.parent / "docs" / "plugins.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the page, as files."""
    folder = tmp_path_factory.mktemp("my-plugins")
    for language, text in BLOCKS:
        if language != "yaml":
            path = folder / text.splitlines()[0].removeprefix("# ")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    return folder


@pytest.fixture(scope="module")
def site(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the page, installed."""
    folder = tmp_path_factory.mktemp("site")
    offline = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *offline, str(package)], check=True, timeout=600)
    return folder


@pytest.fixture
def environ(site: Path, folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(site), "DIARY": str(folder / "diary.jsonl")}


@pytest.fixture
def service(package: Path) -> Iterator[str]:
    """The URL of the writer service."""
    spec = importlib.util.spec_from_file_location("tests_of_the_page", package / "tests" / "test_plugins.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with HTTPServer(("127.0.0.1", 0), module.Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def _imported(folder: Path, retrainer: Runner) -> None:
    write_sample_csv(folder / "posts.csv", sample_posts())
    assert retrainer("posts", "import", "posts.csv").code == 0


@pytest.mark.slow
def test_the_tests_on_the_page_pass(package: Path, site: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:llmock", "tests"],
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_all_three_plugins_are_listed(retrainer: Runner, environ: dict[str, str]) -> None:
    plugins = [
        plugin for plugin in retrainer("plugins", "--json", env=environ).json if plugin["distribution"] == "my-plugins"
    ]
    assert {plugin["name"]: (plugin["kind"], plugin["status"]) for plugin in plugins} == {
        "gaps": ("algorithm", "ok"),
        "writer": ("algorithm", "ok"),
        "diary": ("observer", "ok"),
    }


def test_every_public_name_and_hook_is_on_the_page() -> None:
    hooks = {hook for hooks in (AlgorithmHooks, ObserverHooks) for hook in vars(hooks) if not hook.startswith("_")}
    assert {name for name in {*hooks, *algorithms.__all__} if not re.search(rf"`{name}\b", PAGE)} == set()


@pytest.mark.usefixtures("_imported")
def test_gaps_trains_with_its_options(retrainer: Runner, environ: dict[str, str], folder: Path) -> None:
    (block,) = (text for language, text in BLOCKS if language == "yaml")
    path = folder / "config" / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **yaml.safe_load(block)}))
    done = retrainer("train", "timing", "--json", env=environ)
    assert done.code == 0
    (run,) = done.json["training_runs"]
    assert run["algorithm"] == "gaps"
    assert 0 < run["evaluation"]["metrics"]["within_90_percent"] <= 1
    assert "Training timing on 320 posts took" in done.err
    shown = retrainer("show", run["model_version_id"], "--json", env=environ).json
    assert shown["hyperparameters"] == {"window": 200}
    assert "of the last 200" in json.dumps(shown)
    assert retrainer("predict", "timing", env=environ).code == 0
    path.write_text(path.read_text().replace("window:", "windw:"))
    wrong = retrainer("train", "timing", env=environ)
    assert wrong.code == 2
    assert "windw" in wrong.err


@pytest.mark.usefixtures("_imported")
def test_writer_calls_its_service(retrainer: Runner, environ: dict[str, str], service: str) -> None:
    train = ("train", "content", "--algorithm", "writer")
    without_url = retrainer(*train, env=environ)
    assert without_url.code == 2
    assert "Set WRITER_URL" in without_url.err
    environ["WRITER_URL"] = service
    dry = retrainer(*train, "--dry-run", env=environ)
    assert "would cost at most $0.0400 (20 calls)" in dry.err
    done = retrainer(*train, "--json", env=environ)
    assert done.code == 0
    (run,) = done.json["training_runs"]
    assert run["cost_usd"] == run["evaluation"]["metrics"]["cost_usd"] == pytest.approx(0.04)
    assert run["tokens"] == run["evaluation"]["metrics"]["tokens"] > 0
    assert run["evaluation"]["num_predictions"] == 20
    limited = retrainer(*train, "--json", env={**environ, "RETRAINER_CONTENT_MODEL__WRITER__MAX_COST": "0.031"})
    assert limited.json["training_runs"][0]["cost_usd"] == pytest.approx(0.03)
    unreachable = retrainer(*train, env={**environ, "WRITER_URL": "http://127.0.0.1:9"})
    assert unreachable.code == 1
    assert "only 0 of 20 forecasts of 'writer' can be scored: at least 50% are required" in unreachable.err


def test_the_events_are_those_of_the_page(retrainer: Runner, environ: dict[str, str], folder: Path) -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (`stream`.*) \|$", PAGE, re.MULTILINE)
    documented = {kind: {"kind", *re.findall(r"`(\w+)`", fields)} for kind, fields in rows}
    assert documented.keys() == {"run", "promotion", "rollback", "ab_test", "degraded", "failure", "stale_posts", "end"}
    assert retrainer("train", "timing", "--algorithm", "no_such", env=environ).code == 2
    write_sample_csv(folder / "posts.csv", sample_posts())
    assert retrainer("posts", "import", "posts.csv").code == 0
    for algorithm in ("baseline", "gaps"):
        done = retrainer("train", "timing", "--algorithm", algorithm, "--no-auto-promote", "--json", env=environ)
        version = done.json["training_runs"][0]["model_version_id"]
        assert retrainer("promote", version, env=environ).code == 0
    assert retrainer("rollback", "timing", env=environ).code == 0
    events = [json.loads(line) for line in (folder / "diary.jsonl").read_text().splitlines()]
    assert [event["kind"] for event in events] == [
        "failure",
        "run",
        "stale_posts",
        "promotion",
        "run",
        "promotion",
        "rollback",
    ]
    for event in events:
        assert event.keys() == documented[event["kind"]]
