"""The static files of the pages, from the package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from retrainer.render.charts import style

TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}  # with the charset that Response adds

CHARTS = "charts.css"  # made of the palette of the charts


@dataclass(frozen=True)
class StaticFile:
    """A static file.

    Attributes:
        digest: the SHA-256 of its content, in hexadecimal digits.
    """

    content: bytes
    media_type: str
    digest: str


@cache
def list_static_files() -> frozenset[str]:
    """Return the names of the static files."""
    names = (path.name for path in files("retrainer.web").joinpath("static").iterdir() if path.is_file())
    return frozenset({CHARTS, *(name for name in names if name.rpartition(".")[2] in TYPES)})


@cache
def static_file(name: str) -> StaticFile:
    packaged = files("retrainer.web").joinpath("static", name)
    content = style.stylesheet().encode() if name == CHARTS else packaged.read_bytes()
    return StaticFile(content, TYPES[name.rpartition(".")[2]], hashlib.sha256(content).hexdigest())
