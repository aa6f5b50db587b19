"""`history --csv` gives a spreadsheet every run, and no text that it would run as a formula."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.conftest import open_project

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.registry.registry import Registry
    from tests.command_line import Runner

START = datetime(2024, 5, 1, 12, tzinfo=UTC)
REASONS = (
    '=HYPERLINK("https://evil.example","click")',
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\r\n=1+1",
    'a "quoted" text, of\ntwo lines',
    "ünïcode \U0001f331",
    "it ended",
)


@pytest.fixture
def folder(folder_on_each_database: Path) -> Path:
    """A project folder on each database."""
    return folder_on_each_database


def fail_runs(registry: Registry) -> None:
    """Record a failed run for each reason, a day apart."""
    for number, reason in enumerate(REASONS):
        run = registry.start_run("timing", "baseline", START + timedelta(days=number), None)
        registry.fail_run(run.run_id, reason, START + timedelta(days=number, minutes=1))


def test_every_run_is_a_line_and_no_text_is_a_formula(folder: Path, retrainer: Runner) -> None:
    fail_runs(open_project(folder).registry)
    done = retrainer("history", "--csv")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1 + len(REASONS), "a line each, also of a text with line breaks"
    rows = list(csv.DictReader(io.StringIO(done.out)))
    listed = retrainer("history", "--limit", "99", "--json").json["training_runs"]
    assert list(rows[0]) == list(listed[0])
    assert [row["run_id"] for row in rows] == [run["run_id"] for run in listed]
    oldest_first = [row["error"] for row in reversed(rows)]
    assert not any(text.startswith(("=", "+", "-", "@", "\t", "\r")) for text in oldest_first)
    assert oldest_first[:4] == [f"'{reason}" for reason in REASONS[:4]]
    assert oldest_first[-3:] == ['a "quoted" text, of\\ntwo lines', *REASONS[-2:]]
    last = rows[-1]
    assert (last["started_at"], last["completed_at"]) == ("2024-05-01T12:00:00Z", "2024-05-01T12:01:00Z")
    assert (last["duration_seconds"], last["promoted_to_production"], last["test_overall_score"]) == (
        "60.0",
        "false",
        "",
    )


def test_filters_and_limits_apply_to_csv_too(sqlite_folder: Path, retrainer: Runner) -> None:
    fail_runs(open_project(sqlite_folder).registry)
    assert len(retrainer("history", "--csv", "--limit", "2").out.splitlines()) == 3
    assert len(retrainer("history", "--csv", "--since", "2024-05-08").out.splitlines()) == 3
    assert len(retrainer("history", "--csv", "--type", "content").out.splitlines()) == 1, "the headings"
    assert len(retrainer("history", "--csv", "--limit", "5", "--page", "2").out.splitlines()) == 5
    page = retrainer("history", "--csv", "--page", "2")
    assert (page.code, page.err) == (2, "Error: --csv prints all runs on one page. Add --limit, or omit --page\n")
    assert len(retrainer("--json", "history", "--limit", "2").json["training_runs"]) == 2
    both = retrainer("history", "--csv", "--json")
    assert (both.code, both.err) == (2, "Error: --csv and --json exclude each other. Choose one\n")
