"""The report: what the pages show of one stream, as one HTML file that needs nothing else.

It holds its stylesheet and its charts, no script and no address of anything else; a policy in it forbids all else. It
needs no web server.
"""

from __future__ import annotations

import logging
import re
from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from markupsafe import Markup

from retrainer.errors import UsageError
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.pipeline.loading import feature_importance
from retrainer.streams import DEFAULT_STREAM
from retrainer.web.rendering import Frame, Page, render_page
from retrainer.web.static_files import CHARTS, static_file
from retrainer.web.views.live import gather_live
from retrainer.web.views.overview import gather_overview
from retrainer.web.views.posts import gather_posts
from retrainer.web.views.replay import gather_replay
from retrainer.web.views.version import gather_version

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.tables import ModelVersion
    from retrainer.runtime import Runtime

log = logging.getLogger(__name__)

MAX_BYTES = 2_000_000
# Quotes and brackets in attributes are escaped, so none ends the match early.
_LINK_TO_PAGE = re.compile(r'<a [^>]*?href="(/[^"?]*)([^"]*)"[^>]*>(.*?)</a>', re.DOTALL)
_IDS = re.compile(r' (id|aria-labelledby|aria-describedby)="([^"]*)"')
_SECTION = re.compile(r'<section aria-labelledby="[^"]*">')
_LABEL = re.compile(r' aria-label="([^"]*)"')
_REFERENCE = re.compile(r'( href="#|url\(#)')
_HEADING = re.compile(r"<(/?)h([2-5])\b")
_DATA = re.compile(r'<details class="data">.*?</details>', re.DOTALL)


def report_project(
    opened: Project,
    runtime: Runtime,
    now: datetime,
    *,
    model_type: ModelTypeName | None = None,
    version: str | None = None,
    stream: str | None = None,
) -> bytes:
    """Return the report that was asked for; see `make_report`.

    Args:
        model_type: only this one; None for both or, with `version`, for its own.
        version: the name of the version to describe; None for those in production.
        stream: the stream; None for that of the version, or the only one.

    Raises:
        UnknownName: there is no such stream or version.
        UsageError: there are several streams, or the version is of the other type.
    """
    if version is None:
        return make_report(
            opened.choose_stream(stream), runtime, now, MODEL_TYPE_NAMES if model_type is None else [model_type]
        )
    project, found = opened.find_version(version, stream)
    if model_type not in {None, found.model_type}:
        raise UsageError(f"'{found.version_id}' is a {found.model_type} version", hint="Omit the type")
    return make_report(project, runtime, now, [found.model_type_name], found)


def make_report(
    project: Project,
    runtime: Runtime,
    now: datetime,
    model_types: Sequence[ModelTypeName],
    version: ModelVersion | None = None,
) -> bytes:
    """Return a report of a stream as HTML. Nothing is scored, decided or written, and no paid call is made.

    Args:
        project: the project, seen from the stream.
        model_types: what it is about.
        version: the version to describe; None for those in production.

    Returns:
        The file; see `fit`.
    """
    several = len(project.list_streams()) > 1 or project.stream != DEFAULT_STREAM
    css = _stylesheet()
    values = {
        "css": css,
        "policy": f"default-src 'none'; style-src 'sha256-{b64encode(sha256(css.encode()).digest()).decode()}'",
        "overview": gather_overview(project, runtime, now, model_types),
        "part_of": _part_of,
        "versions": [
            gather_version(project, one, feature_importance(project, runtime, one))
            for one in ([version] if version is not None else map(project.registry.get_production, model_types))
            if one is not None
        ],
        "posts": gather_posts(project, now, model_types),
        "live": gather_live(project, now, model_types),
        "replay": [one for one in gather_replay(project, model_types) if one.latest is not None],
    }
    frame = Frame(project.folder.name, project.stream if several else None, now, "", False, False)
    return fit(_point_links_inside(render_page(Page("report.html", "Report", values), frame).decode()))


def fit(html: str, max_bytes: int = MAX_BYTES) -> bytes:
    """Return a report that is small enough to mail, without the tables behind its charts if need be."""
    content = html.encode()
    if len(content) >= max_bytes:
        content = _DATA.sub("", html).encode()
        log.info("Omitted the tables behind the charts: the report would exceed %d bytes", max_bytes)
    if len(content) >= max_bytes:
        log.warning("The report is %d bytes, more than the limit of %d", len(content), max_bytes)
    return content


def _part_of(page: Markup, prefix: str, about: str) -> Markup:
    """Return the content of a page as a part of the report, which has several of the same kind.

    Args:
        page: the content.
        prefix: of its IDs.
        about: what tells the part from others, for the names of its regions; its sections are no regions.
    """
    html = _SECTION.sub("<section>", page)
    html = _LABEL.sub(rf' aria-label="\g<1> ({about})"', html)
    html = _IDS.sub(lambda found: f' {found[1]}="{" ".join(f"{prefix}-{name}" for name in found[2].split())}"', html)
    html = _REFERENCE.sub(rf"\g<1>{prefix}-", html)
    return Markup(_HEADING.sub(lambda found: f"<{found[1]}h{int(found[2]) + 1}", html))  # noqa: S704  it was Markup


def _point_links_inside(html: str) -> str:
    """Let each link to a page point to the part of the report that shows the same; without one, keep its text alone."""
    parts = set(re.findall(r'<div class="part[^>]* id="([^"]+)"', html))

    def replace(link: re.Match[str]) -> str:
        path, query, text = link.groups()
        part = path.removeprefix("/").replace("/", "-")
        is_shown = part in parts and {name for name, _ in parse_qsl(query.removeprefix("?"))} <= {"stream"}
        return f'<a href="#{part}">{text}</a>' if is_shown else text

    return _LINK_TO_PAGE.sub(replace, html)


def _stylesheet() -> Markup:
    """Return the stylesheet of the pages, of the charts, and of what only the report has."""
    names = ("retrainer.css", CHARTS, "report.css")
    return Markup("\n".join(static_file(name).content.decode() for name in names))  # noqa: S704  files of the package
