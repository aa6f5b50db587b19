"""Render templates: the Jinja environment, and the filters that format times, scores and sizes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from retrainer.escapes import visible, visible_lines
from retrainer.render.cells import format_expected_score, format_size
from retrainer.times import format_duration, format_hours, format_relative, format_time
from retrainer.web.static_files import static_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retrainer.render.charts.chart import Chart
    from retrainer.web.site import Visit

NOTHING = "–"
MAX_PICTURES = 300  # of about 20 kB


@dataclass(frozen=True)
class Page:
    """A page to be rendered.

    Attributes:
        template: the name of the template.
        title: what the page is about, for the window; the template has its own heading.
        values: what the template shows.
        current: the address of the page in the navigation that this page belongs to, such as `/versions`.
        stream: the stream that the page is about, if the address does not name it.
        reloads_itself: whether something on it is still being computed, so that the browser loads it again soon.
    """

    template: str
    title: str
    values: Mapping[str, Any] = field(default_factory=dict)
    current: str = ""
    stream: str | None = None
    reloads_itself: bool = False


@dataclass(frozen=True)
class Frame:
    """What surrounds every page.

    Attributes:
        project: the name of the project folder; empty for a visitor who may not read.
        stream: the stream that the page is about, if there are several or the address names it.
        now: the time of the request, UTC.
        can_sign_in: whether there is a token to log in with.
        notice: what the visitor has just done.
        as_of: the time to show at the end; None on a page that is cached for longer than a second.
    """

    project: str
    stream: str | None
    now: datetime
    current: str
    signed_in: bool
    can_sign_in: bool
    notice: str | None = None
    as_of: datetime | None = None

    @classmethod
    def around(cls, page: Page, visit: Visit, notice: str | None = None, *, is_dated: bool = True) -> Frame:
        """Return the frame of a page.

        Args:
            is_dated: whether the page is never older than a second.
        """
        return cls(
            project=visit.site.project.folder.name if visit.may_read else "",
            stream=page.stream or visit.stream,
            now=visit.now,
            current=page.current,
            signed_in=visit.signed_in,
            can_sign_in=visit.site.auth.token is not None,
            notice=notice,
            as_of=visit.now if is_dated else None,
        )

    def link(self, path: str, **parameters: object) -> str:
        """Return the address of another page about the same stream; parameters of None are left out."""
        return address_of(path, **{"stream": self.stream, **parameters})


def name_stream(visit: Visit, stream: str) -> str | None:
    """Return the stream that links of a page about one stream name; None if the address and the project need none."""
    return stream if visit.stream is not None or len(visit.site.project.list_streams()) > 1 else None


def address_of(path: str, **parameters: object) -> str:
    """Return an address; parameters of None are left out."""
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    return f"{quote(path)}?{query}" if query else quote(path)


@cache
def environment() -> Environment:
    """Return the environment of the templates. Everything is escaped, and an unknown name is an error."""
    templates = Environment(
        loader=PackageLoader("retrainer.web"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    templates.filters.update(
        moment=moment,
        ago=ago,
        score=score,
        expected_score=format_expected_score,
        signed=signed,
        percent=percent,
        tone=tone,
        hours=lambda value: NOTHING if value is None else format_hours(value),
        size=format_size,
        duration=format_duration,
        shown=lambda text: visible(str(text)),
        shown_lines=lambda text: visible_lines(str(text)),
        short_id=short_id,
        drawn=PICTURES.draw,
        hint=hint,
        capitalized=lambda text: text[:1].upper() + text[1:],
    )
    templates.globals["static"] = static_address
    return templates


def render_page(page: Page, frame: Frame) -> bytes:
    """Render a page inside its frame."""
    values = {**page.values, "title": page.title, "frame": frame, "now": frame.now}
    return environment().get_template(page.template).render(values).encode("utf-8", "backslashreplace")


@cache
def static_address(name: str) -> str:
    """Return the address of a static file, which changes with its content, so that browsers may keep it."""
    return f"/static/{name}?v={static_file(name).digest[:12]}"


def hint(text: str) -> Markup:
    """Return a hint or a message of ours, with what it has in backticks as code."""
    parts = visible(text).split("`")
    if len(parts) % 2 == 0:  # one is left over, as in a quoted value
        return escape(visible(text))
    code = [Markup("<code>{}</code>").format(part) if index % 2 else escape(part) for index, part in enumerate(parts)]
    return Markup("").join(code)


class Pictures:
    """The latest charts that were drawn, by what they show: to draw one takes longer than all else on a page."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._drawn: OrderedDict[str, str] = OrderedDict()

    def draw(self, chart: Chart) -> Markup:
        """Return a chart as an SVG element; its texts are escaped already."""
        with self._lock:
            drawn = self._drawn.get(chart.key)
        drawn = drawn if drawn is not None else chart.svg
        with self._lock:
            self._drawn[chart.key] = drawn
            self._drawn.move_to_end(chart.key)
            if len(self._drawn) > MAX_PICTURES:
                self._drawn.popitem(last=False)
        return Markup(drawn)  # noqa: S704  only `retrainer.render.charts` makes them


PICTURES = Pictures()


def moment(time: datetime | None) -> Markup:
    """Return a time to the minute, UTC, as an element that programs can read, too."""
    if time is None:
        return escape(NOTHING)
    return Markup('<time datetime="{}">{:%Y-%m-%d %H:%M}&nbsp;UTC</time>').format(
        format_time(time), time.astimezone(UTC)
    )


def ago(time: datetime | None, now: datetime) -> Markup:
    """Return how long ago a time is, or how far ahead; the time itself is its title."""
    if time is None:
        return escape(NOTHING)
    whole = f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    text = format_relative(time, now)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(format_time(time), whole, text)


def score(value: float | None, digits: int = 4) -> str:
    """Return a score with four digits; a dash without one."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    """Return a difference with its sign, a real minus."""
    return NOTHING if value is None else f"{value:+.{digits}f}".replace("-", "−")


def percent(value: float | None, digits: int = 1) -> str:
    """Return a fraction in percent."""
    if value is None:
        return NOTHING
    shown = f"{100 * value:.{digits}f}"
    return ("0" if float(shown) == 0 else shown).replace("-", "−") + "%"


def tone(skill: float | None) -> str:
    """Return whether a skill is `good` or `bad`; empty if it is neither, to a tenth of a percent."""
    rounded = round(skill or 0.0, 3)
    return "good" if rounded > 0 else "bad" if rounded < 0 else ""


def short_id(name: str | None) -> str:
    """Return the end of an id that tells it from others: the date, the time and the four digits."""
    if name is None:
        return NOTHING
    return "_".join(name.rsplit("_", 3)[-3:])
