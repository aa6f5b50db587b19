"""Studies as tables: which trials are shown, and how a study that is unfinished, paid or failed reads."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from retrainer.render.documents.tuning import StudiesDocument, StudyReportDocument
from retrainer.render.tuning import describe_progress, show_studies, show_study
from retrainer.tuning.plan import FoldBounds, StudyPlan, TunedAlgorithm
from retrainer.tuning.results import Gain, StudyOutcome, StudyReport, StudySummary, TrialResult, TuningProgress

if TYPE_CHECKING:
    from retrainer.tuning.plan import MetricName

CREATED = datetime(2024, 11, 15, tzinfo=UTC)


def make_report(*values: float, metric: MetricName = "overall_score") -> StudyReport:
    """Return a study whose trials have these values; the first one is the configured options."""
    algorithm = TunedAlgorithm("prophet", "1.0", "f", {"weeks": 26, "trend": False})
    bounds = (FoldBounds(50, 65), FoldBounds(65, 80))
    plan = StudyPlan(
        "default", "timing", metric, 0, (algorithm,), 95, "d", bounds, FoldBounds(80, 95), "post", 200, False
    )
    trials = tuple(
        TrialResult(
            number,
            "complete",
            "prophet",
            {"weeks": 26 + number, "trend": number % 2 == 1},
            {"prophet.weeks": 26 + number},
            value,
            0.01,
            (value, value),
            is_default=number == 0,
        )
        for number, value in enumerate(values)
    )
    best = max(trials, key=lambda trial: plan.improvement(0.0, trial.value or 0.0))
    summary = StudySummary("study_1", CREATED, plan, {"complete": len(trials)}, trials[0], best, None)
    return StudyReport(summary, trials, {"prophet.weeks": 0.75, "prophet.trend": 0.25})


def rows_of(output: str) -> list[list[str]]:
    lines = output.splitlines()
    start = next(row for row, line in enumerate(lines) if line.startswith("Trial "))
    rows = []
    for line in lines[start + 2 :]:
        if not line:
            break
        rows.append(line.split())
    return rows


def test_the_best_trials_come_first_and_the_configured_options_are_always_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_study(make_report(0.1, 0.2, 0.7, 0.5, 0.6, 0.4, 0.3))
    rows = rows_of(capsys.readouterr().out)
    assert [row[0] for row in rows] == ["2", "4", "3", "5", "6", "0"]
    assert rows[0][:4] == ["2", "prophet", "0.7000", "0.0100"]
    assert rows[0][4:] == ["weeks=28"]
    assert rows[2][4:] == ["weeks=29,", "trend=true"]
    assert rows[-1][4:] == ["as", "configured"]


def test_of_a_metric_in_hours_the_smallest_is_best(capsys: pytest.CaptureFixture[str]) -> None:
    report = make_report(5.0, 3.0, 4.0, metric="crps")
    gain = Gain(0.5, (-0.25, 1.25), 0.9, 4.5, 4.0, 15)
    outcome = StudyOutcome(1, 2.0, gain, kept=True, reason="so")
    show_study(replace(report, summary=replace(report.summary, outcome=outcome)))
    out = capsys.readouterr().out
    assert [row[0] for row in rows_of(out)] == ["1", "2", "0"]
    assert "Trial 1 gains +2.00h over the configured options" in out
    assert (
        "Kept: on the held-back fold, its gain is +0.50h (4.00h against 4.50h on 15 posts, 95% interval -0.25h to "
        "+1.25h, better with probability 0.90)" in out
    )
    assert "Parameter importance: prophet.weeks 75%, prophet.trend 25%" in out


def test_trials_of_the_pareto_set_are_shown_with_their_costs(capsys: pytest.CaptureFixture[str]) -> None:
    report = make_report(0.1, 0.2, 0.7, 0.5, 0.6, 0.4, 0.3)
    trials = tuple(replace(trial, cost_usd=trial.number / 100) for trial in report.trials)
    show_study(replace(report, trials=trials, pareto=(1, 2)))
    rows = rows_of(capsys.readouterr().out)
    marked = [row[0] for row in rows if "(Pareto-optimal)" in " ".join(row)]
    assert marked == ["2", "1"]
    assert rows[0][4] == "$0.0200"


def test_of_nested_options_only_what_differs_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    report = make_report(0.1, 0.2)
    plan = report.summary.plan
    configured = {"members": {"prophet": {"weeks": 26, "trend": False}, "baseline": {}}}
    algorithm = replace(plan.algorithms[0], options=configured)
    options = {"members": {"prophet": {"weeks": 52, "trend": False}, "baseline": {}}}
    summary = replace(report.summary, plan=replace(plan, algorithms=(algorithm,)))
    show_study(StudyReport(summary, (report.trials[0], replace(report.trials[1], options=options))))
    assert rows_of(capsys.readouterr().out)[0][4:] == ["members.prophet.weeks=52"]


def test_failed_trials_are_counted_with_the_first_reason(capsys: pytest.CaptureFixture[str]) -> None:
    report = make_report(0.1)
    failed = TrialResult(1, "failed", "prophet", error="no \x1b[31mweeks")
    show_study(replace(report, trials=(*report.trials, failed)))
    assert "1 trial failed, the first with: no \\x1b[31mweeks" in capsys.readouterr().out


def test_a_list_says_how_each_study_ended(capsys: pytest.CaptureFixture[str]) -> None:
    unfinished = make_report(0.1, 0.2).summary
    gain = Gain(0.05, (0.01, 0.09), 0.99, 0.1, 0.15, 15)
    outcomes = {
        "unfinished": None,
        "not kept": StudyOutcome(None, None, None, kept=False, reason="so"),
        "not promoted": StudyOutcome(1, 0.1, gain, kept=True, reason="so"),
        "promoted": StudyOutcome(1, 0.1, gain, kept=True, reason="so", run_id="run_1", promoted=True),
    }
    studies = [replace(unfinished, name=name.replace(" ", "_"), outcome=outcome) for name, outcome in outcomes.items()]
    show_studies(studies, None, location="sqlite:///tuning.db")
    lines = capsys.readouterr().out.splitlines()[3:]
    assert [line.split()[0].replace("_", " ") for line in lines if line] == list(outcomes)
    assert all(f" {name}  " in line for name, line in zip(outcomes, lines, strict=False))
    assert "+0.0500" in lines[2]


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (TuningProgress(0, 30, None, None), "Trial 1 of 30"),
        (TuningProgress(12, 30, 0.44172, 90), "Trial 13 of 30, best 0.4417, about 1 min 30 s left"),
        (TuningProgress(30, 30, 0.4, 0), "Trial 30 of 30, best 0.4000, about 0 s left"),
    ],
)
def test_progress_is_one_line(progress: TuningProgress, line: str) -> None:
    assert describe_progress(progress) == line


def test_documents_have_the_keys_of_their_examples() -> None:
    report = make_report(0.1, 0.2)
    document = StudiesDocument.from_reports([report.summary], report).model_dump(mode="json")
    assert document.keys() == StudiesDocument.example().keys()
    assert document["shown"].keys() == StudyReportDocument.example().keys()
    assert document["shown"]["study"]["folds"] == [
        {"training_samples": 50, "num_posts": 15},
        {"training_samples": 65, "num_posts": 15},
    ]
