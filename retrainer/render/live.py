"""The text output of `live`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer import console
from retrainer.console import Styled
from retrainer.posts.validation import number
from retrainer.render.cells import format_id, format_minute, format_score, format_stream, skill_style

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from retrainer.live.error_interval import ErrorInterval
    from retrainer.live.refresh import NextTrain
    from retrainer.live.report import LiveReport, LiveWeek, Promise
    from retrainer.live.rollback import Review
    from retrainer.live.summary import ComparisonReport, LiveSummary, Score, Verdict
    from retrainer.streams import ModelKey

SHOWN_WEEKS = 12
_LARGE = 100_000  # of e-values
NAMES = {"naive": "naive forecast", "previous": "previous version", "challenger": "challenger"}
VERDICTS: dict[Verdict, Styled | str] = {
    "fine": Styled("fine", "good"),
    "worse_than_naive": Styled("worse than naive", "bad"),
    "worse_than_previous": Styled("worse than before", "bad"),
    "as_good_as_naive": "as good as naive",
    "too_few_posts": "not clear yet",
}


def show_live(report: LiveReport, preview: NextTrain | None, *, since: datetime | None) -> None:
    """Print how a production version does: the verdict first, then what it rests on.

    Args:
        preview: what the next `train` would do; None if that was not asked for.
        since: what weeks were asked for; None for the latest.
    """
    promoted = "" if report.promoted_at is None else f", promoted {format_minute(report.promoted_at)} UTC"
    scored = "" if report.since is None else f", scored on posts after {format_minute(report.since)} UTC"
    console.paragraph(f"{report.model_type.capitalize()}: {report.version_id}{promoted}{scored}")
    verdict = VERDICTS[report.verdict]
    sentence = Styled(report.sentence, verdict.style) if isinstance(verdict, Styled) else report.sentence
    console.paragraph(sentence)
    if report.weeks:
        console.text()
        _show_weeks(report.weeks if since else report.weeks[-SHOWN_WEEKS:], len(report.weeks))
    elif since is not None and report.num_posts:
        console.text("", f"No live posts since {since:%Y-%m-%d}", "")
    if report.num_posts:
        _show_comparisons(report.comparisons)
    for line in notes(report):
        console.paragraph(line, indent=2)
    if preview is not None:
        console.paragraph(_describe_review(preview.review), indent=2)
        if preview.ab_test is not None:
            console.paragraph(Styled(f"The next `train` would end the A/B test: {preview.ab_test_reason}.", "warning"))


def _show_weeks(weeks: Sequence[LiveWeek], total: int) -> None:
    has_crps = weeks[-1].live.crps is not None
    columns: dict[str, Callable[[LiveWeek], str | Styled]] = {
        "Week": lambda week: f"{week.start:%Y-%m-%d}",
        "Posts": lambda week: str(week.live.num_posts),
        "Score": lambda week: format_score(week.live.score),
        "Naive": lambda week: format_score(week.naive.score),
        "Before": lambda week: _format_score(week.previous),
        "Challenger": lambda week: _format_score(week.challenger),
        "Skill": lambda week: Styled(f"{week.skill:+.3f}", skill_style(round(week.skill, 3))),
        "CRPS": lambda week: format_crps(week.live),
        "CRPS naive": lambda week: format_crps(week.naive),
        "In 80%": lambda week: "-" if week.live.coverage is None else f"{week.live.coverage:.0%}",
        "Error so far": lambda week: _format_interval(week.so_far),
    }
    if not has_crps:
        columns = {name: cell for name, cell in columns.items() if name not in {"CRPS", "CRPS naive", "In 80%"}}
    if not any(week.previous for week in weeks):
        del columns["Before"]
    if not any(week.challenger for week in weeks):
        del columns["Challenger"]
    title = "By week" if len(weeks) == total else f"By week (the last {len(weeks)} of {total}; --since shows others)"
    rows = [[cell(week) for cell in columns.values()] for week in weeks]
    names = list(columns)
    optional = [name for name in ("CRPS naive", "Challenger", "Before", "In 80%", "CRPS", "Skill") if name in columns]
    console.table(names, rows, title=title, right=names[1:], optional=optional)


def _show_comparisons(comparisons: Sequence[ComparisonReport]) -> None:
    rows = [
        (
            NAMES[one.against],
            str(one.num_posts),
            format_score(one.live and one.live.score),
            _format_score(one.other),
            format_crps(one.live),
            format_crps(one.other),
            _format_evidence(one.e_worse),
            _format_evidence(one.e_better),
            "-" if one.error is None else _format_interval(one.error),
        )
        for one in comparisons
    ]
    columns = ["Against", "Posts", "Score", "Its score", "CRPS", "Its CRPS", "E worse", "E better", "Error"]
    console.table(
        columns, rows, title="All live posts", right=columns[1:], optional=["Its CRPS", "CRPS", "E better", "E worse"]
    )


def notes(report: LiveReport) -> list[str | Styled]:
    """Return what else there is to say, a line each."""
    found: list[str | Styled] = []
    if report.model_type == "content" and not report.num_posts:
        found.append(
            "Paid forecasts are scored only if they were made before the post came: run `retrainer predict content` "
            "regularly."
        )
    naive = report.against("naive")
    if naive is not None and naive.live is not None and naive.live.coverage is not None:
        found.append(f"The 80% interval covers {naive.live.coverage:.1%} of the waits.")
    covered = report.expected_score_coverage
    if covered is not None:
        posts = f"{covered.coverage:.1%} of the latest {number(covered.posts, 'live post')}"
        found.append(f"The 80% interval of the expected score covers {posts}.")
    if report.calibration is not None and report.calibration.word != "too few posts to say":
        fifths = ", ".join(f"{share:.0%}" for share in report.calibration.fifths)
        found.append(
            f"Forecasts are {_CALIBRATION[report.calibration.word]}: the fifths of the forecast distribution hold "
            f"{fifths} of the posts (20% each if calibrated)."
        )
    if report.promise is not None:
        found.append(_describe_promise(report.promise))
    if report.late_posts:
        late = number(report.late_posts, "post")
        found.append(f"{late} arrived late and cannot be scored: older than what the live fit knows.")
    found += [Styled(f"{drift.sentence.rstrip('.')}.", "warning") for drift in report.drift if drift.alarm]
    return found


_CALIBRATION = {
    "well calibrated": "well calibrated",
    "too narrow": "too narrow, as posts are often outside what they call likely",
    "too wide": "too wide, as posts are closer to the middle than they say",
    "late": "late, as posts come earlier than they say",
    "early": "early, as posts come later than they say",
}


def _describe_promise(promise: Promise) -> str:
    promised = f"Promoted for a score {_format_percentage(promise.percentage)} than that of {promise.over} on "
    promised += f"{number(promise.num_posts, 'held-out post')}"
    if not promise.live_num_posts:
        return f"{promised}; not seen live yet."
    if promise.live_percentage is None:
        return f"{promised}; on {number(promise.live_num_posts, 'live post')}, that one scores 0."
    live = f"it is {_format_percentage(promise.live_percentage)} on {number(promise.live_num_posts, 'live post')}"
    return f"{promised}; {live}."


def _format_percentage(percentage: float | None) -> str:
    if percentage is None:
        return "better"
    return f"{abs(percentage):.1f}% {'better' if percentage >= 0 else 'worse'}"


def _describe_review(review: Review) -> str | Styled:
    match review.outcome:
        case "kept":
            return f"The next `train` would not roll back: {review.reason or 'the evidence is not enough'}."
        case "rollback":
            return Styled(f"The next `train` would roll back. {review.reason}.", "bad")
        case "degraded":
            return Styled(f"The next `train` would keep production although it is worse. {review.reason}.", "bad")


def show_summaries(summaries: Mapping[ModelKey, LiveSummary], short_ids: Mapping[str, str]) -> None:
    """Print the verdicts on many production versions, a row each."""
    if not summaries:
        console.text("Nothing is in production")
        return
    rows = []
    for key, one in summaries.items():
        naive = one.against("naive")
        skill = naive.skill if naive is not None else None
        rows.append(
            (
                format_stream(key.stream),
                key.model_type,
                format_id(one.version.version_id, short_ids),
                str(one.num_posts),
                format_score(naive.live.score if naive is not None and naive.live is not None else None),
                "-" if skill is None else Styled(f"{skill:+.3f}", skill_style(skill)),
                VERDICTS[one.verdict],
            )
        )
    columns = ["Stream", "Type", "Live", "Posts", "Score", "Skill", "Verdict"]
    console.table(columns, rows, right=["Posts", "Score", "Skill"])


def _format_score(score: Score | None) -> str:
    return format_score(score and score.score)


def format_crps(score: Score | None) -> str:
    return "-" if score is None or score.crps is None else f"{score.crps:.2f}h"


def _format_interval(interval: ErrorInterval) -> str:
    """Return by how much the error is larger or smaller, such as `-21 to -8%`."""
    if not interval.is_known:
        return "-"
    low, high = ("…" if end is None else f"{round(-end * 100) or 0:+d}" for end in (interval.high, interval.low))
    return "±0%" if (low, high) == ("+0", "+0") else f"{low} to {high}%"


def _format_evidence(value: float) -> str:
    return f"{value:.1g}" if value < 1 or value >= _LARGE else f"{value:.0f}"
