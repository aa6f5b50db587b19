"""docs/plugins.md says what is true: its blocks are installed, tested and run as they stand."""

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

from retrainer.posts.sample import sample_posts, write_sample_csv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.command_line import Runner

PAGE = (Path(__file__).parent.parent / "docs" / "plugins.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the page, written down."""
    place = tmp_path_factory.mktemp("my-plugins")
    for language, text in BLOCKS:
        if language != "yaml":
            path = place / text.splitlines()[0].removeprefix("# ")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    return place


@pytest.fixture(scope="module")
def site(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the page, installed."""
    place = tmp_path_factory.mktemp("site")
    offline = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(place)]
    subprocess.run([sys.executable, "-m", "pip", "install", *offline, str(package)], check=True, timeout=120)
    return place


@pytest.fixture
def environ(site: Path, folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(site), "DIARY": str(folder / "diary.jsonl")}


@pytest.fixture
def service(package: Path) -> Iterator[str]:
    """The URL of the service of the page's tests."""
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
def test_the_tests_of_the_page_pass(package: Path, site: Path) -> None:
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


def test_all_three_plugins_of_the_page_are_listed(retrainer: Runner, environ: dict[str, str]) -> None:
    listed = {one["name"]: one for one in retrainer("plugins", env=environ).json if one["distribution"] == "my-plugins"}
    assert {name: (one["kind"], one["status"]) for name, one in listed.items()} == {
        "gaps": ("algorithm", "ok"),
        "writer": ("algorithm", "ok"),
        "diary": ("observer", "ok"),
    }


@pytest.mark.usefixtures("_imported")
def test_the_timing_algorithm_of_the_page_trains_with_its_options(
    retrainer: Runner, environ: dict[str, str], folder: Path
) -> None:
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
def test_the_content_algorithm_of_the_page_asks_its_service(
    retrainer: Runner, environ: dict[str, str], service: str
) -> None:
    train = ("train", "content", "--algorithm", "writer")
    refused = retrainer(*train, env=environ)
    assert refused.code == 2
    assert "Set WRITER_URL" in refused.err
    environ["WRITER_URL"] = service
    dry = retrainer(*train, "--dry-run", env=environ)
    assert "would cost at most $0.0400 (20 calls)" in dry.err
    done = retrainer(*train, "--json", env=environ)
    assert done.code == 0
    metrics = done.json["training_runs"][0]["evaluation"]["metrics"]
    assert metrics["cost_usd"] == pytest.approx(0.04)
    assert metrics["num_predictions"] == 20
    nobody = retrainer(*train, env={**environ, "WRITER_URL": "http://127.0.0.1:9"})
    assert nobody.code == 1
    assert "only 0 of 20 forecasts of 'writer' can be scored: at least 50% are required" in nobody.err


def test_the_events_are_those_of_the_page(retrainer: Runner, environ: dict[str, str], folder: Path) -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (`model_type`.*) \|$", PAGE, re.MULTILINE)
    told = {kind: {"kind", *re.findall(r"`(\w+)`", fields)} for kind, fields in rows}
    assert told.keys() == {"run", "promotion", "rollback", "failure", "end"}
    assert retrainer("train", "timing", "--algorithm", "no_such", env=environ).code == 2
    write_sample_csv(folder / "posts.csv", sample_posts())
    assert retrainer("posts", "import", "posts.csv").code == 0
    for algorithm in ("baseline", "gaps"):
        done = retrainer("train", "timing", "--algorithm", algorithm, "--no-auto-promote", "--json", env=environ)
        version = done.json["training_runs"][0]["model_version_id"]
        assert retrainer("promote", version, env=environ).code == 0
    assert retrainer("rollback", "timing", env=environ).code == 0
    events = [json.loads(line) for line in (folder / "diary.jsonl").read_text().splitlines()]
    assert [event["kind"] for event in events] == ["failure", *["run", "promotion"] * 2, "rollback"]
    for event in events:
        assert event.keys() == told[event["kind"]]
