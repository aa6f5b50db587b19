"""The project as a worker on another machine opens it: by settings that were handed over, without secrets.

Secrets are the worker's own: in its environment, its settings file, or where the database's driver looks for them.
"""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from retrainer.errors import ConfigError, RetrainerError
from retrainer.project import Project, folder_of
from retrainer.settings_file import CONFIG_VARIABLE, load_settings, parse_settings
from retrainer.streams import DEFAULT_STREAM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retrainer.config import Settings

_NEEDED = {"database", "models_dir", "posts", "timing_model", "content_model", "retraining", "streams", "tuning"}
_POSTS_NEEDED = {"url", "table", "columns", "exclude"}


def portable_settings(project: Project) -> str:
    """Return what a worker needs of the settings, as YAML, without the passwords of the database URLs."""
    settings = project.settings.for_all
    tree = settings.model_dump(mode="json", exclude_unset=True, include=_NEEDED)
    tree["posts"] = {key: value for key, value in tree.get("posts", {}).items() if key in _POSTS_NEEDED}
    tree["database"] = {"url": _without_password(settings.database.url)}
    if settings.posts.url is not None:
        tree["posts"]["url"] = _without_password(settings.posts.url)
    if settings.tuning.storage_url is not None:
        tree["tuning"]["storage_url"] = _without_password(settings.tuning.storage_url)
    return yaml.safe_dump(tree, allow_unicode=True)


def open_elsewhere(config_file: Path, content: str, environ: Mapping[str, str]) -> Project:
    """Open a project by the settings that were handed over.

    The environment of the worker overrides them. If it has a settings file, named by `RETRAINER_CONFIG` or in the same
    place as the original, its project folder is used, and its password of the same database. Otherwise the folder is a
    cache of the user's: the models of a folder come from the database.

    Args:
        config_file: where the settings file is on the machine that handed them over.

    Raises:
        ConfigError: the settings are wrong here, or the database is a file of another machine.
    """
    own = Path(environ.get(CONFIG_VARIABLE) or config_file)
    own_file = own.resolve() if own.is_file() else None
    settings, _ = parse_settings(content.encode(), config_file, environ, written=False)
    if own_file is not None:
        settings = _with_passwords(settings, load_settings(own_file, environ))
        folder = folder_of(own_file)
    else:
        if settings.database.url.startswith("sqlite"):
            raise ConfigError(
                f"the worker on '{socket.gethostname()}' cannot open the SQLite database of '{config_file}'",
                hint="Use PostgreSQL, or workers on the machine of the project",
            )
        folder = _cache_folder(settings.database.url, environ)
    return Project(folder, own_file or config_file, settings.for_stream(DEFAULT_STREAM))


def _with_passwords(settings: Settings, own: Settings) -> Settings:
    """Return the settings with the URLs of the worker's own, where they differ in the password alone."""
    updates = {}
    if _without_password(own.database.url) == settings.database.url:
        updates["database"] = own.database
    if own.posts.url is not None and _without_password(own.posts.url) == settings.posts.url:
        updates["posts"] = settings.posts.model_copy(update={"url": own.posts.url})  # type: ignore[assignment]
    if own.tuning.storage_url is not None and _without_password(own.tuning.storage_url) == settings.tuning.storage_url:
        updates["tuning"] = settings.tuning.model_copy(update={"storage_url": own.tuning.storage_url})  # type: ignore[assignment]
    return settings.model_copy(update=updates)


def _without_password(url: str) -> str:
    from sqlalchemy import URL, make_url  # noqa: PLC0415  slow to import
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    try:
        parsed = make_url(url)
    except ArgumentError:  # opening the database reports it
        return ""
    query = {name: value for name, value in parsed.query.items() if name not in {"password", "sslpassword"}}
    parts = URL.create(
        parsed.drivername,
        parsed.username,
        host=parsed.host,
        port=parsed.port,
        database=parsed.database,
        query=query,
    )
    return parts.render_as_string(hide_password=False)


def _cache_folder(url: str, environ: Mapping[str, str]) -> Path:
    """Return a folder of the user's for the models of a database, and of files that a run needs for a while."""
    parent = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "retrainer"
    folder = parent / hashlib.sha256(_without_password(url).encode()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.chmod(folder, 0o700)  # noqa: PTH101
    except OSError as error:
        raise RetrainerError(
            f"cannot create '{folder}' on '{socket.gethostname()}': {error.strerror}",
            hint="Set XDG_CACHE_HOME, or RETRAINER_CONFIG, in the environment of the workers",
        ) from error
    return folder
