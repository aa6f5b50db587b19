"""The settings: their sections, keys, defaults and limits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from retrainer.errors import ConfigError, did_you_mean, invalid_value
from retrainer.export_format import ExportFormat, Kind
from retrainer.model_types import ModelTypeName, OriginRule
from retrainer.streams import DEFAULT_STREAM, check_stream_name, matches

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

ENV_PREFIX = "RETRAINER_"  # of the variables that set keys
MAY_HOLD_SECRETS = {"database", "posts", "notifications", "tuning"}

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
    stream: Text | None = None


class PostsLimits(_Section):
    """The limits of an imported file, since a few kilobytes can expand to gigabytes."""

    file_megabytes: Annotated[int, Field(ge=1)] = 1024
    row_megabytes: Annotated[int, Field(ge=1)] = 16
    row_group_megabytes: Annotated[int, Field(ge=1)] = 512
    rows: Annotated[int, Field(ge=1)] = 20_000_000
    rejected_rows: Annotated[int, Field(ge=1)] = 100_000

    @model_validator(mode="before")
    @classmethod
    def _drop_former_key(cls, section: Any) -> Any:
        """Accept older settings with a limit of JSON files, which are read record by record now."""
        if isinstance(section, dict):
            return {key: value for key, value in section.items() if key != "json_megabytes"}
        return section


StreamName = Annotated[str, AfterValidator(check_stream_name)]


class SourceSettings(_Section):
    """A source of posts: what all types have in common, and the options of its type, which its plugin checks."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    type: Text
    stream: StreamName = DEFAULT_STREAM
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
    refit: bool | None = None


class TimingRetrainingSettings(TypeRetrainingSettings):
    origin: OriginRule = "post"


class ContentRetrainingSettings(TypeRetrainingSettings):
    max_cost_increase: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    semantic_model: Text | None = None


class RetrainingSettings(_Section):
    enabled: bool = True
    schedule_days: Annotated[float, Field(gt=0, le=36_525, allow_inf_nan=False)] = 7
    min_new_posts: Count | None = None
    due_on_drift: bool = False
    max_run_minutes: Annotated[float, Field(gt=0, le=525_600, allow_inf_nan=False)] | None = None
    test_split: Annotated[float, Field(gt=0, lt=1)] = 0.2
    min_training_samples: Annotated[Count, Field(ge=2)] = 50
    evaluation_max_predictions: Count = 20
    auto_promote: bool = True
    min_improvement_threshold: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0
    min_confidence: Annotated[float, Field(gt=0.5, lt=1)] | None = None
    refit: bool = False
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

    def refits(self, model_type: ModelTypeName) -> bool:
        """Whether a version of this model type is fitted again on all posts before it goes live."""
        own = self._of_type(model_type).refit
        return self.refit if own is None else own

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
EventName = Literal["failure", "promotion", "rollback", "ab_test", "degraded", "stale_posts", "no_promotion"]


class ChannelSettings(_Section):
    """A notification channel: the variable that holds its URL, and the events to send."""

    url_variable: VariableName | None = None
    events: list[EventName] = ["failure", "promotion", "rollback", "ab_test", "degraded", "stale_posts"]


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


def _check_place(place: str) -> str:
    if "://" not in place:
        return place
    if not re.fullmatch(r"file:///[^?#]+|(?!file:)[a-z][a-z0-9+.-]*://[^/@?#]+(/[^@?#]*)?", place):
        raise ValueError("must be a folder, or a URL such as s3://bucket/models without credentials")
    return place


class StreamLiveSettings(_Section):
    rollback: bool = False
    floor: Literal["naive"] | None = None


class LiveSettings(StreamLiveSettings):
    false_rollback_rate: Annotated[float, Field(gt=0, lt=1)] = 0.1


class TuningSettings(_Section):
    storage_url: Text | None = None
    keep_studies: Count = 20


class StreamSettings(_Section):
    """What the streams of a pattern have of their own. A key that is not set is as for all streams."""

    timing_model: TimingModelSettings = TimingModelSettings()
    content_model: ContentModelSettings = ContentModelSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    live: StreamLiveSettings = StreamLiveSettings()


class Settings(_Section):
    """The checked settings."""

    database: DatabaseSettings = DatabaseSettings()
    models_dir: Annotated[Text, AfterValidator(_check_place)] = "models"
    posts: PostsSettings = PostsSettings()
    timing_model: TimingModelSettings = TimingModelSettings()
    content_model: ContentModelSettings = ContentModelSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    live: LiveSettings = LiveSettings()
    tuning: TuningSettings = TuningSettings()
    notifications: NotificationSettings = NotificationSettings()
    api: ApiSettings = ApiSettings()
    streams: Annotated[dict[StreamName, StreamSettings], BeforeValidator(_none_is_empty)] = {}
    _for_all: Settings | None = None

    @property
    def for_all(self) -> Settings:
        """The settings that those of one stream were made of."""
        return self._for_all or self

    def for_stream(self, stream: str) -> Settings:
        """Return the settings of a stream: of the patterns that it matches a later one counts, then its exact name."""
        base = self.for_all
        return _settings_of(base, base.list_patterns(stream))

    def for_streams(self, streams: Iterable[str]) -> dict[str, Settings]:
        """Return the settings of each stream; those that match the same patterns share theirs."""
        base = self.for_all
        found: dict[tuple[str, ...], Settings] = {}
        settings = {}
        for stream in streams:
            patterns = base.list_patterns(stream)
            if patterns not in found:
                found[patterns] = _settings_of(base, patterns)
            settings[stream] = found[patterns]
        return settings

    def list_patterns(self, stream: str) -> tuple[str, ...]:
        """Return the keys of `streams` that a stream matches; a later one counts more, its exact name most."""
        base = self.for_all
        patterns = [pattern for pattern in base.streams if pattern != stream and matches(pattern, stream)]
        return (*patterns, *([stream] if stream in base.streams else []))

    @property
    def uses_store(self) -> bool:
        """Whether the model files are in a store, whose URL `models_dir` is, and not in a folder."""
        return "://" in self.models_dir

    def model(self, model_type: ModelTypeName) -> ModelSettings:
        """Return the settings of one model type's algorithm."""
        return self.timing_model if model_type == "timing" else self.content_model


def _settings_of(base: Settings, patterns: tuple[str, ...]) -> Settings:
    """Return the settings with what the patterns have of their own, a later one over an earlier."""
    own: dict[str, Any] = {}
    for pattern in patterns:
        own = merge(own, base.streams[pattern].model_dump(exclude_unset=True))
    sections = {name: getattr(base, name) for name in own}
    merged = {
        name: type(section).model_validate(merge(section.model_dump(exclude_unset=True), own[name]))
        for name, section in sections.items()
    }
    settings = base.model_copy(update=merged)
    settings._for_all = base  # noqa: SLF001  only Settings sees it
    return settings


def merge(section: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return a section with the keys of another one, which count where both have one."""
    return section | {
        key: merge(section[key], value) if isinstance(value, dict) and isinstance(section.get(key), dict) else value
        for key, value in other.items()
    }


def explain_options_error(error: ValidationError, section: Key, options: type[BaseModel]) -> ConfigError:
    """Turn the rejection of options that a plugin checks into the same error as for any other setting.

    Args:
        error: the rejection.
        section: the key of the options.
        options: the class that rejected them.
    """
    first = first_error(error)
    key = (*section, *map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return unknown_key(key, sorted(options.model_fields))
    if first["type"] == "missing":
        return ConfigError(f"{'.'.join(key)} is missing")
    value = "***" if key[0] in MAY_HOLD_SECRETS else first["input"]
    return ConfigError(invalid_value(".".join(key), value, first["msg"]))


def first_error(error: ValidationError) -> ErrorDetails:
    """Return the error to report: an unknown key, which may be a misspelled one that is missing, or else the first."""
    errors = error.errors()
    return next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])


def unknown_key(key: Key, known: list[str], where: str = "") -> ConfigError:
    """Return the error of a key that there is not, with the most similar of those that there are."""
    hint = did_you_mean(key[-1], known) or f"Known keys: {', '.join(known) or 'none'}"
    return ConfigError(f"{where}unknown key '{'.'.join(key)}'", hint=hint)
