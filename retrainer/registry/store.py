"""An object store, or any other place that fsspec reads and writes, below one URL.

Timeouts and retries are those of the library. What it raises becomes an error of one line that names the URL.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from retrainer.errors import ArtifactError, ConfigError, MissingCredentials
from retrainer.files import sync

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

INSTALL = "pip install 'retrainer[s3]'"
_ATTEMPTS = 2  # that s3fs makes, each with those of botocore: a store that does not answer is given up after 3 minutes


class Store:
    """The objects below a URL. A key is a relative path, such as `timing/<version>/model.json`."""

    def __init__(self, url: str) -> None:
        """Open a store without connecting to it.

        Raises:
            ConfigError: the library for its protocol is not installed, or the URL is wrong.
        """
        self.root_url = url.rstrip("/")
        self.protocol = url.partition("://")[0]
        try:
            from fsspec.core import url_to_fs  # noqa: PLC0415  slow to import, and an extra

            options: dict[str, Any] = {"use_listings_cache": False}
            if self.protocol == "file":
                options["auto_mkdir"] = True
            self._fs, self._root = url_to_fs(self.root_url, **options)
        except ImportError as error:
            raise ConfigError(
                f"models_dir: '{url}' needs a library that is not installed: {error.name or error}",
                hint=f"Run: {INSTALL}" if self.protocol in {"s3", "s3a", "file"} else "Install it",
            ) from error
        except ValueError as error:
            raise ConfigError(
                f"models_dir: invalid URL '{url}': {error}", hint="Use a URL such as s3://bucket/prefix"
            ) from error
        if self.protocol in {"s3", "s3a"}:
            self._fs.retries = _ATTEMPTS

    def url(self, key: str) -> str:
        return f"{self.root_url}/{key}"

    def read(self, key: str) -> bytes:
        """Return the content of an object.

        Raises:
            FileNotFoundError: there is none.
            ArtifactError: it cannot be read.
        """
        with self._errors("read", key):
            data: bytes = self._fs.cat_file(self._path(key))
        return data

    def read_all(self, keys: Iterable[str]) -> dict[str, bytes | Exception]:
        """Return the content of objects, read at the same time, or the error in place of each that failed."""
        paths = {self._path(key): key for key in keys}
        with self._errors("read", ""):
            found = self._fs.cat(list(paths), on_error="return") if paths else {}
        contents: dict[str, bytes | Exception] = {}
        for path, key in paths.items():
            try:
                with self._errors("read", key):
                    if isinstance(found[path], Exception):
                        raise found[path]
                contents[key] = found[path]
            except (FileNotFoundError, ArtifactError, MissingCredentials) as error:
                contents[key] = error
        return contents

    def write(self, key: str, data: bytes) -> None:
        """Write an object, and replace one that exists.

        Raises:
            ArtifactError: it cannot be written.
        """
        with self._errors("write", key):
            self._fs.pipe_file(self._path(key), data)
            self._sync(key)

    def create(self, key: str, data: bytes) -> None:
        """Write an object that does not exist.

        Raises:
            FileExistsError: it exists.
            ArtifactError: it cannot be written.
        """
        with self._errors("write", key), self._fs.open(self._path(key), "xb") as file:
            file.write(data)
        self._sync(key)

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are missing do no harm.

        Raises:
            ArtifactError: one of them cannot be removed.
        """
        for key in keys:
            with self._errors("remove", key):
                try:
                    self._fs.rm_file(self._path(key))
                except FileNotFoundError:
                    continue

    def move(self, key: str, target: str) -> None:
        """Copy an object to another key, then remove it.

        Raises:
            ArtifactError: it cannot be moved.
        """
        with self._errors("move", key):
            self._fs.cp_file(self._path(key), self._path(target))
        self.remove([key])

    def list_names(self, folder: str) -> list[str]:
        """Return the names directly below a folder.

        Raises:
            ArtifactError: they cannot be listed.
        """
        with self._errors("list", folder):
            try:
                found = self._fs.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
        names = (str(path).rstrip("/").rpartition("/")[2] for path in found)
        return sorted({name for name in names if name and name != folder.rpartition("/")[2]})

    def exists(self, key: str) -> bool:
        """Whether there is an object, or a folder of objects.

        Raises:
            ArtifactError: the store cannot be read.
        """
        with self._errors("read", key):
            return bool(self._fs.exists(self._path(key)))

    def find(self, folder: str) -> dict[str, int]:
        """Return the size in bytes of every object below a folder, by key.

        Raises:
            ArtifactError: they cannot be listed.
        """
        with self._errors("list", folder):
            try:
                found = self._fs.find(self._path(folder), detail=True)
            except FileNotFoundError:
                return {}
        return {str(path).removeprefix(f"{self._root}/"): int(info.get("size") or 0) for path, info in found.items()}

    def abort_multipart(self, keys: Iterable[str]) -> None:
        """Remove the parts of large objects that were not written to the end, where a store keeps such parts.

        Raises:
            ArtifactError: they cannot be removed.
        """
        if self.protocol not in {"s3", "s3a"}:
            return
        for key in keys:
            bucket, _, name = self._path(key).partition("/")
            with self._errors("remove", key):
                found = self._fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=name)
                for upload in found.get("Uploads", []):
                    if upload["Key"] == name:
                        arguments = {"Bucket": bucket, "Key": name, "UploadId": upload["UploadId"]}
                        self._fs.call_s3("abort_multipart_upload", **arguments)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _sync(self, key: str) -> None:
        """Make a file durable on a disk of this machine. An object store confirms what is."""
        if self.protocol == "file":
            from pathlib import Path  # noqa: PLC0415

            path = Path(self._path(key))
            for part in (path, *path.parents[: key.count("/") + 1]):
                sync(part)

    @contextmanager
    def _errors(self, verb: str, key: str) -> Iterator[None]:
        """Translate whatever a library raises, but for a file that is missing or exists."""
        try:
            yield
        except (FileNotFoundError, FileExistsError) as error:
            if verb != "write" or isinstance(error, FileExistsError):
                raise
            raise ArtifactError(f"cannot write '{self.url(key)}': {error}", hint="Check models_dir") from error
        except Exception as error:
            if type(error).__name__ in {"NoCredentialsError", "PartialCredentialsError"}:
                raise MissingCredentials(
                    f"no credentials for '{self.root_url}'", hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                ) from error
            hint = "Check the credentials and what they permit" if isinstance(error, PermissionError) else "Try again"
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ArtifactError(f"cannot {verb} '{self.url(key)}': {reason}", hint=hint) from error
