"""Studies as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrainer import console
from retrainer.model_types import get_model_type
from retrainer.render.cells import format_moment, moment_heading
from retrainer.render.scores import show_run_results
from retrainer.tuning.plan import METRIC_KEYS
from retrainer.tuning.settings_changes import format_changes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from retrainer.console import Styled
    from retrainer.model_types.base import Metric
    from retrainer.tuning.plan import StudyPlan
    from retrainer.tuning.results import Gain, StudyReport, StudySummary, TrialResult, TuningProgress, TuningResult
    from retrainer.tuning.settings_changes import Changes

BEST_TRIALS = 5  # as many are shown, and the configured options
_DIGITS = {"hours": 2}  # of a difference, by the unit of the metric; else 4


def show_studies(summaries: Sequence[StudySummary], shown: StudyReport | None, *, location: str) -> None:
    """Print studies, newest first, and the best trials of one of them.

    Args:
        location: where they are, quoted.
    """
    if not summaries:
        console.text(f"No studies in {location}")
        return
    created = moment_heading("Created")
    columns = ["Study", "Type", "Trials", "State", "Metric", created, "Configured", "Best", "Held back"]
    rows = [
        (
            one.name,
            one.plan.model_type,
            str(one.finished_trials),
            _describe_state(one),
            one.plan.metric,
            format_moment(one.created_at),
            _format_value(one.plan, one.default),
            _format_value(one.plan, one.best),
            _format_held_back(one),
        )
        for one in summaries
    ]
    right = ["Trials", "Configured", "Best", "Held back"]
    optional = ["Metric", created, "Type", "Configured"]
    console.table(columns, rows, right=right, optional=optional, title=f"Studies in {location}")
    if shown is not None:
        show_study(shown)


def show_study(report: StudyReport) -> None:
    """Print the best trials of a study, the importance of its parameters, and how it ended."""
    summary = report.summary
    plan = summary.plan
    folds = f"{len(plan.folds)} folds of {plan.training_count:,} training posts, by {_metric(plan).label}"
    console.paragraph(f"{summary.name}: {_describe_trials(summary)} on {folds}")
    console.text()
    _show_trials(report)
    if report.importances:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in report.importances.items())
        console.paragraph(f"Parameter importance: {shares}")
    failed = [trial for trial in report.trials if trial.state == "failed"]
    if failed:
        trials = "1 trial failed" if len(failed) == 1 else f"{len(failed)} trials failed"
        console.paragraph(console.Styled(f"{trials}, the first with: {failed[0].error}", "bad"))
    _show_outcome(summary)


def show_result(result: TuningResult, changes: Changes | None, *, written: str | None) -> None:
    """Print what a call of `tune` found, the run that trained the winner, and what to put into the settings file.

    Args:
        changes: the keys of the settings file to change; None without a winner that was kept.
        written: the settings file that they were written to; None if they were not.
    """
    show_study(result.report)
    if result.interrupted:
        console.paragraph(console.Styled("Interrupted. Run the same command to continue this study", "warning"))
    if result.run is not None:
        console.text()
        show_run_results([result.run])
    if not changes:
        return
    if written is not None:
        console.paragraph(console.Styled(f"Wrote {', '.join(map('.'.join, changes))} to '{written}'", "good"))
        return
    if result.promoted:
        console.paragraph("To keep these options for the next `train`, add this to the settings file (or use --apply):")
    else:
        console.paragraph("To train with these options anyway, add this to the settings file:")
    console.text("", *(f"  {line}" for line in format_changes(changes).splitlines()))


def describe_progress(progress: TuningProgress) -> str:
    """Return how far a study is, in one line."""
    # Late: the line is written by a command that trains, which has imported it by now.
    from retrainer.times import format_duration  # noqa: PLC0415

    parts = [f"Trial {min(progress.done + 1, progress.total)} of {progress.total}"]
    if progress.best is not None:
        parts.append(f"best {progress.best:.4f}")
    if progress.seconds_left is not None:
        parts.append(f"about {format_duration(progress.seconds_left)} left")
    return ", ".join(parts)


def _metric(plan: StudyPlan) -> Metric:
    key = METRIC_KEYS[plan.metric]
    return next(metric for metric in get_model_type(plan.model_type).metrics if metric.key == key)


def _format_value(plan: StudyPlan, trial: TrialResult | None) -> str:
    return _metric(plan).format(None if trial is None else trial.value)


def _format_difference(plan: StudyPlan, value: float) -> str:
    unit = _metric(plan).unit
    return f"{value:+.{_DIGITS.get(unit, 4)}f}{'h' if unit == 'hours' else ''}"


def _describe_state(summary: StudySummary) -> Styled | str:
    outcome = summary.outcome
    if outcome is None:
        return console.Styled("unfinished", "warning")
    if outcome.promoted:
        return console.Styled("promoted", "good")
    return "not promoted" if outcome.kept else console.Styled("not kept", "faint")


def _format_held_back(summary: StudySummary) -> str:
    gain = None if summary.outcome is None else summary.outcome.held_back
    return "-" if gain is None else _format_difference(summary.plan, gain.value)


def _describe_trials(summary: StudySummary) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in summary.counts.items() if count)
    trials = "1 trial" if summary.finished_trials == 1 else f"{summary.finished_trials} trials"
    return f"{trials} ({counts or 'none yet'})"


def _show_trials(report: StudyReport) -> None:
    summary, plan = report.summary, report.summary.plan
    shown = {trial.number: trial for trial in _best_trials(report)}
    shown |= {trial.number: trial for trial in report.trials if trial.number in report.pareto}
    if summary.default is not None:
        shown.setdefault(summary.default.number, summary.default)
    if not shown:
        return
    paid = any(trial.cost_usd for trial in report.trials)
    columns = ["Trial", "Algorithm", _metric(plan).label, "± SE", *(["Cost"] if paid else []), "Options"]
    winner = None if summary.outcome is None else summary.outcome.winner
    rows = [
        (
            console.Styled(str(trial.number), "good") if trial.number == winner else str(trial.number),
            str(trial.algorithm),
            _format_value(plan, trial),
            "-" if trial.standard_error is None else f"{trial.standard_error:.4f}",
            *([f"${trial.cost_usd:.4f}"] if paid else []),
            _describe_options(trial, plan, pareto=trial.number in report.pareto),
        )
        for trial in shown.values()
    ]
    console.table(columns, rows, right=[*columns[2:-1], "Trial"])


def _best_trials(report: StudyReport) -> list[TrialResult]:
    """Return the best trials, best first; of those with equal options the first."""
    different: dict[str, TrialResult] = {}
    for trial in report.trials:
        if trial.state == "complete" and trial.value is not None:
            different.setdefault(f"{trial.algorithm} {sorted(trial.options.items())}", trial)
    improvement = report.summary.plan.improvement
    return sorted(different.values(), key=lambda trial: improvement(trial.value or 0.0, 0.0))[:BEST_TRIALS]


def _describe_options(trial: TrialResult, plan: StudyPlan, *, pareto: bool) -> str:
    """Return how the options of a trial differ from the configured ones."""
    configured = dict(_leaves(next((one.options for one in plan.algorithms if one.name == trial.algorithm), {})))
    differing = {name: value for name, value in _leaves(trial.options) if configured.get(name) != value}
    if trial.is_default or not differing:
        words = "as configured"
    else:
        words = ", ".join(f"{name}={_format_option(value)}" for name, value in differing.items())
    return f"{words} (Pareto-optimal)" if pareto else words


def _leaves(options: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each option, those of a mapping as `members.prophet.weeks`."""
    for name, value in options.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{section}{name}.")
        else:
            yield f"{section}{name}", value


def _format_option(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _show_outcome(summary: StudySummary) -> None:
    outcome = summary.outcome
    if outcome is None:
        return
    if outcome.winner is not None and outcome.gain_on_folds is not None:
        gained = _format_difference(summary.plan, outcome.gain_on_folds)
        console.paragraph(
            f"Trial {outcome.winner} gains {gained} over the configured options on the folds used to choose it. "
            "This estimate is optimistic."
        )
    gain = outcome.held_back
    reason = outcome.reason if gain is None else f"on the held-back fold, {_describe_gain(summary.plan, gain)}"
    if outcome.kept:
        console.paragraph(console.Styled(f"Kept: {reason}", "good"))
    else:
        console.paragraph(f"Not kept: {reason}")


def _describe_gain(plan: StudyPlan, gain: Gain) -> str:
    low, high = (_format_difference(plan, end) for end in gain.interval)
    metric = _metric(plan)
    return (
        f"its gain is {_format_difference(plan, gain.value)} ({metric.format(gain.score_b)} against "
        f"{metric.format(gain.score_a)} on {gain.num_predictions} posts, 95% interval {low} to {high}, "
        f"better with probability {gain.probability_better:.2f})"
    )
