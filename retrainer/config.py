"""The settings: flag > environment > config.yaml > default, resolved once and checked as a whole.

The file is plain YAML; the environment overlays it key by key (`RETRAINER_RETRAINING__TEST_SPLIT=0.3`) before one
validation, so a wrong value is told the same way wherever it came from.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from retrainer.entry_points import installed_algorithms
from retrainer.errors import ConfigError, did_you_mean
from retrainer.model_types import MODEL_TYPE_NAMES, ModelTypeName, OriginRule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic_core import ErrorDetails

ENV_PREFIX = "RETRAINER_"
CONFIG_VARIABLE = "RETRAINER_CONFIG"
RESERVED_VARIABLES = {CONFIG_VARIABLE, "RETRAINER_API_TOKEN"}
MAY_HOLD_SECRETS = {"database", "posts", "notifications"}
CONFIG_FILE = Path("config") / "config.yaml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DatabaseSettings(_Section):
    url: Annotated[str, Field(min_length=1)] = "sqlite:///data/retrainer.db"


class PostColumns(_Section):
    post_id: str = "post_id"
    created_at: str = "created_at"
    content: str = "content"


class PostsSettings(_Section):
    url: str | None = None
    table: Annotated[str, Field(min_length=1)] = "posts"
    columns: PostColumns = PostColumns()


class ModelSettings(_Section):
    """Which algorithm a model type uses. Its options stand under its name and are checked by the plugin's class."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    algorithm: Annotated[str, Field(min_length=1)]

    def options(self, algorithm: str) -> dict[str, Any]:
        """Return the options given under the algorithm's name; none given is an empty mapping."""
        return dict((self.model_extra or {}).get(algorithm) or {})


class TimingModelSettings(ModelSettings):
    algorithm: Annotated[str, Field(min_length=1)] = "prophet"


class ContentModelSettings(ModelSettings):
    algorithm: Annotated[str, Field(min_length=1)] = "claude_api"


class TypeRetrainingSettings(_Section):
    enabled: bool = True
    evaluation_max_predictions: Annotated[int, Field(ge=1)] | None = None


class TimingRetrainingSettings(TypeRetrainingSettings):
    origin: OriginRule = "post"


class ContentRetrainingSettings(TypeRetrainingSettings):
    max_cost_increase: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    semantic_model: Annotated[str, Field(min_length=1)] | None = None


class RetrainingSettings(_Section):
    enabled: bool = True
    schedule_days: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 7
    min_new_posts: Annotated[int, Field(ge=1)] | None = None
    max_run_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    test_split: Annotated[float, Field(gt=0, lt=1)] = 0.2
    min_training_samples: Annotated[int, Field(ge=2)] = 50
    evaluation_max_predictions: Annotated[int, Field(ge=1)] = 20
    auto_promote: bool = True
    min_improvement_threshold: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0
    min_confidence: Annotated[float, Field(gt=0.5, lt=1)] | None = None
    keep_versions: Annotated[int, Field(ge=1)] = 10
    archive_old_versions: bool = True
    timing_model: TimingRetrainingSettings = TimingRetrainingSettings()
    content_model: ContentRetrainingSettings = ContentRetrainingSettings()

    def is_enabled(self, model_type: ModelTypeName) -> bool:
        """Whether runs of this model type are switched on, both in general and for the type."""
        return self.enabled and self._of_type(model_type).enabled

    def disabling_key(self, model_type: ModelTypeName) -> str:
        """Return the key that switches a disabled type off."""
        return "retraining.enabled" if not self.enabled else f"retraining.{model_type}_model.enabled"

    def max_predictions(self, model_type: ModelTypeName) -> int:
        """Return how many test posts an evaluation of this type forecasts at most."""
        own = self._of_type(model_type).evaluation_max_predictions
        return self.evaluation_max_predictions if own is None else own

    def origin(self, model_type: ModelTypeName) -> OriginRule:
        """Return from where the evaluations of this type forecast; a text is always foretold from the post before."""
        return self.timing_model.origin if model_type == "timing" else "post"

    def _of_type(self, model_type: ModelTypeName) -> TypeRetrainingSettings:
        return self.timing_model if model_type == "timing" else self.content_model


def _variable_name(name: str) -> str:
    """Refuse what is no name of a variable, above all the secret itself; RETRAINER_… are settings."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name.startswith(ENV_PREFIX):
        raise ValueError(
            f"it must be the name of an environment variable that holds the value, not beginning with {ENV_PREFIX}"
        )
    return name


VariableName = Annotated[str, AfterValidator(_variable_name)]
EventName = Literal["failure", "promotion", "rollback", "no_promotion"]


class ChannelSettings(_Section):
    """Where messages go: the variable that holds the URL, and which events are told."""

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


class Settings(_Section):
    """All of config.yaml, checked."""

    database: DatabaseSettings = DatabaseSettings()
    models_dir: Annotated[str, Field(min_length=1)] = "models"
    posts: PostsSettings = PostsSettings()
    timing_model: TimingModelSettings = TimingModelSettings()
    content_model: ContentModelSettings = ContentModelSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    notifications: NotificationSettings = NotificationSettings()

    def model(self, model_type: ModelTypeName) -> ModelSettings:
        """Return the settings of one model type's algorithm."""
        return self.timing_model if model_type == "timing" else self.content_model


def find_config_file(start: Path, environ: Mapping[str, str], given: Path | None = None) -> Path:
    """Find the config.yaml of the project: as given, by RETRAINER_CONFIG, or from `start` upward.

    Raises:
        ConfigError: there is none.
    """
    variable = environ.get(CONFIG_VARIABLE)
    named = given or (Path(variable) if variable else None)
    if named is not None:
        resolved = (start / named).resolve()
        if not resolved.is_file():
            source = "--config" if given else CONFIG_VARIABLE
            raise ConfigError(f"no settings file '{named}' (from {source})", hint="Name an existing config.yaml")
        return resolved
    for folder in (start, *start.parents):
        if (folder / CONFIG_FILE).is_file():
            return (folder / CONFIG_FILE).resolve()
    raise ConfigError(
        f"no project here: neither '{start}' nor a folder above it has a {CONFIG_FILE}",
        hint="Make one with `retrainer init`, or name one with --config",
    )


def load_settings(path: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read config.yaml, overlay the environment, and check every key.

    Raises:
        ConfigError: the file cannot be read or is not YAML, or a key or value is wrong.
    """
    tree, lines = _read_yaml(path)
    _drop_empty_sections(tree, Settings)
    variables = _overlay_environment(tree, environ)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise _explain(error.errors()[0], path, lines, variables) from None
    for model_type in MODEL_TYPE_NAMES:
        _check_option_groups(settings, model_type, path, lines, variables)
    return settings


def explain_options_error(
    error: ValidationError, model_type: ModelTypeName, algorithm: str, options: type[BaseModel]
) -> ConfigError:
    """Turn a plugin's refusal of its options into the same kind of line as any other wrong setting."""
    first = error.errors()[0]
    key = ".".join([f"{model_type}_model", algorithm, *map(str, first["loc"])])
    if first["type"] == "extra_forbidden":
        known = sorted(options.model_fields)
        return _unknown_key(key, str(first["loc"][-1]), known, where="")
    return ConfigError(f"{key}: '{first['input']}' is not allowed: {_allowed(first)}")


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"cannot read '{path}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"'{path}' is not UTF-8 text") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"'{path}'{place} is not YAML: {problem}", hint="Correct that line") from error
    if tree is None:
        return {}, {}
    if not isinstance(tree, dict):
        raise ConfigError(f"'{path}' holds no 'key: value' lines", hint="`retrainer init` writes a file to start from")
    try:
        return tree, dict(_line_numbers(node, ()))
    except ConfigError as error:
        raise ConfigError(f"'{path}' {error.message}", hint="Keep one of them") from None


def _drop_empty_sections(tree: dict[str, Any], section: type[BaseModel]) -> None:
    """Let a section whose keys are all commented out be the default."""
    for key, field in section.model_fields.items():
        inner = field.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            continue
        if key in tree and tree[key] is None:
            del tree[key]
        elif isinstance(tree.get(key), dict):
            _drop_empty_sections(tree[key], inner)


def _line_numbers(node: Any, at: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            path = (*at, str(key.value))
            first = seen.setdefault(str(key.value), key.start_mark.line + 1)
            if first != key.start_mark.line + 1:
                raise ConfigError(f"line {key.start_mark.line + 1} gives '{'.'.join(path)}' again, after line {first}")
            yield path, key.start_mark.line + 1
            yield from _line_numbers(value, path)


def _overlay_environment(tree: dict[str, Any], environ: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """Set in `tree` what the environment gives; return which variable gave which key."""
    variables: dict[tuple[str, ...], str] = {}
    for name in sorted(environ):
        if not name.startswith(ENV_PREFIX) or name in RESERVED_VARIABLES:
            continue
        path = tuple(name.removeprefix(ENV_PREFIX).lower().split("__"))
        _refuse_unknown_variable(name, path)
        branch: Any = tree
        for key in path[:-1]:
            if branch.get(key) is None:
                branch[key] = {}
            branch = branch[key]
            if not isinstance(branch, dict):
                raise ConfigError(f"{name} sets a key inside '{key}', which holds a value of its own")
        try:
            branch[path[-1]] = yaml.safe_load(environ[name])
        except yaml.YAMLError:
            branch[path[-1]] = environ[name]
        variables[path] = name
    return variables


def _refuse_unknown_variable(name: str, path: tuple[str, ...]) -> None:
    section: type[BaseModel] | None = Settings
    for key in path:
        if section is None or (issubclass(section, ModelSettings) and key not in section.model_fields):
            return  # an algorithm's own options: checked by its own class
        if key not in section.model_fields:
            given = name.removeprefix(ENV_PREFIX)  # what all names begin with is no likeness
            near = did_you_mean(given, ["__".join(known).upper() for known in _all_keys(Settings)])
            hint = near.replace("'", f"'{ENV_PREFIX}", 1) or "Its name must follow a key of config.yaml"
            raise ConfigError(f"unknown variable '{name}' in the environment", hint=hint)
        kind = section.model_fields[key].annotation
        section = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _all_keys(section: type[BaseModel], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _all_keys(field.annotation, (*at, key))
        else:
            yield (*at, key)


def _check_option_groups(
    settings: Settings,
    model_type: ModelTypeName,
    path: Path,
    lines: dict[tuple[str, ...], int],
    variables: dict[tuple[str, ...], str],
) -> None:
    """Refuse a key beside `algorithm` that is no installed algorithm's name, or whose value is no mapping."""
    section = f"{model_type}_model"
    chosen = settings.model(model_type).algorithm
    if chosen not in installed_algorithms():
        where = _where((section, "algorithm"), path, lines, variables)
        hint = did_you_mean(chosen, installed_algorithms()) or f"Installed: {', '.join(installed_algorithms())}"
        raise ConfigError(f"{where}{section}.algorithm: there is no algorithm '{chosen}'", hint=hint)
    for key, value in (settings.model(model_type).model_extra or {}).items():
        where = _where((section, key), path, lines, variables)
        known = ["algorithm", *installed_algorithms()]
        if key not in known:
            raise _unknown_key(f"{section}.{key}", key, known, where)
        if value is not None and not isinstance(value, dict):
            raise ConfigError(f"{where}{section}.{key}: '{value}' is not allowed: it holds that algorithm's options")


def _explain(
    error: ErrorDetails, path: Path, lines: dict[tuple[str, ...], int], variables: dict[tuple[str, ...], str]
) -> ConfigError:
    location = tuple(str(part) for part in error["loc"])
    where = _where(location, path, lines, variables)
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        section: type[BaseModel] = Settings
        for part in location[:-1]:
            kind = section.model_fields[part].annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                section = kind
        return _unknown_key(key, location[-1], list(section.model_fields), where)
    if error["type"] == "missing":
        return ConfigError(f"{where}{key} is missing")
    if location[0] in MAY_HOLD_SECRETS:  # a URL in the wrong place may carry a password
        return ConfigError(f"{where}{key}: this value is not allowed: {_allowed(error)}")
    return ConfigError(f"{where}{key}: '{error['input']}' is not allowed: {_allowed(error)}")


def _unknown_key(key: str, last: str, known: list[str], where: str) -> ConfigError:
    allowed = f"Allowed here: {', '.join(known)}" if known else "No key is allowed here"
    hint = did_you_mean(last, known) or allowed
    return ConfigError(f"{where}unknown key '{key}'", hint=hint)


def _where(
    location: tuple[str, ...],
    path: Path,
    lines: dict[tuple[str, ...], int],
    variables: dict[tuple[str, ...], str],
) -> str:
    for end in range(len(location), 0, -1):
        if location[:end] in variables:
            return f"{variables[location[:end]]} in the environment: "
        if location[:end] in lines:
            return f"'{path}' line {lines[location[:end]]}: "
    return f"'{path}': "


def _allowed(error: ErrorDetails) -> str:
    return error["msg"].removeprefix("Input ").removeprefix("Value error, ").replace("should be", "it must be", 1)
