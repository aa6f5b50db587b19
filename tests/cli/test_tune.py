"""The command `tune`: what it prints and records, the settings that it writes, and its refusals."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import NOW, configure, open_project, regular_posts
from tests.tuning.tunable import tunable_algorithm

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Completed, Runner
    from tests.plugins_for_tests import Plugins

FEW = ("--trials", "8")


def import_posts(folder: Path, count: int = 300, stream: str = "default") -> None:
    project = open_project(folder)
    project.posts.for_stream(stream).add(regular_posts(count), NOW)
    project.close()


@pytest.fixture
def tunable(folder: Path, plugins: Plugins, retrainer: Runner, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """A project whose posts come every five hours, and whose algorithm forecasts 30 hours unless it is tuned."""
    plugins.add("tunable", tunable_algorithm())
    monkeypatch.syspath_prepend(str(plugins.site))
    configure(folder)
    path = folder / "config" / "config.yaml"
    path.write_text(path.read_text().replace("algorithm: baseline ", "algorithm: tunable  ", 1))
    import_posts(folder)

    def run(*arguments: str, **given: Any) -> Completed:
        return retrainer(*arguments, env=plugins.environ, **given)

    return run


def settings_of(folder: Path) -> str:
    return (folder / "config" / "config.yaml").read_text()


@pytest.mark.slow
def test_the_winner_is_promoted_and_applied_and_train_goes_on_with_it(tunable: Runner, folder: Path) -> None:
    before = settings_of(folder)
    done = tunable("tune", "timing", *FEW, "--apply", "--json")
    assert done.code == 0, done.err
    found = done.json
    assert found["study"]["finished"]
    assert found["study"]["num_trials"] == 8
    assert found["study"]["default"]["options"] == {"hours": 30.0, "label": "none"}
    assert found["study"]["outcome"]["kept"]
    assert found["study"]["outcome"]["held_back"]["value"] > 0
    run = found["training_run"]
    assert run["promoted_to_production"]
    assert run["promotion_reason"].endswith(f"; options tuned by 8 trials of study '{found['study']['name']}'")
    winner = next(one for one in found["trials"] if one["number"] == found["study"]["outcome"]["winner"])
    hours = winner["options"]["hours"]
    assert found["applied"]
    assert found["settings"] == {"timing_model.tunable.hours": hours}

    after = settings_of(folder)
    changed = set(after.splitlines()) - set(before.splitlines())
    assert changed == {"  tunable:", f"    hours: {hours}"}
    assert [line for line in before.splitlines() if line not in after.splitlines()] == []
    trained = tunable("train", "timing", "--json").json["training_runs"][0]
    version = tunable("show", trained["model_version_id"], "--json").json
    assert version["hyperparameters"]["hours"] == hours


@pytest.mark.slow
def test_a_tuned_version_that_is_not_better_than_production_is_rejected_and_not_applied(
    tunable: Runner, folder: Path
) -> None:
    assert tunable("config", "set", "timing_model.tunable.hours", "5.0").code == 0
    assert tunable("train", "timing").code == 0
    assert tunable("config", "set", "timing_model.tunable.hours", "30.0").code == 0
    before = settings_of(folder)
    done = tunable("tune", "timing", *FEW, "--apply")
    assert done.code == 0, done.err
    assert "Not promoted: " in done.out
    assert "To train with these options anyway, add this to the settings file:" in done.out
    assert settings_of(folder) == before
    run = tunable("history", "--json").json["training_runs"][0]
    assert not run["promoted_to_production"]
    assert "; options tuned by 8 trials of study 'default_timing_" in run["promotion_reason"]


@pytest.mark.slow
def test_without_apply_lines_for_the_settings_file_are_printed_and_show_lists_studies_and_draws_one(
    tunable: Runner, folder: Path
) -> None:
    assert tunable("tune", "--show").out.startswith("No studies in '/")
    before = settings_of(folder)
    tuned = tunable("tune", "timing", *FEW)
    assert tuned.code == 0, tuned.err
    assert settings_of(folder) == before
    hours = json.loads(tunable("show", "timing@production", "--json").out)["hyperparameters"]["hours"]
    assert f"timing_model:\n    tunable:\n      hours: {hours}" in tuned.out
    assert "Kept: on the held-back fold, its gain is +" in tuned.out
    assert "This estimate is optimistic." in tuned.out
    assert "Parameter importance: tunable.hours 100%" in tuned.out

    first = tunable("tune", "--show", "--json").json["studies"][0]["name"]
    second = tunable("tune", "timing", *FEW, "--seed", "1", "--json").json["study"]["name"]
    shown = tunable("tune", "--show", "--json").json
    assert {one["name"] for one in shown["studies"]} == {first, second}
    assert shown["shown"]["study"]["name"] == shown["studies"][0]["name"]
    assert tunable("tune", "--show", "content", "--json").json == {"studies": [], "count": 0, "shown": None}
    done = tunable("tune", "--show", "--study", first, "--plot", "study.svg")
    assert done.code == 0, done.err
    assert f"\n{first}: 8 trials (" in done.out
    assert (folder / "study.svg").read_text().startswith("<?xml")
    unknown = tunable("tune", "--show", "--study", f"{first[:-1]}x")
    assert unknown.code == 2
    assert f"Did you mean '{first}'?" in unknown.err or "Did you mean" in unknown.err


@pytest.mark.slow
def test_a_stream_is_tuned_on_its_own_posts_and_gets_settings_of_its_own(tunable: Runner, folder: Path) -> None:
    import_posts(folder, stream="news")
    refused = tunable("tune", "timing", *FEW)
    assert refused.code == 2
    assert "--stream" in refused.err
    done = tunable("tune", "timing", *FEW, "--stream", "news", "--apply", "--json")
    assert done.code == 0, done.err
    assert done.json["study"]["stream"] == "news"
    (key,) = done.json["settings"]
    assert key == "streams.news.timing_model.tunable.hours"
    own = json.loads(tunable("config", "get", "timing_model.tunable.hours", "--stream", "news").out)
    assert own == done.json["settings"][key]
    assert json.loads(tunable("config", "get", "timing_model.tunable", "--stream", "default").out)["hours"] == 30.0
    assert tunable("tune", "--show", "--stream", "default", "--json").json["count"] == 0


@pytest.mark.slow
def test_options_that_cannot_be_written_lose_neither_study_nor_promotion(tunable: Runner, folder: Path) -> None:
    import_posts(folder, stream="news*")
    done = tunable("tune", "timing", *FEW, "--stream", "news*", "--apply")
    assert done.code == 2
    assert (
        "cannot write the tuned options: the name of the stream 'news*' is also a pattern that matches others"
        in done.err
    )
    assert "Promoted: " in done.out
    assert "add this to the settings file" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "missing argument 'timing|content'"),
        (("timing", "--study", "x"), "--study requires --show"),
        (("timing", "--show", "--apply"), "--apply cannot be used with --show"),
        (("timing", "--show", "--jobs", "2"), "--jobs cannot be used with --show"),
        (("timing", "--show", "--max-cost", "0"), "--max-cost cannot be used with --show"),
        (("timing", "--show", "--algorithm", "tunable"), "--algorithm cannot be used with --show"),
        (("timing", "--timeout", "soon"), "'soon' is not a duration (write it like 90s, 30m, 2h or 1d)"),
        (("timing", "--timeout", "0m"), "'0m' is not a positive duration"),
        (("timing", "--trials", "0"), "--trials: invalid value '0' (must be greater than or equal to 1)"),
        (("timing", "--metric", "mae"), "'mae' (choose overall_score or crps)"),
        (("content", "--metric", "crps"), "crps"),
        (("timing", "--algorithm", "tunible"), "unknown algorithm 'tunible'. Did you mean 'tunable'?"),
        (("timing", "--plot", "study.pdf"), "--plot: unsupported format 'study.pdf'"),
        (("--show", "--plot", "study.svg"), "--plot: no study to draw"),
        (("timing", "--backend", "dask"), "--backend dask needs an address"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line(arguments: tuple[str, ...], message: str, tunable: Runner) -> None:
    done = tunable("tune", *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.out == ""


def test_too_few_posts_are_exit_code_3(tunable: Runner, folder: Path, retrainer: Runner) -> None:
    project = open_project(folder)
    project.posts.for_stream("few").add(regular_posts(80), NOW)
    project.close()
    done = tunable("tune", "timing", "--stream", "few")
    assert done.code == 3
    assert "Insufficient data" in done.err
