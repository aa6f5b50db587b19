"""Programs that some tests need: found on the machine, or installed if possible."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def installed(name: str) -> str:
    """Return the path of a program, which is in the Debian package of that name; skip the test if it is missing."""
    found = shutil.which(name, path=_PATH)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", name]):
            with suppress(subprocess.TimeoutExpired):
                subprocess.run(command, env=environ, capture_output=True, check=False, timeout=300)
        found = shutil.which(name, path=_PATH)
    if found is None:
        pytest.skip(f"no program {name}, and it cannot be installed: install the Debian package {name}")
    return found


def free_port() -> int:
    """Return a port for a server that is yet to start: one that Linux by default gives to no other socket meanwhile.

    Each process of tests has ports of its own. They are below 10,000, since Ray's workers use those from 10,002.
    """
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 15
    while True:
        port = 7_000 + 200 * number + random.randrange(200)  # noqa: S311  no secret
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextmanager
def process_named(name: str, folder: Path) -> Iterator[None]:
    """Run a process of this name, as a stand-in for a daemon."""
    program = folder / name
    shutil.copy(str(shutil.which("sleep")), program)
    with subprocess.Popen([program, "600"]) as process:
        try:
            assert psutil.Process(process.pid).name() == name
            yield
        finally:
            process.kill()
