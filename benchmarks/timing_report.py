"""The tables and diagrams of `benchmarks.timing`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.timing_scores import coverage_band, difference, mean_difference
from retrainer.model_types.timing import LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    Results = list[dict[str, Any]]

ORIGINS = ("post", "clock")
CONSTANTS = {"constant_median": "median const.", "constant_best": "best const."}
COLUMNS = {
    "overall_score": "score",
    "overall_score_of_the_median": "its median",
    "skill": "skill",
    "skill_over_baseline": "over baseline",
    "log_crps": "log CRPS",
    "interval_coverage": "cov80",
    "fit_seconds": "fit s",
    "predict_seconds": "predict s",
}
_WORST = {"overall_score": min, "skill": min, "skill_over_baseline": min}


def print_all(results: Results, earlier: dict[str, dict[str, Any]] | None) -> None:
    """Print the tables.

    Args:
        results: of `benchmarks.timing.measure`.
        earlier: an earlier result by stream, to compare with.
    """
    for origin in ORIGINS:
        print_scores(origin, results)
    print_by_silence(results)
    print_long_silences(results)
    print_tail(results)
    found = [
        (origin, pair, [(result["stream"], result[origin]["differences"][pair]) for result in results])
        for origin in ORIGINS
        for pair in results[0][origin]["differences"]
    ]
    print_differences("Differences between algorithms", found)
    if earlier is not None:
        print_differences("Differences to the earlier result", list(differences_to(earlier, results)))


def print_scores(origin: str, results: Results) -> None:
    table = _table(f"Origins: {origin}", ["stream", "n", "algorithm"], [*COLUMNS.values(), "band"])
    for result in results:
        scores = result[origin]
        for name, label in CONSTANTS.items():
            table.add_row(result["stream"], "", label, f"{scores[name]['overall_score']:.3f}")
        for name in result["fit_seconds"]:
            band = "{:.3f}–{:.3f}".format(*scores["coverage_band"])
            count = str(scores[name]["num_predictions"])
            table.add_row(result["stream"], count, name, *_formatted(_row(result, origin, name)), band)
        table.add_section()
    for name in results[0]["fit_seconds"]:
        rows = [_row(result, origin, name) for result in results]
        table.add_row(
            "mean", "", name, *_formatted({key: float(np.mean([row[key] for row in rows])) for key in COLUMNS})
        )
        worst = {key: choose(row[key] for row in rows) for key, choose in _WORST.items()}
        table.add_row("worst", "", name, *_formatted(worst))
    _print(table)
    for name in results[0]["fit_seconds"]:
        print(f"Coverage of {name}: {_count_coverage(origin, name, results)}")


def _count_coverage(origin: str, name: str, results: Results) -> str:
    near = inside = 0
    for result in results:
        coverage = result[origin][name]["interval_coverage"]
        low, high = result[origin]["coverage_band"]
        near += 0.77 <= coverage <= 0.83  # noqa: PLR2004  the usual tolerance
        inside += low <= coverage <= high
    return f"in 77–83% on {near} of {len(results)} streams, in the band on {inside}"


def _row(result: dict[str, Any], origin: str, name: str) -> dict[str, float]:
    scores = result[origin][name]
    return {key: result["fit_seconds"][name] if key == "fit_seconds" else scores[key] for key in COLUMNS}


def _formatted(values: dict[str, float]) -> list[str]:
    return [f"{values[key]:.3f}" if key in values else "" for key in COLUMNS]


def print_by_silence(results: Results) -> None:
    """Print the figures at clock origins over all streams, by the silence so far."""
    columns = ["origins", "score", "skill", "cov80", "band"]
    table = _table("Origins: clock, by the silence so far in usual gaps", ["silence", "algorithm"], columns)
    rows: dict[tuple[float, str], list[dict[str, float]]] = {}
    for result in results:
        for name in result["fit_seconds"]:
            for row in result["clock"][name]["by_silence"]:
                rows.setdefault((row["from"], name), []).append(row)
    for (start, name), found in sorted(rows.items(), key=lambda item: item[0][0]):
        weights = [row["origins"] for row in found]
        figures = [
            float(np.average([row[key] for row in found], weights=weights))
            for key in ("overall_score", "skill", "interval_coverage")
        ]
        band = "{:.3f}–{:.3f}".format(*coverage_band(sum(row["effective_gaps"] for row in found)))
        table.add_row(f"from {start:g}", name, str(sum(weights)), *(f"{figure:.3f}" for figure in figures), band)
    _print(table)


def print_long_silences(results: Results) -> None:
    """Print how many posts ended silences of over 36 hours, and how many the forecasts expected."""
    table = _table("Silences over 36 h", ["stream", "algorithm"], ["observed", "expected", "o/e", "band"])
    rows = [
        (result["stream"], name, found["observed"], found["expected"])
        for result in results
        for name, found in result.get("long_silences", {}).items()
    ]
    for name in dict.fromkeys(name for _, name, _, _ in rows):
        counts = [(observed, expected) for _, other, observed, expected in rows if other == name]
        rows.append(("all", name, *np.sum(counts, axis=0)))
    for stream, name, observed, expected in rows:
        factor = np.exp(1.96 / np.sqrt(observed))  # the error of the logarithm of a Poisson count
        values = (f"{observed:.0f}", f"{expected:.1f}", f"{observed / expected:.2f}")
        table.add_row(stream, name, *values, f"{1 / factor:.2f}–{factor:.2f}")
    _print(table)


def print_tail(results: Results) -> None:
    """Print the stated and the true survival beyond ten usual gaps, of simulated streams."""
    columns = ["true", "stated", "ratio"]
    table = _table("Beyond ten usual gaps", ["stream", "algorithm"], [*columns, "then: true", "stated", "ratio"])
    for result in results:
        for name, found in result.get("tail", {}).items():
            cells = []
            for kind in ("post", "silence"):
                values = found[kind]
                cells += ["", "", ""] if values is None else [f"{values[key]:.3f}" for key in columns]
            table.add_row(result["stream"], name, *cells)
    _print(table)


def differences_to(
    earlier: dict[str, dict[str, Any]], results: Results
) -> Iterable[tuple[str, str, list[tuple[str, dict[str, Any]]]]]:
    """Yield the differences to an earlier result: the kind of origins, the algorithm, and each stream's."""
    for origin in ORIGINS:
        for name in results[0]["fit_seconds"]:
            rows = []
            for result in results:
                then = earlier.get(result["stream"], {}).get(origin, {})
                if name not in then or then["wait_hours"] != result[origin]["wait_hours"]:
                    print(f"No forecasts of '{name}' from the same origins of '{result['stream']}' to compare with")
                    continue
                now = result[origin]
                figures = now[name]["per_origin"], then[name]["per_origin"]
                rows.append((result["stream"], difference(*figures, now["effective_gaps"])))
            if rows:
                yield origin, f"{name} − earlier", rows


def print_differences(title: str, found: Sequence[tuple[str, str, list[tuple[str, dict[str, Any]]]]]) -> None:
    columns = ["score", "95% interval", "log CRPS", "95% interval"]
    table = _table(title, ["origins", "difference", "stream"], columns)
    for origin, pair, rows in found:
        means = {
            figure: mean_difference([differences[figure] for _, differences in rows])
            for figure in ("score", "log_crps")
        }
        for stream, differences in [*rows, ("mean", means)]:
            cells = []
            for figure in ("score", "log_crps"):
                low, high = differences[figure]["interval"]
                cells += [f"{differences[figure]['difference']:+.4f}", f"{low:+.4f} to {high:+.4f}"]
            table.add_row(origin, pair, stream, *cells)
        table.add_section()
    _print(table)


def save_diagrams(results: Results, folder: Path) -> None:
    """Draw, for each stream, how often waits are within the quantile of each level."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        figure = Figure(figsize=(10, 5), layout="constrained")
        for axes, origin in zip(figure.subplots(1, 2, sharey=True), ORIGINS, strict=True):
            gaps = result[origin]["effective_gaps"]
            half = 1.96 * np.sqrt(LEVELS * (1 - LEVELS) / gaps)
            axes.fill_between(LEVELS, LEVELS - half, LEVELS + half, color="0.9", label="95% if calibrated")
            axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
            for name in result["fit_seconds"]:
                axes.plot(LEVELS, result[origin][name]["reliability"], label=name)
            axes.set(
                title=f"{origin}, {gaps:.0f} effective gaps", xlabel="level of the quantile", xlim=(0, 1), ylim=(0, 1)
            )
        axes.legend(loc="lower right")
        figure.axes[0].set_ylabel("share of waits within it")
        figure.suptitle(result["stream"])
        figure.savefig(folder / f"{result['stream']}.png", dpi=100)
    print(f"Diagrams: {folder}")


def _table(title: str, texts: list[str], numbers: list[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in texts:
        table.add_column(column, no_wrap=True)
    for column in numbers:
        table.add_column(column, justify="right")
    return table


def _print(table: Table) -> None:
    if table.row_count:
        Console(width=160).print(table)
