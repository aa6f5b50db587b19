"""The settings file: config.yaml, overlaid by the environment, checked as a whole.

The environment sets single keys (`RETRAINER_RETRAINING__TEST_SPLIT=0.3`) before validation, so a wrong value is
reported in the same way wherever it comes from.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from pydantic import BaseModel, ValidationError
from yaml.error import MarkedYAMLError

from retrainer.config import (
    ENV_PREFIX,
    MAY_HOLD_SECRETS,
    Key,
    ModelSettings,
    Settings,
    StreamSettings,
    first_error,
    unknown_key,
)
from retrainer.entry_points import installed_algorithms
from retrainer.errors import ConfigError, did_you_mean, invalid_value
from retrainer.export_format import ExportFormat
from retrainer.files import open_regular
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.redaction import mask_passwords

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic_core import ErrorDetails

CONFIG_VARIABLE = "RETRAINER_CONFIG"
RESERVED_VARIABLES = {CONFIG_VARIABLE, "RETRAINER_API_TOKEN"}
CONFIG_FILE = Path("config") / "config.yaml"

MAX_DEPTH, MAX_NODES = 50, 10_000  # of a settings file, with all its aliases expanded


class Sources(NamedTuple):
    """Where the keys were set.

    Attributes:
        file: the settings file; None if it does not have these keys yet.
        lines: the line of each key in the file.
        variables: the environment variable of each key that the environment sets.
    """

    file: Path | None
    lines: dict[Key, int]
    variables: dict[Key, str]

    def describe(self, key: Key) -> str:
        """Return where a key, or a section around it, was set: `line 12`, a variable's name, or `default`."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.variables:
                return self.variables[key[:end]]
        return f"line {self.lines[key]}" if key in self.lines else "default"

    def locate(self, key: Key) -> str:
        """Return where a key was set, or else the nearest section around it, as the start of a message."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.variables:
                return f"{self.variables[key[:end]]} in the environment: "
            if key[:end] in self.lines:
                return f"'{self.file}' line {self.lines[key[:end]]}: "
        return f"'{self.file}': " if self.file else ""


class Setting(NamedTuple):
    """A key of the settings, with its value as JSON, and where it was set: a line, a variable, or `default`."""

    key: str
    value: Any
    source: str


def find_config_file(start: Path, environ: Mapping[str, str], given: Path | None = None) -> Path:
    """Find the settings file: as given, by RETRAINER_CONFIG, or config/config.yaml from `start` upward.

    Raises:
        ConfigError: it does not exist.
    """
    variable = environ.get(CONFIG_VARIABLE)
    named = given or (Path(variable) if variable else None)
    if named is not None:
        file = start / named
        if not file.is_file():
            source = "--config" if given else CONFIG_VARIABLE
            raise ConfigError(f"no settings file '{named}' (from {source})", hint="Choose an existing config.yaml")
        return file.resolve()
    for folder in (start, *start.parents):
        if (folder / CONFIG_FILE).is_file():
            return (folder / CONFIG_FILE).resolve()
    raise ConfigError(
        f"no project here: no {CONFIG_FILE} in '{start}' or a folder above it",
        hint="Create a project with `retrainer init`, or choose one with --config",
    )


def load_settings(path: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read config.yaml, overlay the environment, and check every key.

    Raises:
        ConfigError: the file cannot be read or is not YAML, or a key or value is wrong.
    """
    return parse_settings(read_file(path), path, environ)[0]


def parse_settings(
    content: bytes, path: Path, environ: Mapping[str, str], *, written: bool = True
) -> tuple[Settings, Sources]:
    """Check the content of a settings file, overlaid by the environment; return the settings and where each is from.

    Args:
        content: YAML.
        path: the file, for messages.
        environ: the environment.
        written: whether the file has this content, so that messages may name its lines.

    Raises:
        ConfigError: it is not YAML, or a key or value is wrong.
    """
    tree, lines = _read_yaml(content, path)
    sources = Sources(path if written else None, lines if written else {}, _overlay_environment(tree, environ))
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise _explain(first_error(error), sources) from None
    for model_type in MODEL_TYPE_NAMES:
        section = f"{model_type}_model"
        _check_algorithms(settings.model(model_type), (section,), sources)
        for pattern, own in settings.streams.items():
            _check_algorithms(getattr(own, section), ("streams", pattern, section), sources)
    return settings, sources


def list_settings(
    settings: Settings, sources: Sources, options: Mapping[str, Mapping[str, Any]], stream: str | None = None
) -> list[Setting]:
    """Return every setting, without passwords.

    Args:
        settings: the settings; those of a stream if one is given.
        sources: where they were set.
        options: by section, such as `timing_model`, what to add to it: all options of its algorithm.
        stream: the stream, whose settings may come from a key of `streams`; None for the settings as they are written.
    """
    tree = settings.model_dump(mode="json")
    tree["streams"] = {name: own.model_dump(mode="json", exclude_unset=True) for name, own in settings.streams.items()}
    overrides = {} if stream is None else {name: tree["streams"][name] for name in settings.list_patterns(stream)}
    if stream is not None:
        del tree["streams"]
    for section, added in options.items():
        tree[section] |= added

    def source(key: Key) -> str:
        for pattern, own in reversed(overrides.items()):
            if _holds(own, key):
                return f"{sources.describe(('streams', pattern, *key))} (streams.{pattern})"
        return sources.describe(key)

    return [Setting(".".join(key), _hide_secrets(value), source(key)) for key, value in _leaves(tree)]


def _holds(tree: Any, key: Key) -> bool:
    """Whether a tree sets a key, or a section around it to something else than keys."""
    for name in key:
        if not isinstance(tree, dict):
            return True
        if name not in tree:
            return False
        tree = tree[name]
    return True


def find_setting(settings: list[Setting], key: str) -> Any:
    """Return the value of a key, or of a section a mapping of the keys in it.

    Raises:
        ConfigError: there is no such key.
    """
    values = {setting.key: setting.value for setting in settings}
    if key in values:
        return values[key]
    section = {name.removeprefix(f"{key}."): value for name, value in values.items() if name.startswith(f"{key}.")}
    if not section:
        hint = did_you_mean(key, values) or "`retrainer config show` lists all keys"
        raise ConfigError(f"unknown key '{key}'", hint=hint)
    return section


def parse_key(text: str) -> Key:
    """Return the parts of a key such as `retraining.test_split`.

    Raises:
        ConfigError: a part is empty.
    """
    key = tuple(text.split("."))
    if not all(key):
        raise ConfigError(f"not a key: '{text}'", hint="Write it like retraining.test_split")
    return key


def overriding_variable(key: Key, environ: Mapping[str, str]) -> str | None:
    """Return the variable that sets the key, or a section around it, whatever the file says."""
    variables = (ENV_PREFIX + "__".join(key[:end]).upper() for end in range(len(key), 0, -1))
    return next((variable for variable in variables if variable in environ), None)


def _leaves(tree: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    if isinstance(tree, dict) and (tree or not key):
        for name, value in tree.items():
            yield from _leaves(value, (*key, str(name)))
    else:
        yield key, tree


def _hide_secrets(value: Any) -> Any:
    """Return a value with the passwords and keys in URLs replaced by asterisks."""
    if isinstance(value, list):
        return [_hide_secrets(item) for item in value]
    if not isinstance(value, str):
        return value
    return mask_passwords(value)


def read_file(path: Path) -> bytes:
    """Return the content of a settings file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"cannot read '{path}': {error.strerror}") from error


def _read_yaml(content: bytes, path: Path) -> tuple[dict[str, Any], dict[Key, int]]:
    """Return the values of the settings file, and the line of each key."""
    try:
        tree, node = parse_yaml(content.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"'{path}' is not UTF-8 text") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        what = "cannot be read" if isinstance(error, _Unreadable) else "is not YAML"
        raise ConfigError(f"'{path}'{where} {what}: {problem}", hint="Correct that line") from error
    if tree is None:
        return {}, {}
    if not isinstance(tree, dict):
        raise ConfigError(f"'{path}' has no 'key: value' lines", hint="`retrainer init` creates a file to start from")
    lines: dict[Key, int] = {}
    for key, line in _key_lines(node):
        if key in lines:
            message = f"'{path}' line {line} sets '{'.'.join(key)}' again, after line {lines[key]}"
            raise ConfigError(message, hint="Keep one of them")
        lines[key] = line
    return tree, lines


class _Unreadable(MarkedYAMLError):
    """The text is YAML, but not of a kind that a person writes."""


class _Loader(yaml.SafeLoader):
    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Return the value of a node; refuse what Python cannot hold or print, such as a date of February 30."""
        try:
            value = super().construct_object(node, deep)
            str(value if isinstance(value, int) else "")  # at most 4,300 digits
        except ValueError as error:
            raise _Unreadable(problem=str(error).partition(";")[0], problem_mark=node.start_mark) from error
        return value


def parse_yaml(text: str) -> tuple[Any, yaml.Node | None]:
    """Return the value of a YAML text, and its node.

    Raises:
        yaml.YAMLError: it is not YAML, nested too deeply, or too large with its aliases expanded.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, None
        _check_size(node)
        return loader.construct_document(node), node
    except RecursionError:
        raise _Unreadable(problem=f"more than {MAX_DEPTH} levels") from None
    finally:
        loader.dispose()


def _check_size(root: yaml.Node) -> None:
    """Refuse a text that grows beyond all bounds where its aliases, perhaps of aliases, are expanded."""
    count = 0
    waiting = [(root, 1)]
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_NODES:
            limit = f"{MAX_DEPTH} levels" if depth > MAX_DEPTH else f"{MAX_NODES} values"
            raise _Unreadable(problem=f"more than {limit}", problem_mark=node.start_mark)
        if isinstance(node, yaml.MappingNode):
            waiting += [(part, depth + 1) for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(part, depth + 1) for part in node.value]


def _key_lines(node: Any, section: Key = ()) -> Iterator[tuple[Key, int]]:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            key = (*section, str(name.value))
            yield key, name.start_mark.line + 1
            yield from _key_lines(value, key)


def _overlay_environment(tree: dict[str, Any], environ: Mapping[str, str]) -> dict[Key, str]:
    """Set the keys in `tree` that the environment sets; return the variable of each."""
    variables: dict[Key, str] = {}
    for variable in sorted(environ):
        if not variable.startswith(ENV_PREFIX) or variable in RESERVED_VARIABLES:
            continue
        key = tuple(variable.removeprefix(ENV_PREFIX).lower().split("__"))
        _refuse_unknown_variable(variable, key)
        section: Any = tree
        for name in key[:-1]:
            if section.get(name) is None:
                section[name] = {}
            section = section[name]
            if not isinstance(section, dict):
                raise ConfigError(f"{variable} sets a key inside '{name}', which has a value of its own")
        try:
            section[key[-1]], _ = parse_yaml(environ[variable])
        except yaml.YAMLError:
            section[key[-1]] = environ[variable]
        variables[key] = variable
    return variables


def _refuse_unknown_variable(variable: str, key: Key) -> None:
    section: type[BaseModel] | None = Settings
    for name in key:
        if section is None or (issubclass(section, ModelSettings) and name not in section.model_fields):
            return  # an algorithm's options, which its plugin checks
        if name not in section.model_fields:
            names = ["__".join(known).upper() for known in _all_keys(Settings)]
            near = did_you_mean(variable.removeprefix(ENV_PREFIX), names)  # the shared prefix is not a likeness
            hint = near.replace("'", f"'{ENV_PREFIX}", 1) or "Its name must match a key of config.yaml"
            raise ConfigError(f"unknown variable '{variable}' in the environment", hint=hint)
        section = _subsection(section, name)


def _all_keys(section: type[BaseModel], key: Key = ()) -> Iterator[Key]:
    for name in section.model_fields:
        subsection = _subsection(section, name)
        if subsection is None:
            yield (*key, name)
        else:
            yield from _all_keys(subsection, (*key, name))


def _subsection(section: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Return the class of a key's value if it is a section."""
    annotation = section.model_fields[name].annotation if name in section.model_fields else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _check_algorithms(model: ModelSettings, section: Key, sources: Sources) -> None:
    """Refuse an algorithm that is not installed, and a key beside `algorithm` that holds no algorithm's options."""
    installed = installed_algorithms()
    if model.algorithm not in installed:
        where = sources.locate((*section, "algorithm"))
        hint = did_you_mean(model.algorithm, installed) or f"Installed: {', '.join(installed)}"
        raise ConfigError(f"{where}{'.'.join(section)}.algorithm: unknown algorithm '{model.algorithm}'", hint=hint)
    for name, options in (model.model_extra or {}).items():
        key = (*section, name)
        if name not in installed:
            raise unknown_key(key, ["algorithm", *installed], sources.locate(key))
        if options is not None and not isinstance(options, dict):
            message = f"{'.'.join(key)}: invalid value '{options}' (must be the options of the algorithm)"
            raise ConfigError(sources.locate(key) + message)


def _explain(error: ErrorDetails, sources: Sources) -> ConfigError:
    key = tuple(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        section: type[BaseModel] = Settings
        for name in key[:-1]:
            of_names: dict[str, type[BaseModel]] = {
                "formats": ExportFormat,
                "streams": StreamSettings,
            }  # sections by names of the user's
            section = of_names.get(name) or _subsection(section, name) or section
        return unknown_key(key, list(section.model_fields), sources.locate(key))
    if error["type"] == "missing":
        return ConfigError(f"{sources.locate(key)}{'.'.join(key)} is missing")
    # A URL in the wrong place may hold a password.
    value = "***" if key[0] in MAY_HOLD_SECRETS or "@" in str(error["input"]) else error["input"]
    return ConfigError(sources.locate(key) + invalid_value(".".join(key), value, error["msg"]))
