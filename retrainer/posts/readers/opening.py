"""Find the files of posts that a user names, and open each with the reader of its format."""

from __future__ import annotations

import os
import stat
import sys
import tarfile
import zipfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from retrainer.errors import PostsError
from retrainer.files import open_regular
from retrainer.posts.feeds import is_feed
from retrainer.posts.git_log import is_git_log
from retrainer.posts.readers import commits, compression, delimited, excel, feed, json, parquet
from retrainer.posts.readers.limits import LimitedFile
from retrainer.posts.readers.options import ReadOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from retrainer.config import PostsLimits
    from retrainer.export_format import ExportFormat
    from retrainer.posts.records import PostsTable

STANDARD_INPUT = Path("-")
MAX_FILES = 100_000  # in an archive or a folder

_NO_OPTIONS = ReadOptions()
_HIDDEN = (".", "__MACOSX")
_ZIP_MARKS = (b"PK\3\4", b"PK\5\6")
_TAR_MARK = slice(257, 262)


@dataclass(frozen=True)
class ReadableFile:
    """A file to read, or one file of an archive or a folder.

    Attributes:
        name: where it is, for messages: a path, `archive.zip: data/tweets.js`, or `standard input`.
        is_member: whether it was found in an archive or a folder. The user did not name it, and it need not hold posts.
    """

    name: str
    is_member: bool
    _limits: PostsLimits
    _path: str
    _open: Callable[[], IO[bytes]]
    _is_compressed: bool = False

    @contextmanager
    def open(self, options: ReadOptions = _NO_OPTIONS) -> Iterator[PostsTable]:
        """Open the file. It may be opened several times, with other options.

        Raises:
            PostsError: the file is missing, unreadable, damaged, in an unknown format, or exceeds a limit; also while
                rows are read.
        """
        with _translate_errors(self.name), ExitStack() as stack:
            binary = stack.enter_context(self._open())
            content = compression.decompress(binary)
            is_compressed = self._is_compressed or content is not None
            if content is not None:
                stack.enter_context(content)
                binary = content
            reader = _choose_reader(_plain_suffix(PurePosixPath(self._path)), binary)
            if reader in _MOVING and is_compressed:
                binary = stack.enter_context(compression.spool(binary, self.name, self._limits.file_megabytes))
            path = PurePosixPath(self._path)
            file = LimitedFile(binary, self.name, path, self._limits, is_compressed=is_compressed)
            yield reader(file, options)


def find_posts_files(
    paths: Sequence[Path], limits: PostsLimits, *, exports: Sequence[ExportFormat] = ()
) -> Iterator[ReadableFile]:
    """Find the files to read: as they are named, below a folder, or in a ZIP or tar archive.

    Archives and pipes stay open until the next file is asked for, so each file must be read before.

    Args:
        paths: files, folders, archives; `-` is standard input.
        limits: the limits of each file.
        exports: the known exports, the most important first. Of an archive or a folder, the files of the first export
            that has any are read, by its `members`; all files, if none has any.

    Raises:
        PostsError: there is no such file, or nothing to read in a folder or an archive.
    """
    for path in paths:
        yield from _find(path, limits, exports)


def _find(path: Path, limits: PostsLimits, exports: Sequence[ExportFormat]) -> Iterator[ReadableFile]:
    name = "standard input" if path == STANDARD_INPUT else str(path)
    with _translate_errors(name), ExitStack() as stack:
        if path != STANDARD_INPUT and stat.S_ISDIR(path.stat().st_mode):
            found = {str(PurePosixPath(*file.relative_to(path).parts)): file for file in _walk(path)}
            for member in _choose_members(list(found), exports, name):
                file = found[member]
                yield ReadableFile(str(file), True, limits, file.name, _opener(file))
            return
        opener = _opener(path)
        binary = stack.enter_context(opener())
        if not binary.seekable():  # a pipe can be read once
            binary = stack.enter_context(compression.spool(binary, name, limits.file_megabytes))
            opener = _reopener(binary)
        content = compression.decompress(binary)
        if _is_tar(content or binary):
            yield from _find_in_tar(content or binary, name, limits, exports)
            return
        if not _is_archive(binary):
            yield ReadableFile(name, False, limits, path.name, opener)
            return
        archive = stack.enter_context(zipfile.ZipFile(binary))
        infos = {info.filename: info for info in archive.infolist() if info.filename and not info.is_dir()}
        for member in _choose_members(list(infos), exports, name):
            yield ReadableFile(f"{name}: {member}", True, limits, member, partial(archive.open, infos[member]), True)


def _find_in_tar(
    binary: IO[bytes], name: str, limits: PostsLimits, exports: Sequence[ExportFormat]
) -> Iterator[ReadableFile]:
    with tarfile.open(fileobj=binary, mode="r:") as archive:
        infos: dict[str, tarfile.TarInfo] = {}
        for info in archive:
            if info.isfile():
                infos[info.name] = info
            if len(infos) > MAX_FILES:
                break
        for member in _choose_members(list(infos), exports, name):
            yield ReadableFile(f"{name}: {member}", True, limits, member, _tar_opener(archive, infos[member]), True)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, in the order of their names, without hidden ones and linked folders."""
    count = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(_HIDDEN))
        count += len(names)
        if count > MAX_FILES:
            raise PostsError(f"'{folder}' holds more than {MAX_FILES:,} files", hint="Choose a folder of posts")
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith(_HIDDEN))


def _choose_members(names: Sequence[str], exports: Sequence[ExportFormat], container: str) -> list[str]:
    """Return the files of an archive or a folder that belong to a known export, else those of a known suffix."""
    if len(names) > MAX_FILES:
        raise PostsError(f"'{container}' holds more than {MAX_FILES:,} files", hint="Choose an archive of posts")
    paths = {name: PurePosixPath(name) for name in names}
    visible = {name: path for name, path in paths.items() if not any(part.startswith(_HIDDEN) for part in path.parts)}

    def matching(patterns: Sequence[str]) -> list[str]:
        return [name for name, path in visible.items() if any(map(path.match, patterns))]

    for export in exports:
        if not export.archive_has or matching(export.archive_has):
            chosen = matching(export.members)
            if chosen:
                return chosen
    chosen = [name for name, path in visible.items() if _plain_suffix(path) in _READERS]
    if not chosen:
        hint = f"Choose one with a file that ends in {', '.join(_READERS)}"
        raise PostsError(f"'{container}' contains no file of posts", hint=hint)
    return chosen


def _plain_suffix(path: PurePosixPath) -> str:
    """Return the last suffix of a name in small letters, without that of a compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in compression.SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _opener(path: Path) -> Callable[[], IO[bytes]]:
    if path == STANDARD_INPUT:
        return lambda: open(sys.stdin.fileno(), "rb", closefd=False)
    return lambda: open_regular(path, pipe=True)


def _reopener(binary: IO[bytes]) -> Callable[[], IO[bytes]]:
    """Return an opener of what is open already and must stay so."""

    def reopen() -> IO[bytes]:
        file = open(os.dup(binary.fileno()), "rb")  # noqa: PTH123, SIM115  not a path; the caller closes it
        file.seek(0)  # both share their position
        return file

    return reopen


def _tar_opener(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def extract() -> IO[bytes]:
        file = archive.extractfile(info)
        assert file is not None  # noqa: S101  only of a folder
        return file

    return extract


def _is_tar(binary: IO[bytes]) -> bool:
    """Whether a file, decompressed, is a tar archive."""
    return compression.peek(binary, _TAR_MARK.stop)[_TAR_MARK] == b"ustar"


def _is_archive(binary: IO[bytes]) -> bool:
    """Whether a file is a ZIP archive, and not a workbook, which is one too."""
    if not compression.peek(binary, 4).startswith(_ZIP_MARKS):
        return False
    with zipfile.ZipFile(binary) as archive:
        names = archive.namelist()
    binary.seek(0)
    return "[Content_Types].xml" not in names


@contextmanager
def _translate_errors(name: str) -> Iterator[None]:
    """Translate errors of the file as a whole into a PostsError."""
    damaged, again = f"'{name}' is not a complete compressed file", "Download or compress it again"
    try:
        yield
    except (*compression.ERRORS, zipfile.BadZipFile, tarfile.TarError) as error:
        raise PostsError(damaged, hint=again) from error
    except NotImplementedError as error:  # of zipfile
        raise PostsError(f"cannot read '{name}': {error}", hint="Compress it with another method") from error
    except FileNotFoundError as error:
        raise PostsError(f"there is no file '{name}'", hint="Check the path") from error
    except OSError as error:
        if error.errno is None:  # of bz2; the errors of the system have numbers
            raise PostsError(damaged, hint=again) from error
        problem = error.strerror or error
        raise PostsError(f"cannot read '{name}': {problem}", hint="Check the path and its permissions") from error
    except RuntimeError as error:
        if "password" not in str(error):
            raise
        raise PostsError(f"'{name}' is encrypted", hint="Unpack it, and import the folder") from error


_READERS: dict[str, Callable[[LimitedFile, ReadOptions], PostsTable]] = {
    ".csv": delimited.read,
    ".tsv": delimited.read,
    ".json": json.read,
    ".jsonl": json.read,
    ".ndjson": json.read,
    ".js": json.read,
    ".parquet": parquet.read,
    ".xlsx": excel.read,
    **dict.fromkeys((".xml", ".rss", ".atom"), feed.read),
}


_MOVING = (parquet.read, excel.read)  # to and fro in their file


def _choose_reader(suffix: str, binary: IO[bytes]) -> Callable[[LimitedFile, ReadOptions], PostsTable]:
    """Return the reader of a file, by its content where that cannot be mistaken, else by its suffix."""
    head = compression.peek(binary, 2**12)
    if head.startswith(b"PAR1"):
        return parquet.read
    if head.startswith(_ZIP_MARKS):  # an archive has been opened before
        return excel.read
    if is_feed(head):
        return feed.read
    if is_git_log(head.decode("utf-8", "ignore")):
        return commits.read
    if suffix in _READERS:
        return _READERS[suffix]
    start = head.decode("utf-8-sig", "ignore").lstrip()
    return json.read if start.startswith(("{", "[")) else delimited.read
