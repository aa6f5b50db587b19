"""Studies are in a storage of Optuna's own: beside SQLite, in `.retrainer`, or where `tuning.storage_url` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
import pytest
import sqlalchemy as sa

from retrainer.errors import ConfigError, DatabaseError
from retrainer.project import create_project
from retrainer.tuning.storage import close_storage, open_storage, storage_file, storage_url
from retrainer.tuning.study import list_studies
from tests.conftest import configure, open_project
from tests.tuning.conftest import tuned

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from retrainer.project import Project


def test_a_project_on_sqlite_has_its_studies_beside_its_database(five_hours: Project) -> None:
    assert storage_file(five_hours) == five_hours.folder / "data" / "tuning.db"
    assert list_studies(five_hours) == []
    assert not (five_hours.folder / "data" / "tuning.db").exists()  # looking creates nothing
    name = tuned(five_hours, trials=2).report.summary.name
    url = f"sqlite:///{five_hours.folder}/data/tuning.db"
    study = optuna.load_study(study_name=name, storage=url)  # as anybody else opens it
    assert study.trials[0].user_attrs["options"] == {"hours": 30.0, "label": "none"}
    assert study.metric_names == ["overall_score"]


def test_a_project_on_postgresql_has_its_studies_in_a_file_of_its_own(sqlite_folder: Path, postgresql_url: str) -> None:
    configure(sqlite_folder, url=f'"{postgresql_url}"')
    project = open_project(sqlite_folder)
    assert storage_file(project) == project.folder / ".retrainer" / "tuning.db"


@pytest.mark.slow
def test_studies_on_postgresql(five_hours: Project, make_postgresql_database: Callable[[], str]) -> None:
    url = make_postgresql_database()
    configure(five_hours.folder, storage_url=f'"{url}"')
    project = open_project(five_hours.folder)
    result = tuned(project, trials=4)
    assert [study.name for study in list_studies(project)] == [result.report.summary.name]
    assert storage_file(project) is None
    assert not (project.folder / "data" / "tuning.db").exists()


def test_the_studies_may_have_a_schema_in_the_database_of_the_project(sqlite_folder: Path, postgresql_url: str) -> None:
    engine = sa.create_engine(postgresql_url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE SCHEMA tuning"))
    configure(sqlite_folder, url=f'"{postgresql_url}"')
    configure(sqlite_folder, storage_url=f'"{postgresql_url}"')
    with pytest.raises(ConfigError, match="tuning.storage_url is the database of the project") as error:
        storage_url(open_project(sqlite_folder))
    assert "search_path%3Dtuning" in error.value.hint
    configure(sqlite_folder, storage_url=f'"{postgresql_url}&options=-csearch_path%3Dtuning&prepare_threshold=5"')
    project = open_project(sqlite_folder)
    project.registry.list_streams()  # creates the tables of the project
    open_storage(project).engine.dispose()
    tables = sa.inspect(engine).get_table_names("tuning")
    assert {"studies", "trials"} <= set(tables)
    assert "studies" not in sa.inspect(engine).get_table_names("public")
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("sqlite:///data/retrainer.db", ConfigError, "tuning.storage_url is the database of the project"),
        ("nonsense", ConfigError, "tuning.storage_url is not a database URL"),
        ("mysql://host/name", ConfigError, "unsupported database 'mysql'"),
        ("postgresql://me:secret-word@127.0.0.1:1/name", DatabaseError, "Check that the server is running"),
    ],
)
def test_a_wrong_url_is_an_error_of_one_line(
    five_hours: Project, url: str, error: type[Exception], message: str
) -> None:
    configure(five_hours.folder, storage_url=f'"{url}"')
    with pytest.raises(error) as raised:
        open_storage(open_project(five_hours.folder))
    assert message in str(raised.value)
    assert "secret-word" not in str(raised.value)


def test_a_file_that_is_no_database_is_an_error_of_one_line(five_hours: Project) -> None:
    (five_hours.folder / "data" / "tuning.db").write_text("some notes about tuning\n" * 100)
    with pytest.raises(DatabaseError, match="tuning.db' is not a SQLite database"):
        open_storage(five_hours)


def test_studies_of_others_in_the_storage_are_left_alone(five_hours: Project) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.create_study(study_name="mine", storage=f"sqlite:///{five_hours.folder}/data/tuning.db")
    name = tuned(five_hours, trials=2).report.summary.name
    assert [study.name for study in list_studies(five_hours)] == [name]


@pytest.mark.parametrize("name", ["100%20 {SCHEMA_DIR} #1", "was?"])
def test_a_project_folder_may_have_any_name(name: str, tmp_path: Path) -> None:
    create_project(tmp_path / name)
    project = open_project(tmp_path / name)
    if "?" in name:
        with pytest.raises(ConfigError, match="contains a question mark. Set tuning.storage_url"):
            open_storage(project)
    else:
        close_storage(open_storage(project))
        assert (tmp_path / name / "data" / "tuning.db").is_file()
        assert project.owns(tmp_path / name / "data" / "tuning.db")
