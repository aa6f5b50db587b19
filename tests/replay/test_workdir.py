"""A replay deletes and overwrites nothing but its own files."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from retrainer.replay.workdir import MARKER
from tests.command_line import run_in_process
from tests.conftest import import_sample

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Completed, Runner
    from tests.conftest import Prepare

DATES = ("--from", "2024-03-01", "--to", "2024-03-09")


@pytest.fixture(autouse=True)
def _posts(folder: Path, prepare: Prepare) -> None:
    prepare(folder, import_sample)


def replay_in_work(folder: Path) -> None:
    assert run_in_process(folder)("replay", *DATES, "--workdir", "work").code == 0


@pytest.fixture
def used(folder: Path, prepare: Prepare) -> Path:
    """The folder of a completed replay, in the --workdir `work`."""
    prepare(folder, replay_in_work)
    return folder / "work/timing"


def assert_refused(done: Completed, message: str) -> None:
    assert done.code == 2, done.err
    assert message in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    "marker",
    [
        '{"mine": 1}',
        "[]",
        "no JSON",
        "[" * 100_000,
        '{"retrainer": "1.0"}',
        '{"retrainer": "1.0", "policies": ["../.."]}',
        '{"retrainer": "1.0", "policies": [1]}',
    ],
)
def test_a_folder_with_a_marker_that_is_not_a_replays_is_not_touched(
    tmp_path: Path, retrainer: Runner, marker: str
) -> None:
    mine = tmp_path / "g/timing"
    files = {MARKER: marker, "policies/privacy.md": "x", "ahead/x": "x", "posts.parquet": "x"}
    for name, text in files.items():
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text(text)
    assert_refused(retrainer("replay", *DATES, "--workdir", str(tmp_path / "g")), "was not created by a replay")
    assert {name: (mine / name).read_text() for name in files} == files


@pytest.mark.parametrize("resume", [(), ("--resume",)])
def test_a_link_in_place_of_the_marker_is_not_followed(
    tmp_path: Path, used: Path, retrainer: Runner, resume: tuple[str, ...]
) -> None:
    important = tmp_path / "important.json"
    (used / MARKER).rename(important)
    (used / MARKER).symlink_to(important)
    before = important.stat().st_mtime_ns
    done = retrainer("replay", *DATES, "--workdir", str(used.parent), *resume)
    assert_refused(done, "was not created by a replay")
    assert important.stat().st_mtime_ns == before


@pytest.mark.parametrize("resume", [(), ("--resume",)])
@pytest.mark.parametrize("name", ["policies", "policies/configured", "policies/configured/models", "ahead"])
def test_a_link_in_place_of_a_folder_is_refused(
    tmp_path: Path, used: Path, retrainer: Runner, name: str, resume: tuple[str, ...]
) -> None:
    users = tmp_path / "users"
    photo = users / "configured/photo.jpg"
    photo.parent.mkdir(parents=True)
    photo.touch()
    if (used / name).exists():
        (used / name).rename(tmp_path / "away")
    (used / name).symlink_to(users)
    done = retrainer("replay", *DATES, "--workdir", str(used.parent), *resume)
    assert_refused(done, f"{name}' is a symbolic link")
    assert list(users.rglob("*")) == [photo.parent, photo]


@pytest.mark.parametrize("name", ["work.db", "policies/configured/registry.db"])
def test_a_link_in_place_of_a_database_is_refused(tmp_path: Path, used: Path, retrainer: Runner, name: str) -> None:
    database = tmp_path / "users.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE mine (id)")
    before = database.read_bytes()
    (used / name).unlink()
    (used / name).symlink_to(database)
    done = retrainer("replay", *DATES, "--workdir", str(used.parent), "--resume")
    assert_refused(done, f"{name}' is a symbolic link")
    assert database.read_bytes() == before


@pytest.mark.parametrize("resume", [(), ("--resume",)])
@pytest.mark.parametrize("kind", ["database", "text"])
def test_a_users_file_in_place_of_the_store_is_refused(
    used: Path, retrainer: Runner, kind: str, resume: tuple[str, ...]
) -> None:
    mine = used / "work.db"
    mine.unlink()
    if kind == "database":
        with closing(sqlite3.connect(mine)) as connection:
            connection.execute("CREATE TABLE hours (project, worked)")
    else:
        mine.write_text("my hours")
    before = mine.read_bytes()
    done = retrainer("replay", *DATES, "--workdir", str(used.parent), *resume)
    assert_refused(done, "work.db' was not created by a replay. Move it away, or choose another --workdir")
    assert mine.read_bytes() == before


@pytest.mark.slow
def test_a_users_posts_survive(used: Path, retrainer: Runner) -> None:
    (used / "posts.parquet").write_text("mine")
    assert retrainer("replay", *DATES, "--workdir", str(used.parent), "--jobs", "2").code == 0
    assert (used / "posts.parquet").read_text() == "mine"


@pytest.mark.slow
def test_a_damaged_store_is_replaced(used: Path, retrainer: Runner) -> None:
    with (used / "work.db").open("r+b") as store:
        store.seek(4096)
        store.write(b"x" * 20_000)
    assert retrainer("replay", *DATES, "--workdir", str(used.parent)).code == 0


@pytest.mark.slow
def test_the_store_of_an_earlier_release_is_used_again(used: Path, retrainer: Runner) -> None:
    with closing(sqlite3.connect(used / "work.db")) as connection:
        connection.execute("PRAGMA application_id = 0")
    assert "6 are done" in retrainer("replay", *DATES, "--workdir", str(used.parent), "--resume").err
    assert retrainer("replay", *DATES, "--workdir", str(used.parent)).code == 0


def test_a_link_in_place_of_the_lock_file_is_refused(tmp_path: Path, retrainer: Runner) -> None:
    (tmp_path / "important").write_text("x")
    (tmp_path / "work").mkdir()
    (tmp_path / "work/.timing.lock").symlink_to(tmp_path / "important")
    assert_refused(retrainer("replay", *DATES, "--workdir", str(tmp_path / "work")), ".timing.lock' is a symbolic link")
    assert (tmp_path / "important").read_text() == "x"


@pytest.mark.slow
def test_the_workdir_may_be_a_link(tmp_path: Path, used: Path, retrainer: Runner) -> None:
    (tmp_path / "link").symlink_to(used.parent)
    assert "6 are done" in retrainer("replay", *DATES, "--workdir", str(tmp_path / "link"), "--resume").err


@pytest.mark.slow
def test_notes_among_the_files_of_a_replay_survive_the_next_one(folder: Path, retrainer: Runner) -> None:
    used = folder / ".retrainer/replay/timing"
    notes = [used / name / "NOTES.md" for name in ("", "policies", "policies/configured", "policies/old", "ahead")]
    assert retrainer("replay", *DATES, "--policy", "old: schedule_days=3").code == 0
    for note in notes:
        note.parent.mkdir(exist_ok=True)
        note.touch()
    for resume in ((), ("--resume",), ("--resume", "--policy", "old: schedule_days=2")):
        done = retrainer("replay", *DATES, *resume)
        assert done.code == 0, done.err
        assert all(note.exists() for note in notes)


def test_a_folder_that_only_has_the_name_of_a_new_policy_is_refused(used: Path, retrainer: Runner) -> None:
    photo = used / "policies/daily/models/photo.jpg"
    photo.parent.mkdir(parents=True)
    photo.touch()
    new = ("--workdir", str(used.parent), "--policy", "daily: schedule_days=1")
    assert_refused(retrainer("replay", *DATES, *new, "--resume"), "policies/daily' was not created by a replay")
    assert photo.exists()


@pytest.mark.slow
def test_the_next_replay_deletes_the_folders_of_policies_that_it_lacks(used: Path, retrainer: Runner) -> None:
    work = ("--workdir", str(used.parent))
    assert retrainer("replay", *DATES, *work, "--resume", "--policy", "daily: schedule_days=1").code == 0
    assert (used / "policies/daily").is_dir()
    (used / "ahead/123/models/.staging").mkdir(parents=True)
    (used / "ahead/123/models/.staging/timing_model").symlink_to("nowhere")
    assert retrainer("replay", *DATES, *work).code == 0
    assert {path.name for path in used.iterdir()} == {MARKER, "policies", "work.db"}
    assert {path.name for path in (used / "policies").iterdir()} == {"always", "configured", "never"}
    assert json.loads((used / MARKER).read_text())["policies"] == ["always", "configured", "daily", "never"]


def test_the_folder_of_an_earlier_release_is_used_again(used: Path, retrainer: Runner) -> None:
    (used / MARKER).write_text('{"retrainer": "0.1.0"}')
    assert retrainer("replay", *DATES, "--workdir", str(used.parent), "--resume").code == 0
    assert "configured" in json.loads((used / MARKER).read_text())["policies"]
