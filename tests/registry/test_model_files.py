"""A model is loaded from the bytes whose hash was checked, and from regular files of its own folder only."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from retrainer.doctor import examine
from retrainer.errors import ArtifactError
from retrainer.pipeline.evaluations import evaluate_version
from retrainer.pipeline.forecast import predict_next
from retrainer.pipeline.loading import load_version
from retrainer.pipeline.promotion import promote_version
from retrainer.pipeline.run import retrain
from retrainer.registry.tables import VersionFile
from tests.conftest import NOW, open_project, runtime_of, train_timing, version_folder
from tests.registry.test_integrity import TELLTALE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion
    from tests.conftest import Prepare
    from tests.plugins_for_tests import Plugins


@pytest.fixture
def project(folder: Path, prepare: Prepare) -> Project:
    prepare(folder, train_timing)
    return open_project(folder)


@pytest.fixture
def version(project: Project) -> ModelVersion:
    (version,) = project.registry.list_versions("timing")
    return version


@pytest.fixture
def folder_of_version(project: Project, version: ModelVersion) -> Path:
    return version_folder(project, "timing", version.version_id)


@pytest.fixture
def two_faced(folder_of_version: Path) -> Iterator[Path]:
    """A pipe in place of a model that serves the true bytes to its first reader, and a forgery to all others."""
    path = folder_of_version / "model.json"
    true = path.read_bytes()
    model = json.loads(true)
    forged = json.dumps(
        {name: [50.0] * len(value) if isinstance(value, list) else value for name, value in model.items()}
    )
    path.unlink()
    os.mkfifo(path)
    stopped = threading.Event()

    def serve() -> None:
        content = true
        while not stopped.is_set():
            with suppress(BrokenPipeError), path.open("wb") as pipe:  # waits for a reader
                path.unlink()
                os.mkfifo(path)  # for the next one
                pipe.write(content)
            content = forged.encode()

    server = threading.Thread(target=serve)
    server.start()
    yield path
    stopped.set()
    with suppress(FileNotFoundError):
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    server.join()


@pytest.mark.usefixtures("two_faced")
def test_a_pipe_cannot_serve_one_model_to_the_check_and_another_to_the_forecast(
    project: Project, version: ModelVersion
) -> None:
    refusal = f"cannot read 'model.json' of '{version.version_id}': it is a pipe, not a regular file"
    with pytest.raises(ArtifactError, match=refusal):
        predict_next(project, runtime_of(project), "timing", NOW)
    evaluations = len(project.registry.list_evaluations(version.version_id))
    with pytest.raises(ArtifactError, match=refusal):
        evaluate_version(project, runtime_of(project), version.version_id, NOW)
    assert len(project.registry.list_evaluations(version.version_id)) == evaluations


def make_socket(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{here}/{path.name}")  # the name of a socket is short
    os.close(here)


def make_device(path: Path) -> None:
    with suppress(PermissionError):  # only root makes one
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    if not path.exists():
        os.mkfifo(path)


def test_only_a_regular_file_is_read(project: Project, version: ModelVersion, folder_of_version: Path) -> None:
    path = folder_of_version / "model.json"
    makers: tuple[Callable[[Path], None], ...] = (
        os.mkfifo,
        make_socket,
        make_device,
        lambda path: path.symlink_to("/dev/zero"),
        os.mkdir,
    )
    for make in makers:
        path.unlink()
        make(path)
        with pytest.raises(ArtifactError, match=f"'model.json' of '{version.version_id}': it is a "):
            load_version(project, runtime_of(project), version)
    assert len(examine(project)) == 1


def test_a_folder_that_is_a_link_is_not_followed(
    project: Project, version: ModelVersion, folder_of_version: Path
) -> None:
    for linked in (folder_of_version, folder_of_version.parent):
        linked.rename(project.folder / "elsewhere")
        linked.symlink_to(project.folder / "elsewhere")
        with pytest.raises(ArtifactError, match=f"'{linked.name}' is a link or not a folder"):
            load_version(project, runtime_of(project), version)
        linked.unlink()
        (project.folder / "elsewhere").rename(linked)


def test_the_size_is_compared_before_anything_is_read(
    project: Project, version: ModelVersion, folder_of_version: Path
) -> None:
    path = folder_of_version / "model.json"
    size = path.stat().st_size
    os.truncate(path, 1 << 40)  # a sparse file of 1 TiB
    with pytest.raises(ArtifactError, match=f"was modified: it has {1 << 40} bytes, recorded were {size}"):
        load_version(project, runtime_of(project), version)


def test_a_missing_file_is_read_from_the_database_and_nothing_is_written(
    project: Project, version: ModelVersion, folder_of_version: Path
) -> None:
    shutil.rmtree(folder_of_version)
    assert load_version(project, runtime_of(project), version).model
    assert not folder_of_version.exists()


def test_a_promotion_restores_the_files_that_are_missing_behind_the_link(
    project: Project, version: ModelVersion
) -> None:
    second = retrain(project, runtime_of(project), "timing", NOW, auto_promote=False).run
    assert second
    path = version_folder(project, "timing", str(second.model_version_id)) / "model.json"
    path.unlink()
    promote_version(project, runtime_of(project), str(second.model_version_id), "newer", NOW)
    assert (project.models_dir / "timing_model" / "model.json").samefile(path)


def test_an_odd_path_in_the_database_is_refused_before_anything_is_opened(
    project: Project, version: ModelVersion
) -> None:
    for path in ("../other/model.json", "/etc/model.json", "a/./b", "a\\b", "a//b", "a\nb", "MODEL.json"):
        with project.registry.database.write() as session:
            row = VersionFile(version_id=version.version_id, path=path, sha256="0" * 64, size=2, data=b"{}")
            session.add(row)
        for use in (
            lambda: load_version(project, runtime_of(project), version),
            lambda path=path: project.artifacts.restore_file(version, path),
        ):
            with pytest.raises(ArtifactError, match="is not a plain relative path|differs from another one only in"):
                use()
        with project.registry.database.write() as session:
            session.execute(sa.delete(VersionFile).where(VersionFile.path == path))


PRYING = TELLTALE.replace(
    "    return json.loads(",
    """    import os, stat
        with open({telltale!r}, "a") as file:
            for folder, _, names in os.walk(directory):
                file.write(f"{{oct(stat.S_IMODE(os.stat(folder).st_mode))}} {{sorted(names)}}\\n")
            file.write(f"{{directory}}\\n")
        return json.loads(""",
)


def test_a_plugin_loads_from_a_private_copy_of_the_verified_bytes(
    project: Project, plugins: Plugins, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    telltale = tmp_path / "telltale"
    plugins.add("telltale", PRYING.format(telltale=str(telltale)))
    monkeypatch.syspath_prepend(str(plugins.site))
    monkeypatch.delitem(sys.modules, "retrainer_telltale_module", raising=False)  # of the other database
    run = retrain(project, runtime_of(project), "timing", NOW, algorithm="telltale").run
    assert run
    telltale.unlink()  # training loads the model too
    load_version(project, runtime_of(project), project.registry.get_version(str(run.model_version_id)))
    *seen, directory = telltale.read_text().splitlines()
    assert seen == ["read", "0o700 ['model.json']", "0o755 ['weights.bin']"]
    assert not directory.startswith(str(project.models_dir))
    assert not os.path.exists(directory)  # noqa: PTH110
