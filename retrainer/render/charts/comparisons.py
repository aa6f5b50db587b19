"""Charts of a comparison of two versions on the same posts: how certain the difference is, and where it comes from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from retrainer.escapes import visible
from retrainer.model_types.base import evenly_spaced
from retrainer.render.charts import style
from retrainer.render.charts.chart import Chart, Table
from retrainer.render.charts.times import format_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from retrainer.evaluation.bootstrap import Evidence, Resamples
    from retrainer.evaluation.comparison import Difference
    from retrainer.render.charts.canvas import Canvas

_BINS = 40
_ROW = 40
_MAX_POINTS = 150


def distribution(evidence: Evidence, resamples: Resamples) -> Chart | None:
    """Return how the improvement of b over a varies between resamples of the posts; None if it never does.

    It is in percent of a's score or, if a scored 0, a difference of scores.
    """
    is_relative = resamples.percentages is not None
    values = resamples.differences if resamples.percentages is None else resamples.percentages
    if not len(values) or np.ptp(values) == 0:
        return None
    unit = "%" if is_relative else "score"
    low, high = evidence.interval_percentage or tuple(np.quantile(values, [0.025, 0.975]))
    better = evidence.probability_better
    level = f"{100 * evidence.level:.4g}%"
    first, last = (float(end) for end in np.quantile(values, [0.001, 0.999]))
    edges = np.linspace(first, last, _BINS + 1)
    counts, _ = np.histogram(values, edges)
    shares = counts / len(values)

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes(["resamples", f"{level} interval", "no difference"])
        band = axes.axvspan(low, high, color=style.OCHRE.light, alpha=0.2, linewidth=0, label=f"{level} interval")
        bars = axes.stairs(100 * shares, edges, fill=True, color=style.BLUE.light, alpha=0.75, label="resamples")
        zero = axes.axvline(0, color=style.TEXT.light, linewidth=1.6, linestyle=(0, (5, 2)), label="no difference")
        span = max(edges[-1], 0, high) - min(edges[0], 0, low)
        axes.set_xlim(min(edges[0], 0, low) - 0.03 * span, max(edges[-1], 0, high) + 0.03 * span)
        axes.set_ylim(0, 100 * shares.max() * 1.08)
        axes.set_xlabel(f"improvement of the score ({unit})")
        axes.set_ylabel("share of resamples (%)")
        canvas.legend(axes, [bars, band, zero])
        middles = (edges[1:] + edges[:-1]) / 2
        canvas.hover_columns(
            axes, middles, [f"about {one:+.3g} {unit}: {share:.1%}" for one, share in zip(middles, shares, strict=True)]
        )

    return Chart(
        "Bootstrap distribution of the improvement",
        f"The improvement is {low:+.2f} to {high:+.2f} {unit} ({level} interval); the second version is better in "
        f"{better:.1%} of {evidence.resamples:,} resamples of {evidence.num_predictions:,} posts.",
        Table(
            ("Improvement", "Share of resamples"),
            [
                (f"{start:+.3f} to {stop:+.3f} {unit}", f"{share:.1%}")
                for start, stop, share in zip(edges[:-1], edges[1:], shares, strict=True)
                if share
            ],
            right=("Improvement", "Share of resamples"),
        ),
        draw,
    )


def over_time(
    times: NDArray[np.datetime64], differences: NDArray[np.float64], names: tuple[str, str] = ("A", "B")
) -> Chart | None:
    """Return the sum of the differences of the posts so far, which rises where b is better; None without posts.

    Args:
        times: (n,) datetime64[us], UTC, ascending: of the posts.
        differences: (n,) by how much each post's contribution to the score is higher with b than with a.
        names: of a and b.
    """
    if not len(times):
        return None
    a, b = map(visible, names)
    sums = np.cumsum(differences)
    shown = evenly_spaced(len(times), _MAX_POINTS)

    def draw(canvas: Canvas) -> None:
        axes = canvas.axes(["cumulative difference", "no difference"], left=80)
        axes.axhline(0, label="no difference", **style.NAIVE.options())
        at, values = times[shown], sums[shown]
        for side, colour in ((np.maximum(values, 0), style.BLUE), (np.minimum(values, 0), style.VERMILION)):
            axes.fill_between(at, side, 0, color=colour.light, alpha=0.15, linewidth=0, step="post")
        axes.plot(at, values, drawstyle="steps-post", label="cumulative difference", **style.VERSION.options())
        axes.margins(x=0.02, y=0.1)
        axes.set_ylabel("cumulative difference (score)")
        axes.set_xlabel(f"time of the posts (UTC); rises where {_shorten(b)} is better")
        format_axis(axes.xaxis)
        handles, _ = axes.get_legend_handles_labels()
        canvas.legend(axes, handles[::-1])
        canvas.hover_columns(
            axes,
            at,
            [f"{str(times[row])[:16]} UTC: {sums[row]:+.3f}, {differences[row]:+.3f}" for row in shown],
        )

    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    largest = np.argsort(-np.abs(differences), kind="stable")[:20]
    return Chart(
        "Cumulative difference, post by post",
        f"Of {len(times):,} posts, {b} is better than {a} on {better:,} and worse on {worse:,}; the differences add up "
        f"to {sums[-1]:+.3f}. The table lists the 20 largest.",
        Table(
            ("Post (UTC)", "Difference"),
            [(str(times[row])[:16].replace("T", " "), f"{differences[row]:+.4f}") for row in sorted(largest)],
            right=("Difference",),
        ),
        draw,
    )


def situations(differences: Sequence[Difference], names: tuple[str, str] = ("A", "B")) -> Chart | None:
    """Return the scores of a and b where they differ most; None without such situations."""
    if not differences:
        return None
    names = visible(names[0]), visible(names[1])
    differences = [replace(one, situation=visible(one.situation)) for one in differences]
    lines = (style.OTHER, style.VERSION)

    def draw(canvas: Canvas) -> None:
        labels = [f"{one.situation}\n({one.num_predictions:,} posts)" for one in differences]
        axes = canvas.rows_axes(labels, names)
        for index, one in enumerate(differences):
            axes.plot((one.score_a, one.score_b), (index, index), color=style.AXIS.light, linewidth=2, zorder=1)
        sides = [one.score_a for one in differences], [one.score_b for one in differences]
        for name, line, scores in zip(names, lines, sides, strict=True):
            axes.plot(
                scores,
                range(len(differences)),
                line.marker,
                color=line.colour.light,
                markersize=9,
                markeredgecolor=style.SURFACE.light,
                label=name,
            )
        axes.margins(x=0.08)
        axes.locator_params(axis="x", nbins=6)
        axes.set_xlabel("score (0 to 1)")
        canvas.legend(axes)
        canvas.hover_rows(axes, [f"{one.situation}: {one.score_a:.4f} and {one.score_b:.4f}" for one in differences])

    first = differences[0]
    return Chart(
        "Where the versions differ most",
        f"Largest difference: {first.situation} ({first.num_predictions:,} posts): {names[0]} scores "
        f"{first.score_a:.4f}, {names[1]} {first.score_b:.4f}.",
        Table(
            ("Situation", "Posts", *names),
            [
                (one.situation, f"{one.num_predictions:,}", f"{one.score_a:.4f}", f"{one.score_b:.4f}")
                for one in differences
            ],
            right=("Posts", *names),
        ),
        draw,
        height=88 + _ROW * len(differences),
    )


def _shorten(name: str) -> str:
    return name if len(name) <= 24 else "…" + name[-23:]  # noqa: PLR2004
