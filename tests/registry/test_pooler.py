"""PostgreSQL behind PgBouncer in transaction mode, where each transaction may run on another connection."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from retrainer.posts.sample import sample_posts
from tests.conftest import NOW, configure, open_project
from tests.programs import free_port, installed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.command_line import Runner

pytestmark = pytest.mark.slow


@pytest.fixture
def pooled_url(postgresql_url: str, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database behind a pooler with two connections for each user and database."""
    program = installed("pgbouncer")
    name, data = re.findall(r"/(\w+)\?host=(.+)", postgresql_url)[0]
    owner = Path(data).stat()
    settings = Path(data) / f"{name}.ini"  # where the user of the server can read it
    port = free_port()
    settings.write_text(
        f"""
        [databases]
        {name} = host={data} dbname={name} user=postgres
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = any
        pool_mode = transaction
        default_pool_size = 2
        """
    )
    with subprocess.Popen(
        [program, settings], user=owner.st_uid, group=owner.st_gid, extra_groups=[], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        while "process up" not in process.stderr.readline():
            assert process.poll() is None
        yield f"postgresql://someone@127.0.0.1:{port}/{name}"
        process.terminate()


def test_two_trainings_succeed_behind_a_pooler_of_transactions(
    sqlite_folder: Path, pooled_url: str, retrainer: Runner
) -> None:
    configure(sqlite_folder, url=f'"{pooled_url}"')
    project = open_project(sqlite_folder)
    project.posts.add(sample_posts(), NOW)
    project.close()
    for _ in range(2):
        done = retrainer("train")
        assert done.code == 0, done.err
    assert retrainer("backup", "x.backup").code == 0
    done = retrainer("restore-backup", "x.backup", "--replace", "--yes")
    assert done.code == 0, done.err
    assert retrainer("doctor").code == 0


def test_two_clients_of_a_pooler_take_turns(sqlite_folder: Path, pooled_url: str) -> None:
    """Each sends the same statements so often that a driver would prepare them, under the same names."""
    configure(sqlite_folder, url=f'"{pooled_url}"')
    projects = [open_project(sqlite_folder), open_project(sqlite_folder)]
    for number in range(20):
        for project in projects:
            project.registry.hold("timing", f"the holidays {number}", NOW)
            with project.registry.database.write():
                pass
