"""Programs of the machine that some tests need: found, or installed where that can be done."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress

import pytest

_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def installed(name: str) -> str:
    """Return where a program is, of the Debian package of the same name; skip the test where it cannot be had."""
    found = shutil.which(name, path=_PATH)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", name]):
            with suppress(subprocess.TimeoutExpired):
                subprocess.run(command, env=environ, capture_output=True, check=False, timeout=300)
        found = shutil.which(name, path=_PATH)
    if found is None:
        pytest.skip(f"there is no {name} here, and it cannot be installed")
    return found
