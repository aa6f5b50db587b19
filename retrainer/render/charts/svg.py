"""Turn matplotlib's SVG into an element of a page under a strict Content-Security-Policy, or into a file.

A policy without `unsafe-inline` ignores style attributes and style elements, so they become attributes and classes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from retrainer.escapes import visible_lines
from retrainer.render.charts import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.render.charts.canvas import Hit

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_DROPPED_TAGS = {f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"}
_DROPPED_PROPERTIES = {"font", "font-family", "text-align", "stroke-linejoin", "stroke-miterlimit"}
_FONT_SIZE = re.compile(r"(?:(bold|[1-9]00) )?(?:\S+ )*?([\d.]+)px")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_NAMES = {colour.light: colour.name for colour in style.COLOURS}


def to_element(drawn: bytes, key: str, title: str, description: str, hits: Sequence[Hit]) -> str:
    """Return an SVG element for a page, with its title and description.

    Args:
        drawn: matplotlib's SVG.
        key: the beginning of all IDs.
        title: a title, as plain text.
        description: a description, as plain text.
        hits: the areas that show a text.
    """
    root = _convert(drawn, key)
    _label(root, f"{key}-title", "title", title, 0)
    _label(root, f"{key}-description", "desc", description, 1)
    root.set("class", "chart-svg")
    root.set("role", "img")
    root.set("aria-labelledby", f"{key}-title")
    root.set("aria-describedby", f"{key}-description")
    for hit in hits:
        area = ET.SubElement(root, "rect", {"class": "hit", "fill": "none", "pointer-events": "all"})
        for name, value in zip(("x", "y", "width", "height"), hit[:4], strict=True):
            area.set(name, _round(value))
        ET.SubElement(area, "title").text = hit.text
    return ET.tostring(root, encoding="unicode")


def to_file(drawn: bytes, key: str, title: str) -> bytes:
    """Return the content of an SVG file.

    Args:
        drawn: matplotlib's SVG.
        key: the beginning of all IDs.
        title: a title, as plain text.
    """
    root = _convert(drawn, key)
    root.set("xmlns", _SVG)
    root.set("font-family", "system-ui, 'DejaVu Sans', sans-serif")
    root.set("width", str(style.WIDTH))
    root.set("height", root.get("viewBox", "").split()[-1])
    _label(root, f"{key}-title", "title", title, 0)
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _label(root: ET.Element, element_id: str, tag: str, text: str, place: int) -> None:
    element = ET.Element(tag, {"id": element_id})
    element.text = text
    root.insert(place, element)


def _convert(drawn: bytes, key: str) -> ET.Element:
    """Return the root of an SVG without styles, namespaces, unused groups and IDs."""
    root = ET.fromstring(visible_lines(drawn.decode()))  # noqa: S314  matplotlib wrote it just now
    for parent in list(root.iter()):
        for child in [one for one in parent if one.tag in _DROPPED_TAGS]:
            parent.remove(child)
    ids = _used_ids(root)
    new_ids = {old: f"{key}-{number}" for number, old in enumerate(ids)}
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        element.text = element.text if element.text and element.text.strip() else None
        element.tail = None
        _convert_attributes(element, new_ids)
    _unwrap_groups(root)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("stroke-linejoin", "round")
    root.set("stroke-miterlimit", "100000")
    return root


def _used_ids(root: ET.Element) -> list[str]:
    """Return the IDs that are referred to, in order."""
    found: dict[str, None] = {}
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == _LINK:
                found[value.removeprefix("#")] = None
            for match in _REFERENCE.finditer(value):
                found[match[1]] = None
    return list(found)


def _convert_attributes(element: ET.Element, new_ids: dict[str, str]) -> None:
    old = dict(element.attrib)
    element.attrib.clear()
    if old.get("id") not in new_ids:
        old.pop("id", None)
    properties = _properties(old.pop("style", ""))
    for name, value in {**old, **properties}.items():
        match name:
            case "id":
                element.set("id", new_ids[value])
            case _ if name == _LINK:
                element.set("href", "#" + new_ids[value.removeprefix("#")])
            case "d":
                element.set("d", _round_all(" ".join(value.split())))
            case "transform" if value.startswith("rotate(-0 "):
                pass
            case _:
                referring = _REFERENCE.sub(lambda found: f"url(#{new_ids[found[1]]})", value)
                element.set(name, referring if referring != value else _round_all(value))
    painted = ((name, _NAMES.get(element.get(name, ""))) for name in ("fill", "stroke"))
    classes = [f"{name}-{colour}" for name, colour in painted if colour is not None]
    if classes:
        element.set("class", " ".join(classes))


def _properties(css: str) -> dict[str, str]:
    """Return the properties of a style attribute that are attributes of SVG too."""
    parts = (part.split(":", 1) for part in css.split(";") if ":" in part)
    properties = {name.strip(): value.strip() for name, value in parts}
    match = _FONT_SIZE.match(properties.get("font", ""))
    if match:
        properties["font-size"] = f"{match[2]}px"
        if match[1]:
            properties["font-weight"] = match[1]
    return {name: value for name, value in properties.items() if name not in _DROPPED_PROPERTIES}


def _round_all(text: str) -> str:
    return _NUMBER.sub(lambda found: _round(float(found[0])), text)


def _unwrap_groups(element: ET.Element) -> None:
    """Replace groups without attributes by what they contain."""
    children: list[ET.Element] = []
    for child in element:
        _unwrap_groups(child)
        if child.tag == "g" and not child.attrib:
            children.extend(child)
        elif not _is_invisible(child):
            children.append(child)
    element[:] = children


def _is_invisible(element: ET.Element) -> bool:
    is_unpainted = element.tag == "path" and element.get("fill") == "none" and "stroke" not in element.attrib
    return (is_unpainted and "id" not in element.attrib) or (element.tag == "defs" and not len(element))


def _round(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
