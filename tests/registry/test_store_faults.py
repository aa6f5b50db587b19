"""A store that fails is one line, the right exit code, and nothing half-recorded."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest.mock import patch

import fsspec
import pytest
from s3fs import S3FileSystem

from retrainer.doctor import examine
from retrainer.registry.place import sha256
from tests.command_line import with_default_signals
from tests.conftest import configure, import_regular_posts, open_project, train_timing, with_new_database
from tests.registry.test_store import objects, of_versions
from tests.store_server import CREDENTIALS, FaultyProxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from retrainer.project import Project
    from tests.command_line import Runner
    from tests.store_server import Fault

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def running_proxy(s3_endpoint: str) -> Iterator[FaultyProxy]:
    with FaultyProxy.run(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def proxy(running_proxy: FaultyProxy) -> FaultyProxy:
    """A proxy without a fault, which has passed on no request."""
    running_proxy.fault, running_proxy.applies_to = "none", ""
    running_proxy.requests.clear()
    running_proxy.was_put.clear()
    return running_proxy


@pytest.fixture
def folder(sqlite_folder: Path, request: pytest.FixtureRequest) -> Path:
    """A project folder with a database that several machines share, as they share a store."""
    return with_new_database(sqlite_folder, "postgresql", request)


@pytest.fixture
def project(folder: Path, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": proxy.endpoint}.items():
        monkeypatch.setenv(name, value)
    limits = {"read_timeout": 60, "retries": {"max_attempts": 1}}
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": limits})  # it reads FSSPEC_S3 when it is imported
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    bucket = f"bucket-{sha256(str(folder).encode())[:12]}"
    S3FileSystem().mkdir(bucket)
    configure(folder, models_dir=f"s3://{bucket}/models")
    return open_project(folder)


@contextmanager
def failing(proxy: FaultyProxy, fault: Fault, applies_to: str) -> Iterator[None]:
    """Let requests whose path has this part fail."""
    limits = {"read_timeout": 2 if fault == "silence" else 60, "retries": {"max_attempts": 1}}
    with patch.dict(fsspec.config.conf, {"s3": {"config_kwargs": limits}}):
        proxy.fault, proxy.applies_to = fault, applies_to
        yield
        proxy.fault = "none"


def versions(project: Project) -> set[str]:
    return {version.version_id for version in project.registry.list_versions()}


@pytest.mark.parametrize(
    ("fault", "applies_to"),
    [
        *[(fault, "/timing/") for fault in ("error 500", "silence", "changed bytes", "half an answer")],
        *[("error 500", part) for part in ("", ".uploads", "evaluations")],
    ],
)
def test_training_fails_in_one_line_and_records_nothing_by_half(
    project: Project, retrainer: Runner, proxy: FaultyProxy, fault: Fault, applies_to: str
) -> None:
    live = train_timing(project.folder)
    before = versions(project)
    with failing(proxy, fault, applies_to):
        failed = retrainer("train", "timing", cwd=project.folder)
    if fault in {"error 500", "silence"}:
        errors = [line for line in failed.err.splitlines() if ": cannot " in line and not line.startswith("WARNING")]
        assert (failed.code, len(errors)) == (1, 1), failed.err
    assert retrainer("predict", "timing", cwd=project.folder).code == 0
    for version_id in versions(project) - before:
        assert project.artifacts.find_file_problems(project.registry.get_version(version_id)) == {}
    assert retrainer("train", "timing", cwd=project.folder).code == 0
    assert examine(project) == []
    assert of_versions(objects(project)) == versions(project)
    assert live in versions(project)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("error 500", "Error: cannot read 's3://"),
        ("silence", "Error: cannot read 's3://"),
        ("changed bytes", "Error: "),
        ("half an answer", "Error: cannot read 's3://"),
    ],
)
def test_a_forecast_fails_in_one_line(
    project: Project, elsewhere: Path, retrainer: Runner, proxy: FaultyProxy, fault: Fault, message: str
) -> None:
    train_timing(project.folder)
    (project.folder / ".retrainer/models").rename(project.folder / "cache of another machine")
    with failing(proxy, fault, "/timing/"):
        failed = retrainer("predict", "timing", cwd=project.folder)
    assert (failed.code, failed.err.count("\n"), failed.out) == (1, 1, "")
    assert failed.err.startswith(message)
    assert retrainer("predict", "timing", cwd=project.folder).code == 0


def test_a_lost_answer_to_the_announcement_of_an_upload_does_no_harm(
    project: Project, retrainer: Runner, proxy: FaultyProxy
) -> None:
    train_timing(project.folder)
    with failing(proxy, "lost answer", "/.uploads/"):
        assert retrainer("train", "timing", cwd=project.folder).code == 0
    assert proxy.was_put.is_set()
    assert len(versions(project)) == 2
    assert examine(project) == []


def test_a_run_makes_few_requests(project: Project, proxy: FaultyProxy) -> None:
    """docs/store.md states these numbers."""
    train_timing(project.folder)
    proxy.requests.clear()
    train_timing(project.folder)
    assert (proxy.requests.count("PUT"), proxy.requests.count("DELETE")) == (7, 3)


def test_an_interrupted_upload_is_cleared_by_the_next_run(
    project: Project, retrainer: Runner, proxy: FaultyProxy
) -> None:
    train_timing(project.folder)
    before = versions(project)
    proxy.fault, proxy.applies_to = "silence", "/timing/"
    command = [sys.executable, "-m", "retrainer", "train", "timing"]
    with subprocess.Popen(
        command,
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=with_default_signals,  # noqa: PLW1509
    ) as process:
        assert proxy.was_put.wait(600)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=600)
    assert process.returncode == 130
    assert versions(project) == before
    proxy.fault = "none"
    assert len(project.artifacts.find_abandoned()) == 1
    assert retrainer("train", "timing", cwd=project.folder).code == 0
    assert examine(project) == []
    assert of_versions(objects(project)) == versions(project)


def test_the_parts_of_a_large_file_that_a_dead_process_left_are_removed(project: Project) -> None:
    train_timing(project.folder)
    (version,) = project.registry.list_versions()
    version.version_id = "baseline_timing_20200101_000000_0000"
    store = S3FileSystem()
    bucket = project.settings.models_dir.split("/")[2]
    for key in ("large.bin", "models/timing/baseline_timing_20200101_000000_0000/large.bin"):
        store.call_s3("create_multipart_upload", Bucket=bucket, Key=key)
    with pytest.raises(KeyboardInterrupt), project.artifacts.staging("timing") as staging:
        project.artifacts.stage_files(staging, version, {"large.bin": b"1"})
        with staging.keep_if_recorded():
            raise KeyboardInterrupt
    project.artifacts.clear_abandoned()
    left = store.call_s3("list_multipart_uploads", Bucket=bucket)["Uploads"]
    assert [upload["Key"] for upload in left] == ["large.bin"], "it is not retrainer's"


def test_without_credentials_the_line_says_which_variables(
    project: Project, retrainer: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_timing(project.folder)
    (project.folder / ".retrainer/models").rename(project.folder / "cache of another machine")
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    S3FileSystem.clear_instance_cache()  # a process looks at these variables once
    failed = retrainer("predict", "timing", cwd=project.folder)
    S3FileSystem.clear_instance_cache()
    assert (failed.code, failed.err.count("\n")) == (2, 1), failed.err
    assert "AWS_ACCESS_KEY_ID" in failed.err


def test_a_bucket_that_does_not_exist_is_one_line(project: Project, retrainer: Runner) -> None:
    import_regular_posts(project.folder)
    configure(project.folder, models_dir="s3://nowhere/models")
    failed = retrainer("train", "timing", cwd=project.folder)
    assert failed.code == 1
    assert "cannot write 's3://nowhere/models/.database-id': The specified bucket does not exist" in failed.err
