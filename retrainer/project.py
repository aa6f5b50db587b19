"""A project: the folder that `retrainer init` lays out, its settings, and what is kept in it, opened when needed."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from retrainer.errors import ConfigError, RetrainerError, UnknownName, UsageError, did_you_mean
from retrainer.files import write_atomically
from retrainer.posts.validation import shorten
from retrainer.settings_file import CONFIG_FILE, find_config_file, load_settings
from retrainer.streams import DEFAULT_STREAM, is_pattern, matches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from importlib.resources.abc import Traversable

    from retrainer.config import Settings
    from retrainer.model_types import ModelTypeName
    from retrainer.posts.store import PostStore
    from retrainer.registry.artifacts import Artifacts
    from retrainer.registry.place import Place
    from retrainer.registry.production_links import ProductionLinks
    from retrainer.registry.registry import Registry
    from retrainer.registry.tables import ModelVersion

STUDIES_FILE = "tuning.db"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Project:
    """One project folder, seen from one of its streams. Registry, model files and posts are opened on first use.

    Attributes:
        folder: the project folder, absolute; relative paths of the settings start here.
        config_file: the settings file, absolute.
        settings: the checked settings, of the stream.
        stream: the stream that settings, registry and posts are of.
        opened_by: the project that this one was made from with `for_stream`, which closes the connections.
    """

    folder: Path
    config_file: Path
    settings: Settings
    stream: str = field(default=DEFAULT_STREAM, kw_only=True)
    opened_by: Project | None = field(default=None, kw_only=True, repr=False, compare=False)

    @classmethod
    def find(cls, start: Path, environ: Mapping[str, str], config: Path | None = None) -> Project:
        """Find the project from `start` upward, or by the settings file given.

        Raises:
            ConfigError: there is no project, or its settings are wrong.
        """
        config_file = find_config_file(start, environ, config)
        return cls(folder_of(config_file), config_file, load_settings(config_file, environ).for_stream(DEFAULT_STREAM))

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[Project]:
        """Open the project in a folder or above it, with the environment of this process, and close it at the end.

        Raises:
            ConfigError: there is no project, or its settings are invalid.
        """
        project = cls.find(folder.absolute(), os.environ)
        try:
            yield project
        finally:
            project.close()

    def for_stream(self, stream: str) -> Project:
        """Return the project seen from another stream, which need not exist, on the same connections."""
        settings = self.settings.for_stream(stream)
        return replace(self, stream=stream, settings=settings, opened_by=self.opened_by or self)

    def choose_stream(self, name: str | None = None) -> Project:
        """Return the project seen from the stream with a name; without one, from the one chosen before or the only one.

        Raises:
            UnknownName: there is no such stream.
            UsageError: there are several, and none is named.
        """
        if self.opened_by is not None and name in {None, self.stream}:
            return self
        if name is not None and self._has_stream(name):
            return self.for_stream(name)
        return self.for_stream(pick_stream(name, self.list_streams()))

    def select_streams(self, patterns: Sequence[str] | None) -> list[str] | None:
        """Return the names of the streams that match one of the patterns, sorted; None without patterns: all streams.

        Raises:
            UnknownName: a pattern matches none, or there is no stream of a name.
        """
        if not patterns:
            return None
        names = {pattern for pattern in patterns if self._has_stream(pattern)}  # also one such as 'a[b]'
        others = [pattern for pattern in patterns if pattern not in names]
        if not others:
            return sorted(names)  # names need no list of all
        streams = self.list_streams()
        for pattern in others:
            found = {name for name in streams if matches(pattern, name)}
            if not found:
                raise _unknown_stream(pattern, streams)
            names |= found
        return sorted(names)

    def select_one(self, patterns: Sequence[str] | None) -> str | None:
        """Return the stream that is chosen by its exact name, or is the only one; None for any other selection.

        What matches a pattern is a list, even of one: an answer does not change its form when more streams come.

        Raises:
            UnknownName: a pattern matches none, or there is no stream of a name.
        """
        names = self.select_streams(patterns) or self.list_streams()
        return names[0] if len(names) == 1 and set(patterns or names) == set(names) else None

    def _has_stream(self, name: str) -> bool:
        return self.registry.has_stream(name) or self.posts.table.has_stream(name)

    def find_version(self, name: str, stream: str | None = None) -> tuple[Project, ModelVersion]:
        """Find a version by its name; return the project, seen from the stream of the version, and the version.

        Args:
            name: an ID or a part of one, which need no stream, or a role such as `timing@production`.
            stream: the stream that the version must be of; None for any.

        Raises:
            UnknownName: there is no such version in the stream, or no such stream.
            UsageError: there are several versions of the name, or several streams for a role.
        """
        seen = self.choose_stream(stream) if stream is not None or "@" in name else self
        version = seen.registry.find_version(name)
        require_stream(version.version_id, version.stream, stream)
        return self.for_stream(version.stream), version

    def list_streams(self) -> list[str]:
        """Return the names of the streams, sorted: those with posts or versions; `default` if there are none."""
        return sorted({*self._list_streams_of_posts(), *self.registry.list_streams()}) or [DEFAULT_STREAM]

    def _list_streams_of_posts(self) -> list[str]:
        settings, opened = self.settings.posts, "posts" in self.__dict__
        if not opened and settings.url is None:  # without the store of the posts, which imports pandas
            names = self.registry.list_streams_of_posts(settings.table)
            if names is not None:
                return names
        try:
            return self.posts.table.list_streams()
        except RetrainerError as error:  # a database of posts that cannot be reached must not prevent a rollback
            log.debug("Cannot list the streams of the posts: %s", error)
            return []

    @property
    def models_dir(self) -> Path:
        """The folder of model files, absolute; if they are in a store, that of its cache and of files to upload."""
        if self.settings.uses_store:
            return self.folder / ".retrainer" / "models"
        return self.folder / self.settings.models_dir

    def version_path(self, model_type: ModelTypeName, version_id: str) -> str:
        """Return the path of a version's folder, as the settings name the models folder."""
        return f"{self.settings.models_dir}/{model_type}/{version_id}"

    @property
    def studies_url(self) -> str:
        """The URL of the studies of `tune`: the configured one, or a file beside SQLite, or in `.retrainer`."""
        from retrainer.registry.database import sqlite_files  # noqa: PLC0415

        files = sqlite_files(self.settings.database.url, self.folder)
        folder = files[0].parent if files else self.folder / ".retrainer"
        return self.settings.tuning.storage_url or f"sqlite:///{quote(str(folder / STUDIES_FILE))}"

    @property
    def answers_dir(self) -> Path:
        """Where the answers of paid calls are kept until the run that asked for them is over."""
        return self.folder / ".retrainer" / "answers"

    @cached_property
    def registry(self) -> Registry:
        """What is remembered: versions, runs, evaluations, decisions."""
        from retrainer.registry.database import Database  # noqa: PLC0415  SQLAlchemy is slow to import
        from retrainer.registry.registry import Registry  # noqa: PLC0415

        if self.opened_by is not None:
            return Registry(self.opened_by.registry.database, (self.stream,))
        return Registry(Database.open(self.settings.database.url, self.folder, self.models_dir), (self.stream,))

    @cached_property
    def artifacts(self) -> Artifacts:
        """The model files."""
        from retrainer.registry.artifacts import Artifacts  # noqa: PLC0415

        place = self.open_place(self.registry) if self.opened_by is None else self.opened_by.artifacts.place
        return Artifacts(place, self.registry)

    def open_place(self, registry: Registry) -> Place:
        """Return where the model files are.

        Raises:
            ConfigError: the library for the store is not installed.
        """
        if self.settings.uses_store:
            from retrainer.registry.store import Store  # noqa: PLC0415
            from retrainer.registry.store_place import StorePlace  # noqa: PLC0415

            return StorePlace(Store(self.settings.models_dir), self.models_dir, registry)
        from retrainer.registry.folder_place import FolderPlace  # noqa: PLC0415

        return FolderPlace(self.models_dir, registry)

    @property
    def production_links(self) -> ProductionLinks:
        """The links to the production versions."""
        from retrainer.registry.production_links import ProductionLinks  # noqa: PLC0415

        return ProductionLinks(self.artifacts, self.registry)

    @cached_property
    def posts(self) -> PostStore:
        """The posts, in the project's database or in a foreign one that is only read."""
        from retrainer.posts.opening import open_posts  # noqa: PLC0415

        if self.opened_by is not None:
            return self.opened_by.posts.for_stream(self.stream)
        return open_posts(self.settings.posts, self.registry.database, self.folder)

    def owns(self, path: Path) -> bool:
        """Whether a path, followed through links, is one of the project's files: settings, databases, model files."""
        from retrainer.registry.database import sqlite_files  # noqa: PLC0415
        from retrainer.registry.model_files import in_models_folder  # noqa: PLC0415

        urls = filter(None, (self.settings.database.url, self.settings.posts.url, self.studies_url))
        files = [self.config_file, *(file for url in urls for file in sqlite_files(url, self.folder))]
        resolved = Path(os.path.realpath(path))  # `resolve` fails for a link to itself
        return (
            any(_is_same(resolved, file) for file in files)
            or in_models_folder(resolved, self.models_dir.resolve())
            or resolved.is_relative_to(self.answers_dir.parent.resolve())
        )

    def semantic_model(self, model_type: ModelTypeName) -> str | None:
        """Return the folder, or the package's name, of what forecasts of a type are measured in meaning by; or None."""
        name = self.settings.retraining.content_model.semantic_model
        if name is None or model_type != "content":
            return None
        folder = self.folder / Path(name).expanduser()
        return str(folder) if folder.exists() else name

    def close(self) -> None:
        """Give back the database connections that were opened."""
        if self.opened_by is not None:
            return
        if "posts" in self.__dict__:
            self.posts.close()
        if "registry" in self.__dict__:
            self.registry.database.close()


def pick_stream(name: str | None, streams: Sequence[str]) -> str:
    """Return the stream with a name; without one, the only stream.

    Raises:
        UnknownName: there is no such stream.
        UsageError: there are several, and none is named.
    """
    if name is not None and name not in streams:
        raise _unknown_stream(name, streams)
    if name is None and len(streams) > 1:
        raise UsageError(
            f"the project has {len(streams)} streams",
            hint="Choose one with --stream; `retrainer streams` lists them",
        )
    return name or streams[0]


def _unknown_stream(name: str, streams: Sequence[str]) -> UnknownName:
    hint = did_you_mean(name, streams) or "`retrainer streams` lists them"
    return UnknownName(f"{'no stream matches' if is_pattern(name) else 'unknown stream'} '{shorten(name)}'", hint=hint)


def require_stream(name: str, stream: str, given: str | None) -> None:
    """Check that a version or a run is of the stream that was given, if one was.

    Raises:
        UnknownName: it is of another one.
    """
    if given not in {None, stream}:
        raise UnknownName(f"'{name}' belongs to the stream '{shorten(stream)}', not '{shorten(given or '')}'")


def folder_of(config_file: Path) -> Path:
    """Return the project folder of a settings file: config/config.yaml, as `init` lays it out, or one beside it."""
    return config_file.parent.parent if config_file.parent.name == "config" else config_file.parent


def require_foreign(option: str, path: Path, config: Path | None = None) -> None:
    """Check that a file to write to is none of the project's own.

    Args:
        option: the option that names it, for the message.
        config: the settings file, if one was given.

    Raises:
        UsageError: it is one of the project's own files.
    """
    try:
        config_file = find_config_file(Path.cwd(), os.environ, config)
    except ConfigError:  # no project
        return
    is_own = _is_same(Path(os.path.realpath(path)), config_file)
    with suppress(ConfigError):  # the command reports wrong settings
        is_own = is_own or Project.find(Path.cwd(), os.environ, config).owns(path)
    if is_own:
        raise UsageError(f"{option}: '{path}' belongs to the project", hint="Choose another file")


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one does not exist
        return path == other.resolve()


def create_project(folder: Path, *, deploy: bool = False) -> tuple[list[Path], list[Path]]:
    """Lay out a project folder: config/config.yaml, data/, models/. What is there already is kept.

    Args:
        deploy: whether deploy/ is wanted too, with files for cron, systemd, Docker, Render and GitHub.

    Returns:
        The paths made, and the paths found in place and left as they were.

    Raises:
        RetrainerError: the folder cannot be written.
    """
    made: list[Path] = []
    kept: list[Path] = []
    try:
        for part in (folder / "data", folder / "models", (folder / CONFIG_FILE).parent):
            (kept if part.is_dir() else made).append(part)
            part.mkdir(parents=True, exist_ok=True)
        wanted = {folder / CONFIG_FILE: default_config()}
        if deploy:
            (folder / "deploy").mkdir(exist_ok=True)
            wanted |= {folder / "deploy" / file.name: file for file in deploy_files()}
        for target, source in wanted.items():
            if os.path.lexists(target):  # also a link to a disk that is not mounted
                kept.append(target)
            else:
                write_atomically(target, source.read_bytes())  # half of it would be taken for the whole
                made.append(target)
    except OSError as error:
        raise RetrainerError(
            f"cannot create a project in '{folder}': {error.strerror}",
            hint="Choose a folder you can write to",
        ) from error
    return made, kept


def default_config() -> Traversable:
    """Return the shipped config.yaml: beside the package in a wheel, at the root of a checkout."""
    packaged = files("retrainer") / "config.default.yaml"
    return packaged if packaged.is_file() else Path(__file__).parent.parent / CONFIG_FILE


def deploy_files() -> list[Traversable]:
    """Return the shipped files of deploy/: in the package in a wheel, at the root of a checkout."""
    packaged = files("retrainer") / "deploy"
    folder: Traversable = packaged if packaged.is_dir() else Path(__file__).parent.parent / "deploy"
    return sorted((file for file in folder.iterdir() if file.is_file()), key=lambda file: file.name)
