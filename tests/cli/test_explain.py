"""The command `explain`: what it measures, what it refuses, and where its result is shown."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import pytest

from retrainer.pipeline.loading import feature_importance
from retrainer.web.rendering import Frame, Page, render_page
from retrainer.web.views.version import gather_version
from tests.conftest import NOW, open_project, runtime_of
from tests.registry.test_read_only import read_only
from tests.render.sample_charts import explanation_of

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from tests.command_line import Runner

MARKUP = '<script>alert("x")</script>\u202e'
INPUTS = ["hour", "weekday", "last_wait", "earlier_waits"]


def test_a_timing_version_is_explained_by_its_inputs(trained: str, retrainer: Runner) -> None:
    made = retrainer("explain", "timing@production", "--posts", "5", "--json")
    assert made.code == 0, made.err
    document = made.json
    assert document["version_id"] == trained
    assert (document["method"], document["num_predictions"], document["cost_usd"]) == ("permuted", 5, 0)
    assert [part["name"] for part in document["parts"]] == INPUTS
    for part in document["parts"]:
        assert part["worth"].keys() == {"overall_score", "crps_hours"} == document["metrics"].keys()
    assert document["importance"][0].keys() == {"label", "value", "unit", "note"}
    shown = retrainer("explain", trained, "--posts", "5")
    assert "Feature importance" in shown.out
    assert "the hour of the day" in shown.out
    assert "Where the 95% interval includes 0, the result is inconclusive." in shown.out


def test_show_has_the_latest_explanation(trained: str, retrainer: Runner) -> None:
    assert retrainer("show", trained, "--json").json["explanation"] is None
    for count in ("5", "7"):
        made = retrainer("explain", trained, "--posts", count, "--json").json
        kept = retrainer("show", trained, "--json").json["explanation"]
        assert kept == {name: value for name, value in made.items() if name != "importance"}
        assert f"on {count} posts" in retrainer("show", trained).out


def test_the_same_posts_give_the_same_figures(trained: str, retrainer: Runner) -> None:
    one, other = (retrainer("explain", trained, "--posts", "6", "--json").json for _ in range(2))
    assert one["parts"] == other["parts"]


def test_an_algorithm_without_parts_is_refused_and_others_are_named(trained: str, retrainer: Runner) -> None:
    done = retrainer("explain", "content@production")
    assert done.code == 2
    assert "the algorithm 'baseline' has no context parts to leave out" in done.err
    assert "Algorithms that may have some: claude_api, finetuned_lm" in done.err


def test_a_version_without_later_posts_cannot_be_explained(trained: str, retrainer: Runner) -> None:
    last = retrainer("show", trained, "--json").json["evaluations"][0]["window"]["start"]
    posts = retrainer("posts", "list", "--limit", "1000", "--json").json["posts"]
    later = [post["post_id"] for post in posts if post["created_at"] >= last]
    assert retrainer("posts", "delete", *later, "--yes").code == 0
    done = retrainer("explain", trained)
    assert done.code == 3
    assert "no post is later than the training data" in done.err


def test_an_unknown_version_and_wrong_numbers_are_refused(trained: str, retrainer: Runner) -> None:
    assert retrainer("explain", "timing@moon").code == 2
    assert retrainer("explain", trained, "--posts", "0").code == 2
    assert retrainer("explain", trained, "--max-cost", "-1").code == 2
    assert retrainer("explain", trained, "--stream", "elsewhere").code == 2


def test_a_plot_shows_the_parts(trained: str, retrainer: Runner, folder: Path) -> None:
    assert retrainer("explain", trained, "--posts", "5", "--plot", "explained.svg").code == 0
    drawn = (folder / "explained.svg").read_text()
    assert "the hour of the day" in drawn
    assert "Permutation importance: CRPS" in drawn


def test_production_stays_and_no_decision_is_recorded(trained: str, folder: Path, retrainer: Runner) -> None:
    project = open_project(folder)
    before = [entry.entry_id for entry in project.registry.list_ledger_entries()]
    assert retrainer("explain", trained, "--posts", "5").code == 0
    assert [entry.entry_id for entry in project.registry.list_ledger_entries()] == before
    assert retrainer("doctor").out == "No problems found\n"
    project.close()


# --- where it is shown ----------------------------------------------------------------------------


@pytest.fixture
def project(trained: str, folder: Path) -> Project:
    return open_project(folder)


def page_of(project: Project, version_id: str) -> str:
    version = project.registry.get_version(version_id)
    view = gather_version(project, version, feature_importance(project, runtime_of(project), version))
    frame = Frame("project", None, NOW, "/versions", signed_in=False, can_sign_in=False)
    return render_page(Page("version.html", "Title", {"view": view}), frame).decode()


def test_the_page_of_a_version_shows_the_parts_with_their_intervals(project: Project, trained: str) -> None:
    assert "What the forecasts depend on" not in page_of(project, trained)
    project.registry.record_explanation(explanation_of(trained, "the last posts"))
    page = html.unescape(page_of(project, trained))
    assert "What the forecasts depend on" in page
    assert "for $0.0123 on 20 posts from 2025-12-01 to 2025-12-31; full forecasts: score 0.430, lift 0.018." in page
    assert "Largest: 'the last posts', +0.030 (+0.010 to +0.050)." in page
    assert "-0.004 to +0.028" in page
    assert "Incomplete: the limit is reached the last posts" in page


def test_hostile_labels_are_escaped_on_pages_and_screens(project: Project, trained: str, retrainer: Runner) -> None:
    project.registry.record_explanation(explanation_of(trained, MARKUP))
    page = page_of(project, trained)
    assert "<script>alert" not in page
    assert "\u202e" not in page
    shown = retrainer("show", trained)
    assert shown.code == 0
    assert "\u202e" not in shown.out
    assert "Incomplete: " in shown.out


def test_an_explanation_of_nothing_is_shown_without_a_chart(project: Project, trained: str, retrainer: Runner) -> None:
    (_, unmeasured) = explanation_of(trained, MARKUP).parts
    project.registry.record_explanation(explanation_of(trained, MARKUP, parts=[unmeasured]))
    assert "Incomplete: " in page_of(project, trained)
    assert retrainer("show", trained).code == 0


@pytest.mark.slow
def test_a_project_that_cannot_be_written_is_named(trained: str, folder: Path, retrainer: Runner) -> None:
    with read_only(folder):
        done = retrainer("explain", trained, "--posts", "3")
    assert done.code == 1
    assert "cannot be written" in done.err.splitlines()[-1]
    assert "Forecasting" not in done.err, "nothing is paid for"
    assert retrainer("show", trained, "--json").json["explanation"] is None
