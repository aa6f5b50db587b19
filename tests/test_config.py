"""Settings: the shipped file has the defaults, every source is checked, and an error is one line."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import yaml

from retrainer.config import Settings
from retrainer.errors import ConfigError
from retrainer.project import Project, default_config
from retrainer.settings_file import load_settings

if TYPE_CHECKING:
    from pathlib import Path

SPECIFIED = {
    "enabled": True,
    "schedule_days": 7,
    "test_split": 0.2,
    "min_training_samples": 50,
    "evaluation_max_predictions": 20,
    "auto_promote": True,
    "min_improvement_threshold": 2.0,
    "keep_versions": 10,
    "archive_old_versions": True,
}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def refusal(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, text), environ or {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_shipped_file_holds_the_specified_keys_and_the_defaults(tmp_path: Path) -> None:
    text = default_config().read_text()
    block = yaml.safe_load(text)["retraining"]
    assert {key: block[key] for key in SPECIFIED} == SPECIFIED
    without_options = text.replace("  prophet: {}", "").replace("  claude_api: {}", "")
    assert load_settings(write(tmp_path, without_options), {}) == Settings()


def test_the_shipped_file_has_every_setting() -> None:
    shipped = yaml.safe_load(default_config().read_text())
    for section, field in Settings.model_fields.items():
        assert section in shipped
        for key in getattr(field.annotation, "model_fields", {}):
            assert key in shipped[section], f"{section}.{key}"


def test_an_unknown_key_is_named_with_its_line_and_a_near_match(tmp_path: Path) -> None:
    message = refusal(tmp_path, "retraining:\n  enabled: true\n  test_splt: 0.3\n")
    assert "line 3" in message
    assert "unknown key 'retraining.test_splt'" in message
    assert "Did you mean 'test_split'?" in message


@pytest.mark.parametrize(
    ("line", "value", "allowed"),
    [
        ("test_split: 1.5", "1.5", "less than 1"),
        ("test_split: zero", "zero", "valid number"),
        ("min_training_samples: 0", "0", "greater than or equal to 2"),
        ("auto_promote: maybe", "maybe", "valid boolean"),
        ("keep_versions: 2.5", "2.5", "valid integer"),
        ("evaluation_max_predictions: null", "None", "valid integer"),
        ("min_improvement_threshold: -1", "-1", "greater than or equal to 0"),
        ("schedule_days: .nan", "nan", "finite"),
        ("schedule_days: .inf", "inf", "finite"),
    ],
)
def test_a_wrong_value_is_named_with_its_line_and_what_is_allowed(
    tmp_path: Path, line: str, value: str, allowed: str
) -> None:
    message = refusal(tmp_path, f"retraining:\n  {line}\n")
    assert "line 2" in message
    assert f"retraining.{line.split(':', maxsplit=1)[0]}: invalid value '{value}' (" in message
    assert allowed in message


def test_a_section_that_is_not_a_mapping_is_refused(tmp_path: Path) -> None:
    assert "retraining: invalid value '7'" in refusal(tmp_path, "retraining: 7\n")


def test_a_file_that_is_not_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, "retraining:\n  enabled: [true\nposts: {}\n")
    assert "line 3" in message
    assert "is not YAML" in message


def doubled(*starts: str) -> str:
    """A text of anchors, each of which holds the one before it twice."""
    return "\n".join(f"a{n}: &a{n} {start.replace('*', f'*a{n - 1}')}" for n, start in enumerate(starts, 1))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"a0: &a0 {{k: x}}\n{doubled(*['{x: *, y: *}'] * 40)}", "more than 10000 values"),
        (f"a0: &a0 [x]\n{doubled(*['[*, *]'] * 40)}", "more than 10000 values"),
        (f"a0: &a0 {{k: x}}\n{doubled(*['{<<: [*, *], k: 1}'] * 10)}", "more than 10000 values"),
        ("retraining: &a\n  timing_model: *a\n", "line 1 cannot be read: more than 50 levels"),
        ("timing_model: &a\n  algorithm: baseline\n  baseline: *a\n", "line 1 cannot be read: more than 50 levels"),
        ("retraining: " + "[" * 5000, "more than 50 levels"),
        ("retraining: " + "{a: " * 5000 + "}" * 5000, "more than 50 levels"),
        ("retraining:\n  " + "- " * 5000 + "x", "more than 50 levels"),
        ("retraining:\n  keep_versions: " + "9" * 5000, "line 2 cannot be read: Exceeds the limit (4300 digits)"),
        ("retraining:\n  keep_versions: 0x" + "f" * 5000, "line 2 cannot be read: Exceeds the limit (4300 digits)"),
        ("retraining:\n  keep_versions: 1" + ":59" * 5000, "line 2 cannot be read: Exceeds the limit (4300 digits)"),
        ("retraining:\n  keep_versions: " + "9" * 400, "keep_versions: invalid value '99999"),
        ("retraining:\n  keep_versions: 2024-02-30", "line 2 cannot be read: day is out of range for month"),
        ("retraining:\n\tkeep_versions: 2", "line 2 is not YAML: found character '\\t'"),
        ("retraining:\n  keep_versions: 2\0", "is not YAML: unacceptable character #x0000"),
        ("retraining:\n  keep_versions: \x1b[2J", "is not YAML: unacceptable character #x001b"),
        ("database:\n  url: 'sqlite:///\ufffe'", "is not YAML: unacceptable character #xfffe"),
        ('database:\n  url: "sqlite:///a\\0b"', "database.url: invalid value '***' (must not contain a null"),
        (
            "models_dir: s3://key:secret@bucket/models",
            "models_dir: invalid value '***' (must be a folder, or a URL such as s3://bucket/models without",
        ),
        ("models_dir: file://models", "models_dir: invalid value 'file://models' (must be a folder, or a URL such as"),
        ("models_dir: s3:///models", "models_dir: invalid value 's3:///models' (must be a folder, or a URL such as"),
        ("models_dir: cache::s3://a/b", "models_dir: invalid value 'cache::s3://a/b' (must be a folder, or a URL such"),
        ('models_dir: "a\\0b"', "models_dir: invalid value 'a\0b' (must not contain a null character)"),
        ("retraining:\n  keep_versions: " + "a" * 100_000, "line 2: retraining.keep_versions: invalid value 'aaa"),
        ("retraining: !!python/object/apply:os.system ['true']", "could not determine a constructor for the tag"),
    ],
)
def test_a_hostile_file_is_refused_in_one_short_line(text: str, problem: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, text)
    assert problem in message
    assert len(message) < 1000


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 40))])
def test_a_changed_file_is_read_or_refused(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)  # noqa: S311  no secret
    lines = default_config().read_text().splitlines()
    for _ in range(25):
        changed = list(lines)
        for _ in range(draw.randint(1, 4)):
            number = draw.randrange(len(changed))
            cut = draw.randrange(len(changed[number]) + 1)
            added = draw.choice(
                ["", "&a ", "*a", ": ", "- ", "[", "{", "}", "'", '"', "|", ">", "? ", "!!int ", "!!set ", "<<: "]
            )
            added = draw.choice(
                [
                    added,
                    added,
                    "\t",
                    "\n  ",
                    "9" * 5000,
                    "~",
                    ".nan",
                    "2024-02-30",
                    "\x1b",
                    "\u2028",
                    "%",
                    "@",
                    "\ufeff",
                ]
            )
            changed[number] = changed[number][:cut] + added + changed[number][cut + draw.randint(0, 5) :]
        with suppress(ConfigError):
            load_settings(write(tmp_path, "\n".join(changed)), {})


@pytest.mark.parametrize("value", ["&a [*a]", "[" * 500, "9" * 5000, "2024-02-30", "&a {<<: *a}", "\x1b[2J", "{"])
def test_a_hostile_variable_is_taken_as_text(value: str, tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, ""), {"RETRAINER_MODELS_DIR": value}).models_dir == value


def test_aliases_are_allowed(tmp_path: Path) -> None:
    text = "retraining:\n  timing_model: &same {evaluation_max_predictions: 7}\n  content_model: *same\n"
    settings = load_settings(write(tmp_path, text), {})
    assert settings.retraining.max_predictions("content") == 7


def test_a_file_that_is_not_a_mapping_is_refused(tmp_path: Path) -> None:
    assert "has no 'key: value' lines" in refusal(tmp_path, "just a word\n")


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"models_dir: \xff\xfe\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_settings(path, {})


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "retraining:\n  test_split: 0.4\n  auto_promote: true\n")
    environ = {
        "RETRAINER_RETRAINING__TEST_SPLIT": "0.3",
        "RETRAINER_RETRAINING__CONTENT_MODEL__EVALUATION_MAX_PREDICTIONS": "7",
        "RETRAINER_TIMING_MODEL__PROPHET__WEEKS": "12",
        "OTHER": "ignored",
    }
    settings = load_settings(path, environ)
    assert settings.retraining.test_split == 0.3
    assert settings.retraining.auto_promote
    assert settings.retraining.max_predictions("content") == 7
    assert settings.retraining.max_predictions("timing") == 20
    assert settings.timing_model.options("prophet") == {"weeks": 12}


def test_a_wrong_value_from_the_environment_names_the_variable(tmp_path: Path) -> None:
    message = refusal(tmp_path, "", {"RETRAINER_RETRAINING__TEST_SPLIT": "2"})
    assert message.startswith(
        "RETRAINER_RETRAINING__TEST_SPLIT in the environment: retraining.test_split: invalid value '2'"
    )


def test_an_unknown_variable_is_refused_with_a_near_match(tmp_path: Path) -> None:
    message = refusal(tmp_path, "", {"RETRAINER_RETRAINING__TEST_SPLT": "0.3"})
    assert "unknown variable 'RETRAINER_RETRAINING__TEST_SPLT'" in message
    assert "'RETRAINER_RETRAINING__TEST_SPLIT'" in message


def test_reserved_variables_are_not_settings(tmp_path: Path) -> None:
    environ = {"RETRAINER_CONFIG": "x", "RETRAINER_API_TOKEN": "secret"}
    assert load_settings(write(tmp_path, ""), environ) == Settings()


def test_a_key_beside_algorithm_must_be_an_installed_algorithm(tmp_path: Path) -> None:
    message = refusal(tmp_path, "timing_model:\n  algorithm: prophet\n  prophe: {weeks: 4}\n")
    assert "line 3" in message
    assert "unknown key 'timing_model.prophe'" in message
    assert "Did you mean 'prophet'?" in message


def test_an_algorithm_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "timing_model:\n  algorithm: prohpet\n")
    assert "line 2: timing_model.algorithm: unknown algorithm 'prohpet'. Did you mean 'prophet'?" in message


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "retraining:\n  test_split: 0.1\n  test_split: 0.3\n")
    assert "line 3 sets 'retraining.test_split' again, after line 2" in message


def test_a_section_without_keys_is_the_default(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, "retraining:\n  # test_split: 0.3\nposts:\n"), {}) == Settings()


def test_a_password_in_the_wrong_place_is_not_shown(tmp_path: Path) -> None:
    url = "postgresql://u:hush@h/db"
    assert "hush" not in refusal(tmp_path, f"database: {url}\n")
    assert "hush" not in refusal(tmp_path, "", {"RETRAINER_DATABASE": url})
    assert "hush" not in refusal(tmp_path, "posts: {url: [postgresql://u:hush@h/db]}")


def test_options_that_are_not_a_mapping_are_refused(tmp_path: Path) -> None:
    assert "timing_model.prophet: invalid value '3'" in refusal(
        tmp_path, "timing_model: {algorithm: prophet, prophet: 3}"
    )


def test_a_type_can_be_disabled_alone_or_with_all(tmp_path: Path) -> None:
    one = load_settings(write(tmp_path, "retraining: {content_model: {enabled: false}}"), {})
    assert one.retraining.is_enabled("timing")
    assert not one.retraining.is_enabled("content")
    none = load_settings(write(tmp_path, "retraining: {enabled: false}"), {})
    assert not none.retraining.is_enabled("timing")


def test_the_project_is_found_from_a_folder_below(folder: Path) -> None:
    below = folder / "data" / "deep"
    below.mkdir()
    assert Project.find(below, {}).folder == folder


def test_the_project_is_found_by_variable_and_by_flag(folder: Path, tmp_path: Path) -> None:
    config = folder / "config" / "config.yaml"
    assert Project.find(tmp_path, {"RETRAINER_CONFIG": str(config)}).folder == folder
    assert Project.find(tmp_path, {"RETRAINER_CONFIG": "/nowhere"}, config).folder == folder


def test_the_project_folder_of_a_settings_file_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("models_dir: here\n")
    project = Project.find(tmp_path, {}, path)
    assert project.folder == tmp_path
    assert project.models_dir == tmp_path / "here"


def test_without_a_project_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no project here.*retrainer init"):
        Project.find(tmp_path, {})


def test_a_missing_settings_file_is_reported_with_its_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no settings file 'gone.yaml' .from RETRAINER_CONFIG"):
        Project.find(tmp_path, {"RETRAINER_CONFIG": "gone.yaml"})


def test_a_later_pattern_counts_more_and_an_exact_name_most(tmp_path: Path) -> None:
    text = """
retraining: {keep_versions: 9}
timing_model: {algorithm: baseline}
streams:
  news_sports: {retraining: {schedule_days: 1}}
  news_*: {retraining: {schedule_days: 2, keep_versions: 3}}
  "*": {retraining: {keep_versions: 4}, timing_model: {algorithm: prophet, prophet: {recalibrate: false}}}
"""
    settings = load_settings(write(tmp_path, text), {})
    sports = settings.for_stream("news_sports")
    assert (sports.retraining.schedule_days, sports.retraining.keep_versions) == (1, 4)
    assert sports.timing_model.options("prophet") == {"recalibrate": False}
    assert sports.for_stream("news_x").retraining.schedule_days == 2
    assert settings.for_stream("other").retraining.schedule_days == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("{retraining: {test_spilt: 1}}", "unknown key 'streams.a*.retraining.test_spilt'. Did you mean 'test_split'?"),
        ("{database: {}}", "unknown key 'streams.a*.database'. Known keys: timing_model, content_model, retraining"),
        ("{timing_model: {algorithm: nope}}", "streams.a*.timing_model.algorithm: unknown algorithm 'nope'"),
        ("{retraining: {test_split: 2}}", "streams.a*.retraining.test_split: invalid value '2'"),
    ],
)
def test_a_wrong_override_is_named_with_its_line(override: str, message: str, tmp_path: Path) -> None:
    refused = refusal(tmp_path, f"streams:\n  a*: {override}\n")
    assert "line 2" in refused
    assert message in refused
