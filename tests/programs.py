"""Programs that some tests need: found on the machine, or installed if possible."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress

import pytest

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
