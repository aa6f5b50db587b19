"""A cache on this machine of files by the SHA-256 of their content, which is checked whenever one is taken from it."""

from __future__ import annotations

import hashlib
import os
import random
from contextlib import suppress
from typing import TYPE_CHECKING

from retrainer.files import open_within

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1024**3
_BLOCK = 4096  # bytes on the disk that even the smallest file takes
_TRIMS = 20  # that happen, on average, while as much is added as the cache may hold


class FileCache:
    """Files in a folder. It may be lost, read-only or full at any time: it is only a cache."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder
        self._max_bytes = max_bytes

    def get(self, sha256: str) -> bytes | None:
        """Return the file with this hash; None if it is not there or was changed."""
        path = self._path(sha256)
        try:
            with open_within(self.folder, path.relative_to(self.folder).parts) as file:
                data = file.read()
        except OSError:
            return None
        with suppress(OSError):
            if hashlib.sha256(data).hexdigest() == sha256:
                os.utime(path)  # what was not used for longest is removed first
                return data
            path.unlink()
        return None

    def add(self, sha256: str, data: bytes) -> None:
        """Add a file, as far as that is possible."""
        path = self._path(sha256)
        temporary = path.with_name(f"{sha256}.{os.getpid()}.{random.getrandbits(32):08x}")
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(path)
            if random.random() * self._max_bytes < _TRIMS * (len(data) + _BLOCK):  # noqa: S311
                self._trim()

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256

    def _trim(self) -> None:
        """Remove the files that were not used for longest, down to 80% of the limit."""
        found = []
        for path in self.folder.glob("??/*"):
            with suppress(OSError):  # another process removed it
                stat = path.stat()
                found.append((stat.st_mtime, stat.st_size + _BLOCK, path))
        left = sum(size for _, size, _ in found)
        if left <= self._max_bytes:
            return
        for _, size, path in sorted(found):
            if left <= 0.8 * self._max_bytes:
                break
            path.unlink(missing_ok=True)
            left -= size
