"""Invalid input and missing files: one clear line, the right exit code, nothing half-written."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from retrainer.posts.sample import write_sample_csv
from tests.conftest import configure, regular_posts
from tests.plugins_for_tests import timing_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from tests.command_line import Completed, Runner
    from tests.plugins_for_tests import Plugins


def the_line(done: Completed, code: int) -> str:
    """Return the only line that a failed command printed to stderr."""
    assert done.code == code, done
    (line,) = done.err.splitlines()
    return line


def import_posts(retrainer: Runner, folder: Path, posts: pd.DataFrame) -> None:
    write_sample_csv(folder / "posts.csv", posts)
    assert retrainer("posts", "import", "posts.csv").code == 0


def test_no_posts(folder: Path, retrainer: Runner) -> None:
    line = the_line(retrainer("train", "timing", "--quiet"), 3)
    assert "ERROR: Model training failed: Insufficient data for training: 0 posts" in line


def test_posts_later_than_the_clock(folder: Path, retrainer: Runner) -> None:
    import_posts(retrainer, folder, regular_posts(60))
    line = the_line(retrainer("train", "timing", "--as-of", "2020-01-01", "--no-auto-promote", "--quiet"), 3)
    assert "all 60 posts in the table 'posts' of " in line
    assert "are later than 2020-01-01 00:00 UTC; the first is of 2024-" in line
    assert "Correct the clock of this machine, or choose a later time" in line


def test_35_posts(folder: Path, retrainer: Runner) -> None:
    import_posts(retrainer, folder, regular_posts(35))
    line = the_line(retrainer("train", "--quiet", "timing"), 3)
    assert "Insufficient data for training: 35 posts" in line
    assert "Collect at least 50 before retraining (retraining.min_training_samples)" in line
    assert retrainer("versions", "--json").json["count"] == 0
    assert list((folder / "models").iterdir()) == []


@pytest.mark.parametrize("command", ["train content --quiet", "replay content --from 2024-11-01"])
def test_posts_without_texts(command: str, folder: Path, retrainer: Runner) -> None:
    import_posts(retrainer, folder, regular_posts(60).assign(content=None))
    line = the_line(retrainer(*command.split()), 3)
    assert "none of the 60 posts in the table 'posts' of " in line
    assert "has a text. Import a file that has them; --column content=NAME names the column of the texts" in line


def test_too_few_posts_with_texts(folder: Path, retrainer: Runner) -> None:
    posts = regular_posts(60)
    posts.loc[7:, "content"] = None
    import_posts(retrainer, folder, posts)
    line = the_line(retrainer("train", "content", "--quiet"), 3)
    assert "Insufficient data for training: 7 posts with text in" in line


def test_one_post(folder: Path, retrainer: Runner) -> None:
    import_posts(retrainer, folder, regular_posts(1))
    assert "Insufficient data for training: 1 post in" in the_line(retrainer("train", "timing", "--quiet"), 3)


def test_all_posts_at_the_same_second(folder: Path, retrainer: Runner) -> None:
    import_posts(retrainer, folder, regular_posts(100, gap_hours=0))
    line = the_line(retrainer("train", "timing", "--quiet"), 3)
    assert "all 80 training posts have the same time, '2024-11-15T12:00:00+00:00'" in line
    assert retrainer("train", "content").code == 0, "content does not need the gaps"


def test_posts_not_in_time_order(folder: Path, retrainer: Runner) -> None:
    posts = regular_posts(100)
    import_posts(retrainer, folder, posts.sample(frac=1, random_state=3))
    (run,) = retrainer("train", "timing", "--json").json["training_runs"]
    assert run["evaluation"]["window"]["post_ids"][0] == "p00080"
    assert run["test_overall_score"] == pytest.approx(1.0), "the gaps are those of the ordered posts"


@pytest.mark.parametrize(
    ("value", "problem"),
    [("2999-01-01", "'2999-01-01' is in the future"), ("soon", "'soon' is not a time"), ("", "'' is not a time")],
)
def test_an_invalid_time(value: str, problem: str, folder: Path, retrainer: Runner) -> None:
    assert f"Error: --as-of: {problem}" in the_line(retrainer("train", "--as-of", value), 2)


@pytest.mark.parametrize(
    "arguments",
    [("evaluate", "nope"), ("promote", "nope"), ("show", "nope"), ("compare", "nope", "nope"), ("show", "../x")],
)
def test_an_unknown_version(arguments: tuple[str, ...], folder: Path, retrainer: Runner) -> None:
    line = the_line(retrainer(*arguments), 2)
    assert line == f"Error: unknown version '{arguments[-1]}'. `retrainer versions` lists them"


@pytest.mark.parametrize(
    "arguments",
    [("train", "timming"), ("rollback", "timming"), ("predict", "timming"), ("history", "--type", "timming")],
)
def test_an_unknown_type(arguments: tuple[str, ...], folder: Path, retrainer: Runner) -> None:
    assert the_line(retrainer(*arguments), 2) == "Error: unknown model type 'timming'. Did you mean 'timing'?"


def test_an_empty_name_of_an_algorithm_is_not_the_configured_one(folder: Path, retrainer: Runner) -> None:
    line = the_line(retrainer("train", "timing", "--algorithm", "", "--quiet"), 2)
    assert "unknown algorithm ''. Installed: baseline, " in line


def test_an_unknown_algorithm_in_the_settings(folder: Path, retrainer: Runner) -> None:
    import_posts(retrainer, folder, regular_posts(60))
    line = the_line(retrainer("train", "timing", "--quiet", RETRAINER_TIMING_MODEL__ALGORITHM="profet"), 2)
    assert "timing_model.algorithm: unknown algorithm 'profet'. Did you mean 'prophet'?" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trian",), "unknown command 'trian'. Did you mean 'train'?"),
        (("train", "--foo"), "No such option"),
        (("train", "timing", "content"), "unexpected extra argument"),
        (("history", "--limit", "0"), "--limit: invalid value '0' (must be greater than or equal to 1)"),
        (("history", "--limit", "ten"), "--limit: invalid value 'ten' (must be a valid integer, unable to parse"),
        (("train", "--wait", "nan"), "--wait: invalid value 'nan' (must be greater than or equal to 0)"),
        (("promote",), "Missing argument"),
        (("posts",), "Missing command"),
    ],
)
def test_a_wrong_command_line(arguments: tuple[str, ...], words: str, folder: Path, retrainer: Runner) -> None:
    line = the_line(retrainer(*arguments), 2)
    assert words in line
    command = {"trian": "retrainer"}.get(arguments[0], f"retrainer {arguments[0]}")
    assert f"`{command} --help`" in line


def test_no_project_here(tmp_path: Path, retrainer: Runner) -> None:
    line = the_line(retrainer("train", cwd=tmp_path), 2)
    assert "no project here" in line
    assert "`retrainer init`" in line


@pytest.mark.slow
@pytest.mark.parametrize("command", ["history", "init x"])
def test_a_current_folder_that_was_deleted(command: str, tmp_path: Path) -> None:
    done = in_shell(f"mkdir gone; cd gone; rmdir ../gone; retrainer {command} 2>&1 | tail -n 1", tmp_path)
    assert (done.returncode, done.stdout) == (2, "Error: the current folder no longer exists. Change to another one\n")


def test_text_that_is_no_unicode_is_one_line(folder: Path, retrainer: Runner) -> None:
    line = the_line(retrainer("show", "caf\udce9"), 2)
    assert line.startswith("Error: '\\udce9' is not a Unicode character.")


def test_a_database_file_that_is_not_a_database(folder: Path, retrainer: Runner) -> None:
    (folder / "data" / "retrainer.db").write_text("hello, " * 1000)
    line = the_line(retrainer("history"), 1)
    assert f"'{folder}/data/retrainer.db' is not a SQLite database" in line
    assert (folder / "data" / "retrainer.db").read_text().startswith("hello, ")


def test_a_config_file_that_is_not_yaml(folder: Path, retrainer: Runner) -> None:
    (folder / "config" / "config.yaml").write_text("retraining: [\n")
    line = the_line(retrainer("train"), 2)
    assert "is not YAML" in line


def test_a_wrong_setting_stops_the_command_before_it_writes_anything(sqlite_folder: Path, retrainer: Runner) -> None:
    configure(sqlite_folder, test_split="1.5")
    line = the_line(retrainer("train"), 2)
    assert "retraining.test_split: invalid value '1.5' (must be less than 1)" in line
    assert not (sqlite_folder / "data" / "retrainer.db").exists()


def test_errors_are_documents_with_json(folder: Path, retrainer: Runner) -> None:
    done = retrainer("show", "nope", "--json")
    assert done.code == 2
    assert done.json == {
        "error": {
            "code": "unknown_name",
            "message": "unknown version 'nope'",
            "hint": "`retrainer versions` lists them",
        }
    }
    assert the_line(done, 2).startswith("Error: unknown version")


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A path below which no folder can be created, not even by root: it is a file."""
    path = tmp_path / "file"
    path.write_text("in the way")
    return path


def test_a_project_folder_that_cannot_be_written(folder: Path, retrainer: Runner, unwritable: Path) -> None:
    line = the_line(retrainer("init", str(unwritable / "project"), cwd=folder), 1)
    assert "cannot create a project in" in line
    environ = {"RETRAINER_DATABASE__URL": f"sqlite:///{unwritable}/x.db"}
    assert "cannot create the folder" in the_line(retrainer("history", env=environ), 1)


def test_a_models_folder_that_cannot_be_written(folder: Path, retrainer: Runner, unwritable: Path) -> None:
    import_posts(retrainer, folder, regular_posts(100))
    line = the_line(retrainer("train", "timing", "--quiet", RETRAINER_MODELS_DIR=str(unwritable / "models")), 1)
    assert f"cannot write to '{unwritable}/models'" in line
    assert retrainer("versions", "--json").json["count"] == 0
    (run,) = retrainer("history", "--json").json["training_runs"]
    assert run["status"] == "failed"


@pytest.mark.slow
def test_a_read_only_models_folder(folder: Path, retrainer: Runner, powerless_retrainer: Runner) -> None:
    import_posts(retrainer, folder, regular_posts(100))
    (folder / "models").chmod(0o555)
    line = the_line(powerless_retrainer("train", "timing", "--quiet"), 1)
    (folder / "models").chmod(0o755)
    assert f"cannot write to '{folder}/models': Permission denied" in line
    assert retrainer("production", "--json").json["timing_model"] is None


@pytest.mark.slow
def test_a_file_without_read_permission(folder: Path, powerless_retrainer: Runner) -> None:
    (folder / "posts.csv").write_text("id,date\n")
    (folder / "posts.csv").chmod(0)
    line = the_line(powerless_retrainer("posts", "import", "posts.csv"), 1)
    assert "cannot read 'posts.csv': Permission denied" in line


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"RETRAINER_POSTS__TABLE": "postz"}, "posts.table: no table 'postz' in"),
        ({"RETRAINER_POSTS__URL": "sqlite:///gone.db"}, "cannot be opened"),
        (
            {"RETRAINER_POSTS__TABLE": "retrainer_holds"},
            "posts.columns.post_id: the table 'retrainer_holds' in",
        ),
    ],
)
def test_a_missing_table_of_posts(environ: dict[str, str], problem: str, folder: Path, retrainer: Runner) -> None:
    assert problem in the_line(retrainer("posts", "count", env=environ), 2 if "TABLE" in str(environ) else 1)
    assert not (folder / "gone.db").exists()


def test_an_unreachable_database_shows_no_password(folder: Path, retrainer: Runner) -> None:
    pytest.importorskip("psycopg", reason="the extra 'postgresql' is not installed")
    url = "postgresql+psycopg://someone:hush-hush@127.0.0.1:1/none"
    line = the_line(retrainer("history", RETRAINER_DATABASE__URL=url), 1)
    assert "hush-hush" not in line
    assert "127.0.0.1" in line
    done = retrainer("history", "--traceback", "--verbose", RETRAINER_DATABASE__URL=url)
    assert "Traceback" in done.err
    assert "hush-hush" not in done.err


def test_a_file_whose_rows_are_all_rejected_is_an_error(folder: Path, retrainer: Runner) -> None:
    (folder / "posts.csv").write_text("id,created_at,text\n1,soon,a\n2,later,b\n")
    for options in ([], ["--allow-rejects"]):
        line = the_line(retrainer("posts", "import", "posts.csv", *options), 1)
        assert "cannot import 'posts.csv': all 2 rows are rejected: 2 × line 2: the time 'soon'" in line


def test_strict_refuses_a_file_with_a_rejected_row(folder: Path, retrainer: Runner) -> None:
    rows = "".join(f"{number},2024-01-01T10:00,a\n" for number in range(10))
    (folder / "posts.csv").write_text(f"id,created_at,text\n{rows}10,later,b\n")
    line = the_line(retrainer("posts", "import", "posts.csv", "--strict"), 1)
    assert "cannot import 'posts.csv': 1 of 11 rows are rejected: 1 × line 12: the time 'later'" in line
    assert retrainer("posts", "count", "--json").json["count"] == 0
    loose = retrainer("posts", "import", "posts.csv", "--json").json
    assert (loose["added"], len(loose["rejected"])) == (10, 1)


def test_more_than_a_tenth_of_rejected_rows_refuses_a_file(folder: Path, retrainer: Runner) -> None:
    rows = "".join(f"{number},2024-01-01T10:00,a\n" for number in range(8))
    (folder / "posts.csv").write_text(f"id,created_at,text\n{rows}8,later,b\n")
    line = the_line(retrainer("posts", "import", "posts.csv"), 1)
    assert "1 of 9 rows are rejected: 1 × line 10: the time 'later'" in line
    assert "or import the others with --allow-rejects" in line
    assert retrainer("posts", "count", "--json").json["count"] == 0
    assert retrainer("posts", "import", "posts.csv", "--allow-rejects", "--json").json["added"] == 8


def test_an_invalid_column_mapping(folder: Path, retrainer: Runner) -> None:
    (folder / "posts.csv").write_text("id,when,message\n1,2024-01-01,hello\n")
    assert "'content' is not of the form" in the_line(
        retrainer("posts", "import", "posts.csv", "--column", "content"), 2
    )
    done = retrainer(
        "posts", "import", "posts.csv", "--column", "created_at=when", "--column", "content=message", "--json"
    )
    assert done.json["mapping"] == {"post_id": "id", "created_at": "when", "content": "message"}
    assert done.json["added"] == 1


@pytest.mark.parametrize("value", ["12345", "2024-99-99", "0 o'clock"])
@pytest.mark.parametrize(("rows", "first"), [("= 'p00007'", "p00007"), ("!= ''", "p00000")])
def test_rows_that_another_program_wrote_without_a_time(
    value: str, rows: str, first: str, folder: Path, retrainer: Runner
) -> None:
    import_posts(retrainer, folder, regular_posts(60))
    stored = int(value) if value.isdigit() else value
    with closing(sqlite3.connect(folder / "data" / "retrainer.db")) as database, database:
        database.execute(f"UPDATE posts SET created_at = ? WHERE post_id {rows}", [stored])
    line = the_line(retrainer("train", "timing", "--quiet"), 1)
    assert f"cannot read the time '{value}' of the post '{first}' in the table 'posts' of" in line
    assert f"'{folder}/data/retrainer.db'. Correct the row in the database" in line
    status = retrainer("status")
    assert (status.code, f"the database holds '{value}' instead of a time" in status.err) == (1, True), status


def test_a_row_that_another_program_wrote_without_json(folder: Path, retrainer: Runner) -> None:
    import_posts(retrainer, folder, regular_posts(60))
    assert retrainer("train", "timing", "--quiet").code == 0
    with closing(sqlite3.connect(folder / "data" / "retrainer.db")) as database, database:
        database.execute("UPDATE retrainer_model_versions SET hyperparameters = '{'")
    line = "Error: the database holds '{' instead of JSON. Correct the row, or restore a backup"
    for command in ("versions", "predict timing", "train timing --quiet"):
        assert line.removeprefix("Error: ") in the_line(retrainer(*command.split()), 1)


@pytest.mark.parametrize(
    ("setting", "command"),
    [("database.url", "versions"), ("posts.url", "posts count"), ("tuning.storage_url", "tune --show")],
)
def test_the_setting_of_a_database_that_is_none_is_named(
    setting: str, command: str, folder: Path, retrainer: Runner
) -> None:
    (folder / "text.db").write_text("not a database\n" * 100)
    variable = f"RETRAINER_{setting.replace('.', '__').upper()}"
    for url, code, problem in (
        ("sqlite:///text.db", 1, f"is not a SQLite database. Check {setting}"),
        ("nonsense", 2, f"{setting} is not a database URL"),
    ):
        assert problem in the_line(retrainer(*command.split(), env={variable: url}), code)


def test_unusable_rows_of_a_foreign_table_are_skipped(folder: Path, retrainer: Runner) -> None:
    connection = sqlite3.connect(folder / "theirs.db")
    connection.execute("CREATE TABLE posts (post_id, created_at, content)")
    rows = [
        (1, "2024-01-01T00:00:00Z", "a"),
        (2, None, "b"),
        (None, "2024-01-02", "c"),
        (4, "soon", "d"),
        (5, 2.5, "e"),
    ]
    connection.executemany("INSERT INTO posts VALUES (?, ?, ?)", rows)
    connection.commit()
    connection.close()
    done = retrainer("posts", "count", "--json", RETRAINER_POSTS__URL="sqlite:///theirs.db")
    assert done.code == 0
    assert done.json["count"] == 1
    assert "Left out 1 post of" in done.err
    assert "Left out 3 posts of" in done.err


@pytest.mark.parametrize(
    "closed", [*(pytest.param(closed, marks=pytest.mark.slow) for closed in (">&-", "2>&-")), ">&- 2>&-"]
)
def test_a_closed_stream_does_not_stop_a_run(closed: str, folder: Path, retrainer: Runner) -> None:
    import_posts(retrainer, folder, regular_posts(60))
    command = f"{sys.executable} -m retrainer train timing {closed}"
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S602
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
    assert retrainer("history", "--json").json["training_runs"][0]["status"] == "completed"


@pytest.mark.slow
def test_a_closed_pipe_on_stderr_does_not_stop_a_run(folder: Path, retrainer: Runner) -> None:
    import_posts(retrainer, folder, regular_posts(60))
    command = f"{sys.executable} -m retrainer train timing 2>&1 >/dev/null | head -n 1"
    subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=True)  # noqa: S602
    assert retrainer("production", "--json").json["timing_model"] is not None


def in_shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line in which `retrainer` is the program, in a shell where any part of a pipe may fail."""
    script = f'set -o pipefail; retrainer() {{ {sys.executable} -m retrainer "$@"; }}; {command}'
    return subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("command", "code", "line"),
    [
        ("train --help", 1, "cannot write: No space left on device. Check path, permissions and free space"),
        pytest.param(
            "production --json", 1, "cannot write the result: No space left on device", marks=pytest.mark.slow
        ),
        pytest.param(
            "show nope --json", 2, "unknown version 'nope'. `retrainer versions` lists them", marks=pytest.mark.slow
        ),
    ],
)
def test_a_full_disk_on_stdout_is_one_line(command: str, code: int, line: str, folder: Path) -> None:
    done = in_shell(f"retrainer {command} > /dev/full", folder)
    assert (done.returncode, done.stderr) == (code, f"Error: {line}\n")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("--help", 0),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [("plugins", 0), ("show nope --json", 2)]),
    ],
)
def test_a_reader_that_has_enough_does_not_change_the_exit_code(command: str, code: int, folder: Path) -> None:
    done = in_shell(f"retrainer {command} | true", folder)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1 if code else 0)


@pytest.mark.slow
def test_json_is_valid_on_a_terminal_without_unicode(folder: Path, retrainer_process: Runner) -> None:
    done = retrainer_process("hold", "timing", "--reason", "é 😀", "--json", PYTHONIOENCODING="ascii")
    assert done.json["status"] == "success"
    done = retrainer_process("show", "é 😀", "--json", PYTHONIOENCODING="ascii")
    assert done.json["error"]["message"] == "unknown version 'é 😀'"


@pytest.mark.slow
def test_unencodable_characters_are_escaped(folder: Path, retrainer: Runner, retrainer_process: Runner) -> None:
    import_posts(retrainer, folder, regular_posts(60))
    done = retrainer_process("train", "timing", PYTHONIOENCODING="ascii")
    assert done.code == 0
    assert "\\u2713 Model promoted to production!" in done.err


def test_a_dry_run_reports_a_production_version_whose_plugin_is_missing(
    folder: Path, retrainer: Runner, plugins: Plugins
) -> None:
    import_posts(retrainer, folder, regular_posts(100))
    plugins.add("gone", timing_algorithm("gone", 1))
    assert retrainer("train", "timing", "--algorithm", "gone", env=plugins.environ).code == 0
    done = retrainer("train", "timing", "--dry-run", "--json")
    assert done.code == 1
    assert "cannot forecast: unknown algorithm 'gone'" in done.json["training_runs"][0]["promotion_reason"]


@pytest.mark.parametrize(
    "environ",
    [
        {"_RETRAINER_COMPLETE": "complete_bash"},
        {"_RETRAINER_COMPLETE": "complete_bash", "COMP_WORDS": "retrainer", "COMP_CWORD": "x"},
    ],
)
def test_the_completion_of_a_shell_that_passes_no_words(
    folder: Path, retrainer: Runner, environ: dict[str, str]
) -> None:
    line = the_line(retrainer(env=environ), 2)
    assert line.startswith("Error: _RETRAINER_COMPLETE is set, but not what a shell passes for completion. Unset it")
