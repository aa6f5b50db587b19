"""Charts: allowed by a strict policy, the same every time, legible, told apart without colours, with a table."""

from __future__ import annotations

import errno
import io
import os
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from retrainer.errors import RetrainerError, UsageError
from retrainer.render.charts import calibration, drawing, errors, forecasts, importance, posts, scores, style
from retrainer.render.charts.files import require_format
from tests.render.sample_charts import HOSTILE, next_post, sample_charts

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from retrainer.render.charts.chart import Chart

NAMES = (
    *(
        "next post",
        "days",
        "beside posts",
        "reliability",
        "pit",
        "hours of errors",
        "silences",
        "worth",
        "importance",
        "history",
    ),
    *("intervals", "distribution", "differences", "situations", "rate", "hours", "gaps", "drift", "live scores"),
    *("live errors", "live evidence", "replay", "promotions", "trials"),
)


@cache
def charts() -> dict[str, Chart]:
    return sample_charts()


def parse(chart: Chart) -> ET.Element:
    return ET.fromstring(chart.svg)  # noqa: S314  ours


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2.2."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_names_are_those_of_the_samples() -> None:
    assert set(NAMES) == charts().keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_chart_is_allowed_by_a_policy_without_inline_styles(name: str) -> None:
    root = parse(charts()[name])
    for element in root.iter():
        assert element.tag not in {"style", "script", "image", "foreignObject", "a"}
        assert not [key for key in element.attrib if key == "style" or key.startswith("on")]
        for key, value in element.attrib.items():
            assert "http" not in value, "nothing is fetched"
            assert key != "href" or value.startswith("#")


@pytest.mark.parametrize("name", NAMES)
def test_every_colour_has_a_counterpart_in_the_dark(name: str) -> None:
    named = {colour.name for colour in style.COLOURS}
    for element in parse(charts()[name]).iter():
        classes = dict(part.split("-", 1) for part in element.get("class", "").split() if "-" in part)
        for key in ("fill", "stroke"):
            value = element.get(key, "none")
            if value not in {"none", "transparent"}:
                assert classes[key] in named, ET.tostring(element)
    text = [element for element in parse(charts()[name]).iter("text") if element.get("fill") is None]
    assert not text, "a text without a colour would be black in the dark"


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_never_markup_nor_formulas(name: str) -> None:
    chart = charts()[name]
    assert "<script" not in chart.svg
    assert "\x1b" not in chart.svg
    assert "\u202e" not in chart.svg
    root = parse(chart)
    assert root.find("title") is not None
    texts = [element.text or "" for element in root.iter("text")]
    assert not [text for text in texts if "mathdefault" in text]


def test_a_hostile_text_is_shown_as_it_is() -> None:
    texts = [element.text or "" for element in parse(charts()["intervals"]).iter("text")]
    (shown,) = [text for text in texts if "script" in text]
    assert shown == HOSTILE[:35] + "…"
    assert charts()["intervals"].table.rows[2][0] == HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")


def test_dollars_are_no_formula() -> None:
    label = "$x^2$ for $1 or $2"
    chart = scores.intervals(
        "Scores", [scores.ScoreInterval(label, 0.7, None), scores.ScoreInterval("$\\frac{", 0.6, None)]
    )
    assert chart is not None
    assert {label, "$\\frac{"} <= {element.text for element in parse(chart).iter("text")}


@pytest.mark.parametrize("name", NAMES)
def test_a_chart_has_a_title_a_description_and_a_complete_table(name: str) -> None:
    chart = charts()[name]
    root = parse(chart)
    ids = {element.get("id"): element.tag for element in root.iter() if element.get("id")}
    assert (root.get("role"), ids[root.get("aria-labelledby")]) == ("img", "title")
    assert ids[root.get("aria-describedby")] == "desc"
    assert chart.description.endswith(".")
    assert chart.table.rows
    assert all(len(row) == len(chart.table.headers) for row in chart.table.rows)
    assert set(chart.table.right) <= set(chart.table.headers)


@pytest.mark.parametrize("name", NAMES)
def test_texts_can_be_read_at_600_pixels(name: str) -> None:
    root = parse(charts()[name])
    _, _, width, _ = root.attrib["viewBox"].split()
    assert float(width) == 600
    for text in root.iter("text"):
        size = text.get("font-size", "")
        assert size.endswith("px")
        assert float(size.removesuffix("px")) >= 11


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_at_the_edge(name: str, tmp_path: Path) -> None:
    pixels = draw_pixels(charts()[name], tmp_path)
    border = np.concatenate([pixels[:4].reshape(-1, 3), pixels[-4:].reshape(-1, 3), *pixels[:, :4], *pixels[:, -4:]])
    assert (border == 255).all()


def draw_pixels(chart: Chart, folder: Path) -> NDArray[np.uint8]:
    """Return the (height, width, 3) pixels of a PNG, 0 to 255."""
    from matplotlib import image

    path = folder / "chart.png"
    drawing.write([chart], path)
    return np.asarray(image.imread(path)[..., :3] * 255, dtype=np.uint8)


def test_no_two_charts_of_a_page_share_an_id() -> None:
    ids = Counter(found for chart in charts().values() for found in re.findall(r' id="([^"]+)"', chart.svg))
    assert [name for name, count in ids.items() if count > 1] == []
    for chart in charts().values():
        own = set(re.findall(r' id="([^"]+)"', chart.svg))
        assert set(re.findall(r"url\(#([^)]+)\)", chart.svg)) | set(re.findall(r'href="#([^"]+)"', chart.svg)) <= own


def test_the_same_results_are_the_same_picture(tmp_path: Path) -> None:
    for name, again in sample_charts().items():
        if name in {"next post", "replay", "reliability"}:
            assert again.svg == charts()[name].svg
    for suffix in ("svg", "png"):
        one, other = tmp_path / f"one.{suffix}", tmp_path / f"other.{suffix}"
        for path in (one, other):
            drawing.write(list(charts().values())[:3], path)
        assert one.read_bytes() == other.read_bytes()


def test_colours_are_told_from_the_background_in_light_and_dark() -> None:
    for colour in (*style.SERIES, style.MUTED, style.TEXT):
        needed = 4.5 if colour in {style.MUTED, style.TEXT} else 3
        assert contrast(colour.light, style.SURFACE.light) >= needed, colour
        assert contrast(colour.dark, style.SURFACE.dark) >= needed, colour


def test_the_steps_of_a_heat_map_are_told_apart_in_grey() -> None:
    for side in ("light", "dark"):
        steps = [luminance(getattr(colour, side)) for colour in style.HEAT]
        assert steps == sorted(steps, reverse=side == "light")
        colours = [getattr(colour, side) for colour in style.HEAT]
        assert all(contrast(*pair) > 1.1 for pair in pairwise(colours))


def test_lines_are_told_apart_without_their_colours() -> None:
    lines = style.series_lines(12)
    for one, other in combinations(lines, 2):
        assert (one.dashes, one.marker, one.width) != (other.dashes, other.marker, other.width)
    assert [line.width for line in lines] == sorted((line.width for line in lines), reverse=True), "the lower is wider"
    for one, other in combinations(style.series_lines(6), 2):
        assert one.dashes != other.dashes
        assert one.marker != other.marker


def test_lines_that_coincide_are_both_seen(tmp_path: Path) -> None:
    pixels = draw_pixels(charts()["replay"], tmp_path).reshape(-1, 3)
    for line in style.series_lines(4)[:2]:  # `configured` and `never` are the same line
        rgb = [int(line.colour.light[start : start + 2], 16) for start in (1, 3, 5)]
        assert (np.abs(pixels.astype(int) - rgb).max(axis=1) < 12).sum() > 300


def test_a_hovering_pointer_is_told_the_figures() -> None:
    root = parse(charts()["intervals"])
    hits = [element for element in root.iter("rect") if element.get("class") == "hit"]
    titles = [hit.findtext("title") for hit in hits]
    assert titles[0] == "production version: 0.7100, 0.6800 to 0.7300"
    assert all(float(hit.get(side, "-1")) >= 0 for hit in hits for side in ("x", "y", "width", "height"))


def test_there_is_no_chart_of_nothing() -> None:
    nothing = np.array([], dtype="datetime64[us]")
    content = replace(next_post(), quantiles_hours=None, simulation=None)
    assert forecasts.next_post(content) is None
    assert forecasts.days(content) is None
    assert calibration.reliability([]) is None
    assert calibration.pit(np.array([])) is None
    assert errors.by_hour_of_week(nothing, np.array([])) is None
    assert errors.by_silence(np.array([1.0]), np.array([1.0])) is None
    assert posts.rate(nothing) is posts.hours_of_week(nothing) is posts.gaps(nothing) is posts.drift([]) is None
    assert importance.bars([]) is scores.intervals("x", []) is scores.history("timing", []) is None


def test_one_post_or_equal_figures_can_be_drawn() -> None:
    time = np.array(["2026-03-01T00:00"], dtype="datetime64[us]")
    for chart in (
        posts.rate(time),
        posts.hours_of_week(time),
        posts.gaps(np.repeat(time, 3)),
        errors.by_hour_of_week(time, np.zeros(1)),
        errors.by_silence(np.zeros(30), np.zeros(30)),
        calibration.pit(np.zeros(3)),
    ):
        assert chart is not None
        assert chart.svg.startswith("<svg")


def test_a_file_holds_all_charts_with_their_titles(tmp_path: Path) -> None:
    path = tmp_path / "charts.svg"
    shown = [charts()["rate"], charts()["gaps"]]
    drawing.write(shown, path)
    root = ET.parse(path).getroot()  # noqa: S314  ours
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {chart.title for chart in shown} <= set(texts)
    assert b"style=" not in path.read_bytes()
    png = tmp_path / "charts.PNG"
    drawing.write(shown, png)
    from matplotlib import image

    assert image.imread(io.BytesIO(png.read_bytes()), format="png").shape[1] == 1200


def test_a_picture_that_cannot_be_written_leaves_the_old_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "charts.png"
    drawing.write([charts()["rate"]], path)
    path.chmod(0o600)
    whole = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(RetrainerError, match="No space left"):
            drawing.write([charts()["gaps"]], path)
    assert path.read_bytes() == whole
    drawing.write([charts()["gaps"]], path)
    assert path.read_bytes() != whole
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_only_names_of_pictures_are_accepted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--plot: unsupported format 'x.gif'"):
        require_format(tmp_path / "x.gif")
    with pytest.raises(UsageError, match=r"--plot: folder '.*none' does not exist"):
        require_format(tmp_path / "none" / "x.svg")
