"""The commands about the settings: config show, get, set, check."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retrainer import console, files, project, settings_edit, settings_file
from retrainer.algorithms import manager as algorithms
from retrainer.cli import groups
from retrainer.cli.options import AsJson, stream_option
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.posts.sources import manager as sources
from retrainer.registry import store
from retrainer.render import documents

if TYPE_CHECKING:
    from retrainer.config import Settings

app = typer.Typer(rich_markup_mode=None)
config_app = typer.Typer(cls=groups.SuggestingGroup, rich_markup_mode=None, help="Show, check and change the settings.")
app.add_typer(config_app, name="config")

_Stream = Annotated[str | None, stream_option("The settings of this stream.")]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Such as retraining.test_split.")]


@config_app.command("show")
def config_show(context: typer.Context, *, stream: _Stream = None, as_json: AsJson = False) -> None:
    """Show every setting, its value and where it was set.

    Passwords are hidden. --stream applies the settings under `streams` that match the stream.

    Example: retrainer config show
    """
    path, rows = _rows(context, stream)
    if as_json:
        console.document(documents.project.SettingsDocument.model_validate({"file": str(path), "settings": rows}))
        return
    cells = [(row.key, row.source, json.dumps(row.value, ensure_ascii=False)) for row in rows]
    console.table(["key", "source", "value"], cells, title=str(path))


@config_app.command("get")
def config_get(context: typer.Context, key: KeyArgument, *, stream: _Stream = None, as_json: AsJson = False) -> None:
    """Print the value of a setting.

    A section is printed as JSON.

    Example: retrainer config get retraining.test_split
    """
    _, rows = _rows(context, stream)
    value = settings_file.find_setting(rows, key)
    console.result(
        {"key": key, "value": value}, value if isinstance(value, str) else json.dumps(value), as_json=as_json
    )


@config_app.command("set")
def config_set(
    context: typer.Context,
    key: KeyArgument,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="As in the settings file (YAML).")],
    *,
    as_json: AsJson = False,
) -> None:
    """Change a setting in the settings file.

    Comments stay. The file is only written if all settings are valid afterwards.

    Example: retrainer config set retraining.min_new_posts 50
    """
    path = settings_file.find_config_file(Path.cwd(), os.environ, context.obj)
    parts = settings_file.parse_key(key)
    content = settings_file.read_file(path)
    settings_file.parse_settings(content, path, {})
    changed = settings_edit.change_key(content.decode(), parts, value, path).encode()
    settings, _ = settings_file.parse_settings(changed, path, {}, written=False)
    _check(settings, path, key)
    with files.report_write_errors(path):
        files.write_atomically(path, changed, path.stat().st_mode & 0o777)
    variable = settings_file.overriding_variable(parts, os.environ)
    note = f"; {variable} in the environment overrides it" if variable else ""
    console.success(f"Set {key} in '{path}'{note}", key=key, as_json=as_json)


@config_app.command("check")
def config_check(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Check the settings.

    It checks the settings file, the environment, the database URLs, and the options of algorithms and sources. Exits
    with 2 if something is wrong.

    Example: retrainer config check
    """
    path = settings_file.find_config_file(Path.cwd(), os.environ, context.obj)
    settings, _ = settings_file.parse_settings(settings_file.read_file(path), path, os.environ)
    _check(settings, path)
    console.success(f"The settings in '{path}' are valid", file=str(path), as_json=as_json)


def _rows(context: typer.Context, stream: str | None = None) -> tuple[Path, list[settings_file.Setting]]:
    """Return the settings file, and the settings, of a stream or as they are written, all of them checked."""
    path = settings_file.find_config_file(Path.cwd(), os.environ, context.obj)
    settings, origins = settings_file.parse_settings(settings_file.read_file(path), path, os.environ)
    options = _plugin_options(settings)
    if stream is not None:
        settings = settings.for_stream(stream)
        options = _algorithm_options(settings)
    return path, settings_file.list_settings(settings, origins, options, stream)


def _check(settings: Settings, path: Path, changed: str = "") -> None:
    """Check what the settings alone do not show: the options of plugins, and URLs; nothing is connected to.

    Args:
        changed: the setting or section whose URL is checked; empty for all.
    """
    from retrainer.registry import database  # noqa: PLC0415  sqlalchemy is slow to import

    _plugin_options(settings)
    urls = {
        "database.url": settings.database.url,
        "posts.url": settings.posts.url,
        "tuning.storage_url": settings.tuning.storage_url,
    }
    for key, url in urls.items():
        if url is not None and key.startswith(changed):
            database.create_engine(url, project.folder_of(path), read_only=True, setting=key)


def _plugin_options(settings: Settings) -> dict[str, dict[str, Any]]:
    """Let the plugins check the options of the chosen algorithms, also of single streams, and of the sources.

    The library of a store is checked, too.

    Returns:
        For `timing_model` and `content_model`, the algorithm's name and all its options.
    """
    with console.working():  # a plugin may take long to import, and print
        if settings.uses_store:
            store.Store(settings.models_dir)
        for name, source in settings.posts.sources.items():
            sources.load_source(name, source)
    for pattern in settings.streams:
        _algorithm_options(settings.for_stream(pattern))
    return _algorithm_options(settings)


def _algorithm_options(settings: Settings) -> dict[str, dict[str, Any]]:
    options = {}
    with console.working():
        for model_type in MODEL_TYPE_NAMES:
            model = settings.model(model_type)
            algorithm = algorithms.load_algorithm(model.algorithm, model_type)
            checked = algorithm.options(model.options(model.algorithm), model_type)
            options[f"{model_type}_model"] = {model.algorithm: checked.model_dump(mode="json")}
    return options
