"""A pipe, socket or device in the place of a file is refused at once, with one line. None of them is waited for."""

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from retrainer.algorithms.answer_cache import AnswerCache
from retrainer.files import open_output, write_output
from retrainer.serving.auth import load_auth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from retrainer.project import Project
    from tests.command_line import Runner


@pytest.fixture(autouse=True)
def _nothing_waits() -> Iterator[None]:
    """Fail a test that waits, instead of waiting with it."""

    def fail(*_: object) -> None:
        raise AssertionError("it waits for the other end")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def make_socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{folder}/{path.name}")  # the name of a socket must be short
    os.close(folder)


def make_block_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(7, 255))  # a loop device
    except PermissionError:  # only root makes one
        os.mkfifo(path)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["--log-file", "FILE", "versions"], 2),
        (["--config", "FILE", "versions"], 2),
        (["train", "timing", "--summary", "FILE"], 2),
        (["posts", "import", "FILE.csv"], 1),
        (["posts", "import", "FILE.jsonl.gz"], 1),
        (["posts", "import", "FILE.parquet"], 1),
        (["posts", "sample", "FILE"], 1),
        (["replay", "timing", "--from", "2024-01-01", "--plot", "FILE.png"], 2),
        (["serve", "--token-file", "FILE"], 2),
        (["serve", "--systemd", "--token-file", "FILE"], 2),
        (["serve", "--systemd", "--env-file", "FILE"], 2),
        (["schedule", "show", "--systemd", "--env-file", "FILE"], 2),
        (["schedule", "show", "--systemd", "--job-log", "FILE"], 2),
    ],
)
def test_no_pipe_socket_or_device_is_taken_for_a_file(
    command: list[str], code: int, folder: Path, retrainer: Runner
) -> None:
    (name,) = (word for word in command if word.startswith("FILE"))
    makers: tuple[Callable[[Path], None], ...] = (os.mkfifo, make_socket, make_block_device)
    for make in makers:
        make(folder / name)
        done = retrainer(*command)
        assert done.code == code, done
        (line,) = done.err.splitlines()
        assert name in line
        (folder / name).unlink()


def test_a_settings_file_that_is_a_pipe(folder: Path, retrainer: Runner) -> None:
    (folder / "config" / "config.yaml").unlink()
    os.mkfifo(folder / "config" / "config.yaml")
    done = retrainer("versions")
    assert done.code == 2
    assert "no project here" in done.err


def test_a_cached_answer_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key.json")
    assert AnswerCache(tmp_path).get("key") is None


@pytest.mark.slow
def test_null_the_terminal_and_the_own_output_are_written_to(
    project: Project, retrainer: Runner, retrainer_process: Runner
) -> None:
    trained = retrainer_process("--quiet", "--log-file", "/dev/stderr", "train", "timing", "--summary", "/dev/stdout")
    assert trained.code == 0
    assert "Model training complete" in trained.err
    assert "|" in trained.out
    assert retrainer("versions", "--log-file", "/dev/null").code == 0
    sampled = retrainer_process("posts", "sample", "/dev/stdout", "--count", "2", "--json")
    assert sampled.out.startswith("id,created_at,text")


def test_a_file_is_replaced_or_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for text, append in ((b"first", False), (b" second", True)):
        with open_output(path, append=append) as file:
            file.write(text)
    assert path.read_bytes() == b"first second"
    with open_output(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_a_planted_link_is_not_written_through(tmp_path: Path) -> None:
    """As in /tmp, where anyone may guess the name of the temporary file."""
    victim, path = tmp_path / "victim", tmp_path / "report.html"
    victim.write_text("precious")
    (tmp_path / f".report.html.{os.getpid()}").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        write_output(path, b"report")
    assert victim.read_text() == "precious"
    write_output(path, b"report")
    assert path.read_bytes() == b"report"


def test_the_link_of_the_user_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_output(tmp_path / "link", b"report")
    assert (tmp_path / "target").read_bytes() == b"report"
    assert (tmp_path / "link").is_symlink()


def test_a_token_may_come_from_another_program() -> None:
    """As in `--token-file <(pass show retrainer)`."""
    read, write = os.pipe()
    os.write(write, b"a-token-of-more-than-enough-characters\n")
    os.close(write)
    auth = load_auth({}, Path(f"/dev/fd/{read}"), "127.0.0.1", protect_reads=False, allowed_hosts=[])
    os.close(read)
    assert auth.token == "a-token-of-more-than-enough-characters"  # noqa: S105
