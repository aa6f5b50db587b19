"""The settings: config.yaml, overlaid by the environment, checked as a whole.

The environment sets single keys (`RETRAINER_RETRAINING__TEST_SPLIT=0.3`) before validation, so a wrong value is
reported in the same way wherever it comes from.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from yaml.error import MarkedYAMLError

from retrainer.entry_points import installed_algorithms
from retrainer.errors import ConfigError, did_you_mean, invalid_value
from retrainer.export_format import ExportFormat, Kind
from retrainer.files import open_regular
from retrainer.model_types import MODEL_TYPE_NAMES, ModelTypeName, OriginRule
from retrainer.streams import DEFAULT_STREAM

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic_core import ErrorDetails

ENV_PREFIX = "RETRAINER_"
CONFIG_VARIABLE = "RETRAINER_CONFIG"
RESERVED_VARIABLES = {CONFIG_VARIABLE, "RETRAINER_API_TOKEN"}
MAY_HOLD_SECRETS = {"database", "posts", "notifications"}
CONFIG_FILE = Path("config") / "config.yaml"

MAX_DEPTH, MAX_NODES = 50, 10_000  # of a settings file, with all its aliases expanded

Key = tuple[str, ...]  # such as ("retraining", "test_split")


def _check_text(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain a null character")
    return text


Text = Annotated[str, Field(min_length=1), AfterValidator(_check_text)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_section_is_default(cls, section: Any) -> Any:
        return {} if section is None else section  # all its keys may be commented out


class DatabaseSettings(_Section):
    url: Text = "sqlite:///data/retrainer.db"


class PostColumns(_Section):
    post_id: Text = "post_id"
    created_at: Text = "created_at"
    content: Text = "content"


class PostsLimits(_Section):
    """The limits of an imported file, since a few kilobytes can expand to gigabytes."""

    file_megabytes: Annotated[int, Field(ge=1)] = 1024
    json_megabytes: Annotated[int, Field(ge=1)] = 2048  # unused, and accepted since older settings hold it
    row_megabytes: Annotated[int, Field(ge=1)] = 16
    row_group_megabytes: Annotated[int, Field(ge=1)] = 512
    rows: Annotated[int, Field(ge=1)] = 5_000_000
    rejected_rows: Annotated[int, Field(ge=1)] = 100_000


class SourceSettings(_Section):
    """A source of posts: what all types have in common, and the options of its type, which its plugin checks."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    type: Text
    stream: Text = DEFAULT_STREAM
    edits_days: Annotated[float, Field(ge=0, le=36_525, allow_inf_nan=False)] = 7
    max_pages: Count = 500
    max_minutes: Annotated[float, Field(gt=0, le=1_440)] = 15
    max_megabytes: Annotated[float, Field(gt=0, le=1_000)] = 32
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 30
    time_format: Text | None = None
    timezone: Text | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The options of the type."""
        return dict(self.model_extra or {})

    @property
    def variables(self) -> list[str]:
        """The environment variables that hold its secrets."""
        options = self.options
        named = [value for key, value in options.items() if key.endswith("_variable")]
        headers = options.get("secret_headers")
        return [str(name) for name in (*named, *(headers.values() if isinstance(headers, dict) else ()))]


def _source_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", name):
        raise ValueError("must be a name of letters, digits, '.', '_' and '-'")
    return name


def _none_is_empty(section: Any) -> Any:
    return {} if section is None else section  # all its keys may be commented out


SourceName = Annotated[str, AfterValidator(_source_name)]


class PostsSettings(_Section):
    url: Text | None = None
    table: Text = "posts"
    columns: PostColumns = PostColumns()
    limits: PostsLimits = PostsLimits()
    exclude: list[Kind] = ["reposts", "service_messages"]
    formats: dict[Text, ExportFormat] = {}
    sources: Annotated[dict[SourceName, SourceSettings], BeforeValidator(_none_is_empty)] = {}


class ModelSettings(_Section):
    """The algorithm of a model type, and options by algorithm name, which the algorithms' plugins check."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    algorithm: Text

    def options(self, algorithm: str) -> dict[str, Any]:
        """Return the options under the algorithm's name; an empty mapping if there are none."""
        return dict((self.model_extra or {}).get(algorithm) or {})


class TimingModelSettings(ModelSettings):
    algorithm: Text = "prophet"


class ContentModelSettings(ModelSettings):
    algorithm: Text = "claude_api"


class TypeRetrainingSettings(_Section):
    enabled: bool = True
    evaluation_max_predictions: Count | None = None


class TimingRetrainingSettings(TypeRetrainingSettings):
    origin: OriginRule = "post"


class ContentRetrainingSettings(TypeRetrainingSettings):
    max_cost_increase: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    semantic_model: Text | None = None


class RetrainingSettings(_Section):
    enabled: bool = True
    schedule_days: Annotated[float, Field(gt=0, le=36_525, allow_inf_nan=False)] = 7
    min_new_posts: Count | None = None
    max_run_minutes: Annotated[float, Field(gt=0, le=525_600, allow_inf_nan=False)] | None = None
    test_split: Annotated[float, Field(gt=0, lt=1)] = 0.2
    min_training_samples: Annotated[Count, Field(ge=2)] = 50
    evaluation_max_predictions: Count = 20
    auto_promote: bool = True
    min_improvement_threshold: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0
    min_confidence: Annotated[float, Field(gt=0.5, lt=1)] | None = None
    keep_versions: Count = 10
    archive_old_versions: bool = True
    timing_model: TimingRetrainingSettings = TimingRetrainingSettings()
    content_model: ContentRetrainingSettings = ContentRetrainingSettings()

    def is_enabled(self, model_type: ModelTypeName) -> bool:
        """Whether retraining is enabled, both in general and for this model type."""
        return self.enabled and self._of_type(model_type).enabled

    def disabling_key(self, model_type: ModelTypeName) -> str:
        """Return the key that disables a disabled model type."""
        return "retraining.enabled" if not self.enabled else f"retraining.{model_type}_model.enabled"

    def max_predictions(self, model_type: ModelTypeName) -> int:
        """Return the maximum number of test posts that an evaluation of this model type forecasts."""
        own = self._of_type(model_type).evaluation_max_predictions
        return self.evaluation_max_predictions if own is None else own

    def origin(self, model_type: ModelTypeName) -> OriginRule:
        """Return the origin rule of this model type; content is always forecast from the previous post."""
        return self.timing_model.origin if model_type == "timing" else "post"

    def _of_type(self, model_type: ModelTypeName) -> TypeRetrainingSettings:
        return self.timing_model if model_type == "timing" else self.content_model


def _variable_name(name: str) -> str:
    """Refuse what is not the name of a variable, such as the secret itself, or is the name of a setting."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name.startswith(ENV_PREFIX):
        raise ValueError(f"must be the name of an environment variable, not starting with {ENV_PREFIX}")
    return name


def host_name(name: str) -> str:
    """Return a host name, or an IP address, in lower case and without brackets.

    Raises:
        ValueError: it is neither, such as a URL or a name with a port.
    """
    name = name.lower().removeprefix("[").removesuffix("]")
    if not re.fullmatch(r"[a-z0-9_.-]+|[0-9a-f.]*:[0-9a-f:.]*:[0-9a-f:.]*", name):
        raise ValueError("must be a host name without scheme and port, such as models.example.org")
    return name


HostName = Annotated[str, AfterValidator(host_name)]
VariableName = Annotated[str, AfterValidator(_variable_name)]
EventName = Literal["failure", "promotion", "rollback", "no_promotion"]


class ChannelSettings(_Section):
    """A notification channel: the variable that holds its URL, and the events to send."""

    url_variable: VariableName | None = None
    events: list[EventName] = ["failure", "promotion", "rollback"]


class WebhookSettings(ChannelSettings):
    secret_variable: VariableName | None = None


class HealthcheckSettings(_Section):
    url_variable: VariableName | None = None


class NotificationSettings(_Section):
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 30
    webhook: WebhookSettings = WebhookSettings()
    apprise: ChannelSettings = ChannelSettings()
    healthcheck: HealthcheckSettings = HealthcheckSettings()


class ApiSettings(_Section):
    allowed_hosts: list[HostName] = []


class Settings(_Section):
    """The checked settings."""

    database: DatabaseSettings = DatabaseSettings()
    models_dir: Text = "models"
    posts: PostsSettings = PostsSettings()
    timing_model: TimingModelSettings = TimingModelSettings()
    content_model: ContentModelSettings = ContentModelSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    notifications: NotificationSettings = NotificationSettings()
    api: ApiSettings = ApiSettings()

    def model(self, model_type: ModelTypeName) -> ModelSettings:
        """Return the settings of one model type's algorithm."""
        return self.timing_model if model_type == "timing" else self.content_model


class _Sources(NamedTuple):
    """Where the keys were set.

    Attributes:
        file: the settings file.
        lines: the line of each key in the file.
        variables: the environment variable of each key that the environment sets.
    """

    file: Path
    lines: dict[Key, int]
    variables: dict[Key, str]

    def locate(self, key: Key) -> str:
        """Return where a key was set, or else the nearest section around it, as the start of a message."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.variables:
                return f"{self.variables[key[:end]]} in the environment: "
            if key[:end] in self.lines:
                return f"'{self.file}' line {self.lines[key[:end]]}: "
        return f"'{self.file}': "


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
    tree, lines = _read_yaml(path)
    sources = _Sources(path, lines, _overlay_environment(tree, environ))
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise _explain(_first(error), sources) from None
    for model_type in MODEL_TYPE_NAMES:
        _check_algorithms(settings.model(model_type), f"{model_type}_model", sources)
    return settings


def explain_options_error(error: ValidationError, section: Key, options: type[BaseModel]) -> ConfigError:
    """Turn the rejection of options that a plugin checks into the same error as for any other setting.

    Args:
        error: the rejection.
        section: the key of the options.
        options: the class that rejected them.
    """
    first = _first(error)
    key = (*section, *map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return _unknown_key(key, sorted(options.model_fields))
    if first["type"] == "missing":
        return ConfigError(f"{'.'.join(key)} is missing")
    value = "***" if key[0] in MAY_HOLD_SECRETS else first["input"]
    return ConfigError(invalid_value(".".join(key), value, first["msg"]))


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[Key, int]]:
    """Return the content of the settings file, and the line of each key."""
    try:
        with open_regular(path) as file:
            tree, node = _parse_yaml(file.read().decode())
    except OSError as error:
        raise ConfigError(f"cannot read '{path}': {error.strerror}") from error
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


def _parse_yaml(text: str) -> tuple[Any, yaml.Node | None]:
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
            section[key[-1]], _ = _parse_yaml(environ[variable])
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


def _check_algorithms(model: ModelSettings, section: str, sources: _Sources) -> None:
    """Refuse an algorithm that is not installed, and a key beside `algorithm` that holds no algorithm's options."""
    installed = installed_algorithms()
    if model.algorithm not in installed:
        where = sources.locate((section, "algorithm"))
        hint = did_you_mean(model.algorithm, installed) or f"Installed: {', '.join(installed)}"
        raise ConfigError(f"{where}{section}.algorithm: unknown algorithm '{model.algorithm}'", hint=hint)
    for name, options in (model.model_extra or {}).items():
        key = (section, name)
        if name not in installed:
            raise _unknown_key(key, ["algorithm", *installed], sources)
        if options is not None and not isinstance(options, dict):
            message = f"{section}.{name}: invalid value '{options}' (must be the options of the algorithm)"
            raise ConfigError(sources.locate(key) + message)


def _first(error: ValidationError) -> ErrorDetails:
    """Return the error to report: an unknown key, which may be a misspelled one that is missing, or else the first."""
    errors = error.errors()
    return next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])


def _explain(error: ErrorDetails, sources: _Sources) -> ConfigError:
    key = tuple(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        section: type[BaseModel] = Settings
        for name in key[:-1]:
            section = ExportFormat if name == "formats" else _subsection(section, name) or section
        return _unknown_key(key, list(section.model_fields), sources)
    if error["type"] == "missing":
        return ConfigError(f"{sources.locate(key)}{'.'.join(key)} is missing")
    # A URL in the wrong place may hold a password.
    value = "***" if key[0] in MAY_HOLD_SECRETS else error["input"]
    return ConfigError(sources.locate(key) + invalid_value(".".join(key), value, error["msg"]))


def _unknown_key(key: Key, known: list[str], sources: _Sources | None = None) -> ConfigError:
    where = sources.locate(key) if sources else ""
    hint = did_you_mean(key[-1], known) or f"Known keys: {', '.join(known) or 'none'}"
    return ConfigError(f"{where}unknown key '{'.'.join(key)}'", hint=hint)
