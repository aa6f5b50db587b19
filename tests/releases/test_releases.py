"""A project that an earlier release stored works on: see make.py for how it was made.

A new release adds a folder here; the tests find it. A folder has the name of the release; `-schema-NNNN`, the newest
migration, tells states of the code with the same version number apart.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from retrainer.pipeline.forecast import predict_next
from tests.claude_server import ClaudeServer
from tests.command_line import environment
from tests.conftest import open_project, regular_posts, runtime_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.command_line import Runner

STORED = sorted(path.parent for path in Path(__file__).parent.glob("*/*/expected.json"))
ON_POSTGRESQL = [path for path in STORED if path.name == "postgresql"]
NEWEST = STORED[-1]
BETWEEN = STORED[2:-2]


def on_each_release(*, slow: bool) -> pytest.MarkDecorator:
    """Run a test with every stored project; all but the newest release's on SQLite, and with `slow` all, are slow.

    With `slow`, the releases between the first and the newest one run in a soak: the other tests read them, too.
    """

    def marks(path: Path) -> list[pytest.MarkDecorator]:
        if slow and path in BETWEEN:
            return [pytest.mark.soak]
        return [pytest.mark.slow] if slow or path != NEWEST else []

    return pytest.mark.parametrize(
        "stored",
        [pytest.param(path, marks=marks(path)) for path in STORED],
        ids=lambda path: f"{path.parent.name}-{path.name}",
    )


@pytest.fixture
def expected(stored: Path) -> dict[str, Any]:
    """What the release printed and forecast."""
    content: dict[str, Any] = json.loads((stored / "expected.json").read_text())
    return content


@pytest.fixture
def folder(stored: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of a stored project, in a database of its own."""
    folder = tmp_path / "project"
    shutil.copytree(stored, folder, symlinks=True)
    (folder / "expected.json").unlink()
    if stored in ON_POSTGRESQL:
        url = request.getfixturevalue("postgresql_url")
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute((folder / "database.sql").read_text())
            driver.commit()
        engine.dispose()
        (folder / "database.sql").unlink()
        settings = folder / "config" / "config.yaml"
        settings.write_text(settings.read_text().replace("sqlite:///data/retrainer.db", url))
    return folder


@pytest.fixture
def of_default(expected: dict[str, Any]) -> list[str]:
    """The option that chooses the stream `default`, if the stored project has several."""
    return ["--stream", "default"] if "streams" in expected else []


@pytest.fixture
def claude() -> Iterator[ClaudeServer]:
    """The stand-in for the Claude API, by which the content version in production was made."""
    with ClaudeServer() as server, environment(server.environ):
        yield server


def require_kept(before: Any, after: Any, where: str = "") -> None:
    """Check that everything in a document is still there with the same value; there may be more.

    The times of forecasts come from floats, so both may differ in the last digits.
    """
    if isinstance(before, dict):
        for key, value in before.items():
            if key == "error" and str(value).startswith("The run was interrupted"):
                assert str(after[key]).startswith("The run was interrupted"), where  # the rest names the machine
            else:
                assert key in after, f"{where}.{key}"
                require_kept(value, after[key], f"{where}.{key}")
    elif isinstance(before, list):
        assert len(before) == len(after), where
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            require_kept(one, other, f"{where}[{index}]")
    elif isinstance(before, float):
        assert after == pytest.approx(before, rel=1e-6), where
    elif where.endswith(".next_post_at"):
        assert abs(datetime.fromisoformat(after) - datetime.fromisoformat(before)) < timedelta(milliseconds=1), where
    else:
        assert after == before, where


@on_each_release(slow=False)
@pytest.mark.usefixtures("claude")
def test_a_stored_project_shows_what_it_showed(folder: Path, expected: dict[str, Any], retrainer: Runner) -> None:
    assert folder.exists()
    for command, before in expected["documents"].items():
        shown = retrainer(*command.split(), "--json")
        assert shown.code == 0, shown.err
        require_kept(before, shown.json, command)
    (finding,) = retrainer("doctor", "--json").json["findings"]
    assert finding["kind"] == "dead_run", "the release was killed in its last run"
    assert retrainer("doctor", "--repair").code == 0
    assert retrainer("doctor").out == "No problems found\n"


@on_each_release(slow=False)
def test_a_stored_project_forecasts_what_it_forecast(
    folder: Path, expected: dict[str, Any], claude: ClaudeServer
) -> None:
    project = open_project(folder)
    for model_type, before in expected["forecasts"].items():
        forecast = predict_next(project, runtime_of(project), model_type, datetime.fromisoformat(expected["now"]))
        now = json.loads(json.dumps(asdict(forecast), default=lambda time: time.isoformat()))
        require_kept(before, now, model_type)
    (request,) = claude.requests
    assert request.body == expected["request"], "the prompt of a stored version never changes"


@on_each_release(slow=True)
@pytest.mark.usefixtures("claude")
def test_a_stored_project_trains_and_rolls_back(
    folder: Path, expected: dict[str, Any], of_default: list[str], retrainer: Runner
) -> None:
    live = expected["forecasts"]["timing"]["version_id"]
    trained = retrainer("train", *of_default, "--json")
    assert trained.code == 0, trained.err
    assert [run["status"] for run in trained.json["training_runs"]] == ["completed", "completed"]
    assert retrainer("predict", "timing", *of_default, "--json").json["version_id"] == live, "it is on hold"
    back = retrainer("rollback", "timing", *of_default, "--json")
    assert back.code == 0, back.err
    assert retrainer("predict", "timing", *of_default, "--json").json["version_id"] != live
    assert retrainer("release", "timing", *of_default).code == 0
    shown = retrainer("production", *of_default, "--json").json["timing_model"]
    assert shown["refit_through"] is None, "no release fitted again"
    promoted = retrainer("promote", live, "--refit")
    assert promoted.code == 0, promoted.err
    assert retrainer("predict", "timing", *of_default, "--json").json["version_id"] == live
    shown = retrainer("production", *of_default, "--json").json["timing_model"]
    assert shown["refit_through"] > shown["trained_through"]
    assert retrainer("rollback", "timing", *of_default, "--no-hold").code == 0
    assert retrainer("production", *of_default, "--json").json["timing_model"]["refit_through"] is None
    assert retrainer("doctor").code == 0, folder


@on_each_release(slow=True)
@pytest.mark.usefixtures("claude")
def test_the_live_posts_of_a_stored_project_are_scored(
    folder: Path, expected: dict[str, Any], of_default: list[str], retrainer: Runner, tmp_path: Path
) -> None:
    """Its versions knew nothing of live scores when they were promoted: what they knew of the posts is recorded."""
    live = expected["forecasts"]["timing"]["version_id"]
    posts = tmp_path / "later.csv"
    regular_posts(40, start=datetime(2025, 1, 1, tzinfo=UTC)).to_csv(posts, index=False)
    has_live_fit = retrainer("production", *of_default, "--json").json["timing_model"]["refit_through"] is not None
    for stream in expected.get("streams", ["default"]):
        assert retrainer("posts", "import", str(posts), "--stream", stream).code == 0
    done = retrainer("live", "timing", *of_default, "--json")
    assert done.code == 0, (folder, done.err)
    (model,) = done.json["models"]
    assert model["version_id"] == live
    assert [one["against"] for one in model["comparisons"]] == ["naive", "previous"]
    known = "an evaluated fit counts as knowing the posts up to its run"
    assert model["num_posts"] == (40 if has_live_fit else 0), known
    assert sum(week["num_posts"] for week in model["weeks"]) == model["num_posts"]
    if "streams" in expected:
        models = retrainer("live", "--json").json["models"]
        assert {(one["stream"], one["model_type"]) for one in models} == {
            ("default", "timing"),
            ("default", "content"),
            ("news", "timing"),
        }


@on_each_release(slow=True)
def test_a_stored_project_is_backed_up_and_restored(
    folder: Path, expected: dict[str, Any], retrainer: Runner, claude: ClaudeServer, tmp_path: Path
) -> None:
    saved = str(tmp_path / "project.backup")
    assert retrainer("backup", saved).code == 0
    done = retrainer("restore-backup", saved, "--replace", "--yes")
    assert done.code == 0, done.err
    test_a_stored_project_forecasts_what_it_forecast(folder, expected, claude)
