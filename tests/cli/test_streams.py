"""Every command of a project with several streams: which stream it is about, and what lists show."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from typer.main import get_group

from retrainer.cli import app as program
from retrainer.errors import InsufficientData
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.overview import list_streams
from retrainer.pipeline.run import retrain
from retrainer.registry.tables import ModelVersion
from retrainer.schedule.due import due, due_of_streams
from retrainer.streams import ModelKey, stream_id
from tests.cli.test_completion import complete
from tests.conftest import NOW, configure, open_project, regular_posts, runtime_of, train_timing

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Runner
    from tests.conftest import Prepare

HOSTILE = "../x y/\u202eü*"
NAMES = sorted(["default", "News", "news", HOSTILE])
WHOLE_PROJECT = {
    "backup": "holds all streams",
    "config check": "checks the settings of all streams",
    "config set": "a key of `streams` names its stream",
    "db upgrade": "upgrades the tables of all streams",
    "doctor": "checks all streams",
    "init": "a new project has no streams yet",
    "notify-test": "the channels are those of the project",
    "plugins": "lists what is installed",
    "plugins new": "writes a package",
    "posts fetch": "each source has its stream in the settings",
    "posts sample": "writes a file",
    "restore-backup": "restores all streams",
    "schedule install": "schedules all streams",
    "schedule remove": "removes the line of all streams",
    "schedule show": "shows the line of all streams",
    "serve": "each request chooses its stream",
}


def slow(case: str) -> Any:
    """Return a case for the slow tests."""
    return pytest.param(case, marks=pytest.mark.slow)


def make_streams(folder: Path) -> dict[str, str]:
    """Store 120 posts in each stream; train two versions of two of them, and return the live one of each."""
    live = {}
    project = open_project(folder)
    for name in NAMES:
        own = project.for_stream(name)
        own.posts.add(regular_posts(120), NOW)
        if name in {"News", "news"}:
            runs = [retrain(own, runtime_of(own), "timing", NOW).run for _ in range(2)]
            assert all(runs)
            live[name] = str(runs[0].model_version_id)  # type: ignore[union-attr]
            own.registry.promote(str(runs[1].model_version_id), live[name], "by hand", NOW)  # type: ignore[union-attr]
            live[name] = str(runs[1].model_version_id)  # type: ignore[union-attr]
            own.production_links.update()
    project.close()
    return live


@pytest.fixture
def live(folder: Path, prepare: Prepare) -> dict[str, str]:
    return prepare(folder, make_streams)


def _options() -> dict[str, set[str]]:
    """Return the options of every command, with those of groups: `posts import`."""
    found: dict[str, set[str]] = {}

    def walk(name: str, command: Any) -> None:
        inner = getattr(command, "commands", None)
        if inner is None or getattr(command, "invoke_without_command", False):
            found[name] = {option for parameter in command.params for option in parameter.opts}
        for word, one in (inner or {}).items():
            walk(f"{name} {word}", one)

    for name, command in program.COMMANDS.items():
        walk(name, get_group(import_module(f"retrainer.cli.{command.module}").app).commands[name])
    return found


def test_every_command_takes_a_stream_or_is_of_the_whole_project() -> None:
    without = {name for name, options in _options().items() if "--stream" not in options}
    assert without == WHOLE_PROJECT.keys(), "a command about models or posts takes --stream"


@pytest.mark.parametrize(
    "command", ["status", "history", *map(slow, ["versions", "production", "show timing@production"])]
)
def test_one_stream_is_in_json_only(command: str, folder: Path, prepare: Prepare, retrainer: Runner) -> None:
    prepare(folder, train_timing)
    assert "tream" not in retrainer(*command.split()).out.replace(str(folder), "")
    assert '"stream": "default"' in retrainer(*command.split(), "--json").out


@pytest.mark.usefixtures("live")
@pytest.mark.parametrize(
    "command",
    [
        "predict timing",
        "rollback timing",
        "replay timing --from 2024-10-01",
        "show timing@production",
        slow("hold timing"),
        slow("release timing"),
        slow("promote timing@latest"),
        slow("evaluate timing@production"),
        slow("posts count"),
        slow("posts delete p00000 --yes"),
    ],
)
def test_a_command_about_one_model_needs_one_of_several_streams(command: str, retrainer: Runner) -> None:
    refused = retrainer(*command.split())
    assert refused.code == 2
    assert "the project has 4 streams. Choose one with --stream; `retrainer streams` lists them" in refused.err
    unknown = retrainer(*command.split(), "--stream", "newss")
    assert (unknown.code, "unknown stream 'newss'. Did you mean 'news'?" in unknown.err) == (2, True)


def test_a_version_decides_the_stream_and_a_given_one_must_match(live: dict[str, str], retrainer: Runner) -> None:
    shown = retrainer("show", live["news"], "--json")
    assert shown.json["stream"] == "news"
    assert retrainer("show", live["news"]).out.splitlines()[1] == "Stream:   news"
    for command in ("show", "evaluate", "pin", "promote", "restore"):
        refused = retrainer(command, live["news"], "--stream", "News")
        assert refused.code == 2
        assert f"'{live['news']}' belongs to the stream 'news', not 'News'" in refused.err
    assert retrainer("pin", live["news"], "--json").json["stream"] == "news"
    refused = retrainer("compare", live["news"], live["News"])
    assert (refused.code, "Compare versions of the same stream" in refused.err) == (2, True)
    assert f"'{live['news']}' belongs to the stream 'news', '{live['News']}' to 'News'" in refused.err
    named = retrainer("rollback", "timing", "--stream", "news", "--json")
    assert named.json["stream"] == "news"
    assert named.json["message"].endswith("`retrainer release timing --stream news`")
    assert retrainer("predict", "timing", "--stream", "News", "--json").json["version_id"] == live["News"]
    assert retrainer("release", "timing", "--stream", "news").out == (
        "Automatic promotion of timing of the stream 'news' is released\n"
    )


@pytest.mark.usefixtures("live")
def test_default_is_named_as_one_of_several_streams(folder: Path, retrainer: Runner) -> None:
    status = retrainer("status", "--stream", "default").out
    assert ", the stream 'default', 20" in " ".join(status.split())
    assert "Run `retrainer train timing --stream default`" in " ".join(status.split())
    nothing = retrainer("predict", "timing", "--stream", "default")
    assert "no timing version of the stream 'default' is in production" in nothing.err
    assert "Train one with `retrainer train timing --stream default`" in nothing.err
    held = retrainer("hold", "timing", "--stream", "default")
    assert held.out == "Automatic promotion of timing of the stream 'default' is now on hold\n"
    released = retrainer("release", "timing", "--stream", "default")
    assert released.out == "Automatic promotion of timing of the stream 'default' is released\n"
    project = open_project(folder)
    first, second = (retrain(project, runtime_of(project), "timing", NOW).run for _ in range(2))
    assert first is not None
    assert second is not None
    project.registry.promote(str(second.model_version_id), first.model_version_id, "by hand", NOW)
    undone = retrainer("rollback", "timing", "--stream", "default")
    assert undone.out.endswith("on hold until `retrainer release timing --stream default`\n")


def test_lists_cover_all_streams_or_those_that_match(folder: Path, live: dict[str, str], retrainer: Runner) -> None:
    assert retrainer("versions", "--json").json["count"] == 4
    assert {row["stream"] for row in retrainer("history", "--json").json["training_runs"]} == {"news", "News"}
    for command in ("versions", "history"):
        chosen = retrainer(command, "--stream", "N*").out
        assert "News" in chosen
        assert "  news  " not in chosen
        assert "Stream" in chosen
        refused = retrainer(command, "--stream", "x*")
        assert (refused.code, "no stream matches 'x*'" in refused.err) == (2, True)
    found = retrainer("production", "--json").json
    assert {one["stream"]: one["timing_model"]["version_id"] for one in found["streams"]} == live
    past = retrainer("production", "--at", "2024-01-01", "--json").json
    assert past == {"streams": [], "count": 0}
    assert retrainer("production", "--stream", "news", "--json").json["timing_model"]["version_id"] == live["news"]
    assert retrainer("production", "--stream", "n*", "--json").json == {"streams": [found["streams"][1]], "count": 1}
    assert "Stream" in retrainer("production", "--stream", "n*").out
    with open_project(folder).registry.database.write() as session:
        session.execute(sa.update(ModelVersion).where(~ModelVersion.is_production).values(status="archived"))
    assert retrainer("prune", "--dry-run", "--json").json["count"] == 2
    pruned = retrainer("prune", "--stream", "n*", "--dry-run", "--json").json["versions"]
    assert [one["stream"] for one in pruned] == ["news"]


@pytest.mark.usefixtures("live")
def test_streams_are_sorted_filtered_and_escaped(retrainer: Runner) -> None:
    assert [one["stream"] for one in retrainer("streams", "--json").json["streams"]] == NAMES
    assert retrainer("hold", "timing", "--stream", HOSTILE).code == 0
    held = retrainer("streams", "--held", "--json").json
    assert [(one["stream"], len(one["models"])) for one in held["streams"]] == [(HOSTILE, 1)]
    found = retrainer("streams", "--type", "timing", "--sort", "skill", "--limit", "2", "--json").json
    assert (found["count"], found["total"]) == (2, 4)
    assert [one["stream"] for one in found["streams"]] == ["News", "news"], "those without a score come last"
    assert found["streams"][0]["models"][0]["score"] > 0
    assert retrainer("streams", "--not-live", "--due", "--stream", "n*", "--json").json["total"] == 1
    done = retrainer("streams", "--type", "timing")
    assert done.code == 0, done.err
    shown = done.out
    assert "../x y/\\u202eü*" in shown
    assert "\u202e" not in shown
    assert retrainer("streams", "--failed").out == "No matching models\n"
    wrong = retrainer("streams", "--sort", "size")
    assert (wrong.code, "'size' (choose name, posts" in wrong.err) == (2, True)


def test_the_number_of_queries_does_not_depend_on_the_number_of_streams(folder: Path, live: dict[str, str]) -> None:
    configure(folder, min_new_posts="5")
    project = open_project(folder)
    list_streams(project, NOW)  # the first time there is more to look up
    counts = []
    for _ in range(2):
        statements: list[str] = []
        listener = lambda *arguments: statements.append(arguments[2])  # noqa: B023, E731
        sa.event.listen(project.registry.database.engine, "before_cursor_execute", listener)
        list_streams(project, NOW)
        sa.event.remove(project.registry.database.engine, "before_cursor_execute", listener)
        counts.append(len(statements))
        for number in range(20):
            project.for_stream(f"more {number}").posts.add(regular_posts(60), NOW)
        for number in range(2):
            own = project.for_stream(f"more {number}")
            retrain(own, runtime_of(own), "timing", NOW)
    assert counts[1] == counts[0]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize("posts", [[], [7]], ids=["no new posts", "new posts"])
def test_what_is_due_is_the_same_for_one_stream_and_for_all(
    folder: Path, live: dict[str, str], posts: list[int]
) -> None:
    configure(folder, min_new_posts="5")
    project = open_project(folder)
    for count in posts:
        project.for_stream("news").posts.add(regular_posts(count, start=NOW).assign(post_id=list("abcdefg")), NOW)
    now = NOW.replace(day=NOW.day + 2)
    last = project.registry.across(None).last_completed_runs()
    found = due_of_streams(project, NAMES, MODEL_TYPE_NAMES, now, last)
    for name in NAMES:
        for model_type in MODEL_TYPE_NAMES:
            assert found[ModelKey(name, model_type)] == due(project.for_stream(name), model_type, now)
    assert found[ModelKey("news", "timing")].is_due == bool(posts)
    overviews, total = list_streams(project, now)
    assert total == len(NAMES)
    by_name = {one.stream: one.models[0] for one in overviews}
    assert {name: one.live.version_id for name, one in by_name.items() if one.live} == live


@pytest.mark.usefixtures("live")
def test_status_of_several_streams_has_numbers_and_names_what_needs_attention(folder: Path, retrainer: Runner) -> None:
    done = retrainer("status", "--json")
    assert done.code == 1
    assert (done.json["streams"], done.json["posts"]) == (4, 480)
    timing = done.json["types"][0]
    assert (timing["enabled"], timing["live"]) == (4, 2)
    assert {problem["stream"] for problem in done.json["problems"]} >= set(NAMES)
    shown = retrainer("status", "--stream", "d*", "--stream", "N*").out
    assert "Run `retrainer train timing --stream default`" in shown
    one = retrainer("status", "--stream", "news")
    assert "the stream 'news'" in one.out
    assert retrainer("status", "--stream", "news", "--json").json["stream"] == "news"
    assert retrainer("status", "--stream", "n*", "--json").json["streams"] == 1
    few = open_project(folder).for_stream("zz")
    few.posts.add(regular_posts(3), NOW)
    with pytest.raises(InsufficientData):
        retrain(few, runtime_of(few), "timing", NOW)
    shown = " ".join(retrainer("status").out.split())
    assert "1 with a failed last run" in shown
    assert "And 5 more: 5 streams with stale posts." in shown
    configure(folder, streams="{'d*': {timing_model: {baseline: {colour: red}}}}")
    found = retrainer("status", "--json").json
    (unusable,) = [problem for problem in found["problems"] if problem["kind"] == "unusable_algorithm"]
    assert (unusable["subject"], unusable["stream"]) == ("baseline", "default")
    assert unusable["message"].startswith("the configured timing algorithm of the stream 'default' cannot be used: ")
    assert [(one["model_type"], one["problem"] is None) for one in found["plugins"]] == [
        ("timing", False),
        ("content", True),
    ]


def test_doctor_repairs_the_links_of_every_stream(folder: Path, live: dict[str, str], retrainer: Runner) -> None:
    assert retrainer("doctor").out == "No problems found\n"
    link = folder / "models" / "streams" / stream_id("News") / "timing_model"
    link.unlink()
    (folder / "models" / "timing" / live["news"] / "model.json").unlink()
    found = retrainer("doctor", "--json").json["findings"]
    assert [one["kind"] for one in found] == ["missing_file", "wrong_link"]
    assert str(link) in found[1]["message"]
    assert retrainer("doctor", "--repair").code == 0
    assert link.resolve().name == live["News"]


def test_an_exported_version_keeps_its_stream_or_gets_another(
    folder: Path, live: dict[str, str], elsewhere: Path, retrainer: Runner
) -> None:
    for name in ("news", "News"):
        file = str(folder / f"{stream_id(name)}.zip")
        assert retrainer("export", "timing@production", file, "--stream", name, "--json").json["stream"] == name
    kept = retrainer("import", str(folder / f"{stream_id('news')}.zip"), "--json", cwd=elsewhere)
    assert (kept.json["version_id"], kept.json["stream"]) == (live["news"], "news")
    moved = retrainer("import", str(folder / f"{stream_id('News')}.zip"), "--stream", "a/b", cwd=elsewhere)
    assert "into the stream 'a/b'" in moved.out
    assert retrainer("show", live["News"], "--json", cwd=elsewhere).json["stream"] == "a/b"
    again = retrainer("import", str(folder / f"{stream_id('News')}.zip"), cwd=elsewhere)
    assert (again.code, "is already in this project, in the stream 'a/b'" in again.err) == (1, True)


@pytest.mark.parametrize("name", ["..", "[a]", *map(slow, ["a/b", " a ", "ü😀", "x" * 200, "-"])])
def test_a_stream_may_have_any_printable_name(name: str, folder: Path, retrainer: Runner) -> None:
    (folder / "posts.csv").write_text("id,created_at\n1,2024-01-05T10:00Z\n")
    done = retrainer("posts", "import", "posts.csv", f"--stream={name}")
    assert done.code == 0, done.err
    assert [one["stream"] for one in retrainer("streams", "--json").json["streams"]] == [name]
    assert retrainer("posts", "count", f"--stream={name}", "--json").json["count"] == 1
    assert sorted(path.name for path in folder.iterdir() if path.name != ".retrainer") == (
        ["config", "data", "models", "posts.csv"]
    )


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["", "x" * 300, *map(slow, ["a\nb", "\x1b[31m"])])
def test_no_stream_has_such_a_name(name: str, retrainer: Runner) -> None:
    for command in ("versions", "hold timing", "posts count", "config show", "streams"):
        done = retrainer(*command.split(), f"--stream={name}")
        assert done.code == 2
        assert "must" in done.err
        assert len(done.err) < 300, "a long name is shortened"
        assert "\x1b" not in done.err


@pytest.mark.usefixtures("live")
def test_the_shell_completes_streams(retrainer: Runner) -> None:
    assert complete(retrainer, "retrainer predict timing --stream n") == ["news"]
    assert complete(retrainer, "retrainer versions --stream N") == ["News"]


def test_the_settings_of_a_stream_are_shown_with_their_sources(folder: Path, retrainer: Runner) -> None:
    path = folder / "config" / "config.yaml"
    own = (
        'streams:\n  "n*": {retraining: {schedule_days: 1, keep_versions: 7}}\n  news: {retraining: {schedule_days: 3}}'
    )
    path.write_text(path.read_text().replace("streams: {}", own))
    rows = {row["key"]: row for row in retrainer("config", "show", "--stream", "news", "--json").json["settings"]}
    assert rows["retraining.schedule_days"]["value"] == 3
    assert rows["retraining.schedule_days"]["source"].endswith("(streams.news)")
    assert rows["retraining.keep_versions"]["source"].endswith("(streams.n*)")
    assert not any(key.startswith("streams") for key in rows)
    assert retrainer("config", "get", "retraining.schedule_days", "--stream", "other").out == "7.0\n"
