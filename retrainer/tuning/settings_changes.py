"""The lines of the settings file that make a stream train with the options of a trial."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import yaml

from retrainer import files, settings_edit, settings_file
from retrainer.errors import ConfigError
from retrainer.pipeline.loading import load_configured_algorithm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retrainer.config import Key
    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.runtime import Runtime

Changes = dict["Key", Any]  # values of keys, as JSON

_PATTERN_CHARACTERS = set("*?[]")


def list_changes(
    project: Project, runtime: Runtime, model_type: ModelTypeName, algorithm: str, options: Mapping[str, Any]
) -> Changes:
    """Return the keys to change, with their values, so that a stream trains with an algorithm and these options.

    A stream of several, or one that has settings of its own, gets keys of its own under `streams`.

    Args:
        project: seen from the stream.
        algorithm: the name of the algorithm.
        options: all its options, as JSON.

    Raises:
        ConfigError: the settings file cannot be read.
    """
    path = project.config_file
    # Without the environment, which a file cannot change.
    settings, _ = settings_file.parse_settings(settings_file.read_file(path), path, {})
    settings = settings.for_stream(project.stream)
    section: Key = (f"{model_type}_model",)
    if settings.list_patterns(project.stream) or len(project.list_streams()) > 1:
        section = ("streams", project.stream, *section)
    changes: Changes = {}
    if settings.model(model_type).algorithm != algorithm:
        changes[*section, "algorithm"] = algorithm
    _, configured = load_configured_algorithm(settings, runtime, model_type, algorithm)
    current = configured.model_dump(mode="json")
    for name, value in options.items():
        if current.get(name) != value:
            changes[*section, algorithm, name] = value
    return changes


def write_changes(
    project: Project, runtime: Runtime, model_type: ModelTypeName, algorithm: str, options: Mapping[str, Any]
) -> tuple[Changes, list[str]]:
    """Write what `list_changes` returns to the settings file; its comments and all other lines stay as they are.

    The file is only written if all settings are valid afterwards, and the stream then has these options.

    Returns:
        The changes, and the variables of the environment that override them.

    Raises:
        ConfigError: the file cannot be changed so.
        RetrainerError: it cannot be written.
    """
    changes = list_changes(project, runtime, model_type, algorithm, options)
    path = project.config_file
    text = settings_file.read_file(path).decode()
    for key, value in changes.items():
        if key[0] == "streams" and _PATTERN_CHARACTERS & set(project.stream):
            raise _by_hand(f"the name of the stream '{project.stream}' is also a pattern that matches others")
        written = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
        text = settings_edit.change_key(text, key, written, path)
    changed = text.encode()
    settings = settings_file.parse_settings(changed, path, {}, written=False)[0].for_stream(project.stream)
    chosen, configured = load_configured_algorithm(settings, runtime, model_type)
    if chosen.name != algorithm or configured != chosen.recorded_options(dict(options), model_type):
        raise _by_hand(f"they would be merged with others of the stream '{project.stream}'")
    with files.report_write_errors(path):
        files.write_atomically(path, changed, path.stat().st_mode & 0o777)
    variables = (settings_file.overriding_variable(key, os.environ) for key in changes)
    return changes, sorted({variable for variable in variables if variable})


def format_changes(changes: Changes) -> str:
    """Return the changes as the lines of a settings file."""
    tree: dict[str, Any] = {}
    for key, value in changes.items():
        section = tree
        for name in key[:-1]:
            section = section.setdefault(name, {})
        section[key[-1]] = value
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).rstrip()


def _by_hand(problem: str) -> ConfigError:
    return ConfigError(f"cannot write the tuned options: {problem}", hint="Change the settings by hand")
