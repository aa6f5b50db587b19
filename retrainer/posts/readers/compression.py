"""Compressed files, recognised by their content: .gz, .bz2, .xz and .zst."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import tempfile
import zlib
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from retrainer.errors import PostsError
from retrainer.posts.readers.limits import MEGABYTE

if TYPE_CHECKING:
    from collections.abc import Callable

SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
ERRORS = (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError)

_BUFFER_BYTES = 2**17
_XZ_MEMORY = 2**28  # bytes; `xz -9` needs a quarter of it


def _open_xz(binary: IO[bytes]) -> Any:
    lzma.LZMADecompressor(memlimit=_XZ_MEMORY).decompress(binary.read(2**12), max_length=1)
    binary.seek(0)
    return lzma.LZMAFile(binary)


def _open_zstd(binary: IO[bytes]) -> Any:
    # Archives of Reddit are written with the largest window there is.
    return zstd.ZstdFile(binary, options={zstd.DecompressionParameter.window_log_max: 31})


_OPENERS: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda binary: gzip.GzipFile(fileobj=binary),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": _open_xz,
    b"\x28\xb5\x2f\xfd": _open_zstd,
    b"\x50\x2a\x4d\x18": _open_zstd,  # a frame to skip, before the first of data
}


def decompress(binary: IO[bytes]) -> Any:
    """Return the content of a compressed file as a file that can be read again from position 0; None of any other."""
    head = peek(binary, 6)
    for magic, opener in _OPENERS.items():
        if head.startswith(magic):
            return opener(binary)
    return None


def peek(binary: IO[bytes], count: int) -> bytes:
    """Return the first bytes of a file; leave it at position 0."""
    head = binary.read(count)
    binary.seek(0)
    return head


def spool(binary: IO[bytes], name: str, max_megabytes: int) -> IO[bytes]:
    """Copy a stream to a temporary file, for readers that need to move in it.

    Raises:
        PostsError: it is larger than the limit.
    """
    with ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile())
        left = max_megabytes * MEGABYTE
        while chunk := binary.read(_BUFFER_BYTES):
            left -= len(chunk)
            if left < 0:
                problem = f"'{name}' expands to more than {max_megabytes:,} MB"
                raise PostsError(problem, hint="Raise posts.limits.file_megabytes to import it")
            file.write(chunk)
        file.seek(0)
        stack.pop_all()  # the caller closes it
        return file
