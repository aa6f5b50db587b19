"""The known exports: which one a table is, and which of its records and values make posts.

They are declared in formats.yaml. Plugins and the settings declare others in the same way.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

import yaml
from pydantic import ValidationError

from retrainer.config import explain_options_error
from retrainer.entry_points import FORMATS, describe_error, find_entry_points
from retrainer.errors import ConfigError
from retrainer.export_format import ALTERNATIVE, JOIN, ExportFormat
from retrainer.posts.exports.mapping import has_path, known_paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from retrainer.posts.records import PostsTable


class KnownExport(NamedTuple):
    """A declared export and its name."""

    name: str
    format: ExportFormat


def known_exports(declared: Mapping[str, ExportFormat] | None = None) -> list[KnownExport]:
    """Return all exports: those of the settings, then those of plugins, then the shipped ones.

    Of two with one name, the first counts.

    Args:
        declared: `posts.formats` of the settings.

    Raises:
        ConfigError: the declaration of a plugin is wrong.
    """
    exports = dict(declared or {})
    for plugin in find_entry_points(FORMATS):
        source = f"the formats '{plugin.name}' of {plugin.origin}"
        try:
            declarations = plugin.entry_point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            problem = describe_error(error, {plugin.package})
            raise ConfigError(f"cannot import {source}: {problem}", hint="Fix or uninstall it") from error
        for name, export in parse_formats(declarations, source).items():
            exports.setdefault(name, export)
    for name, export in shipped_formats().items():
        exports.setdefault(name, export)
    return [KnownExport(name, export) for name, export in exports.items()]


@lru_cache(maxsize=1)
def shipped_formats() -> dict[str, ExportFormat]:
    """Return the exports declared in formats.yaml."""
    text = resources.files(__name__).joinpath("formats.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return parse_formats(yaml.load(text, loader), "formats.yaml")  # noqa: S506  # it is a safe loader


def parse_formats(declarations: object, source: str) -> dict[str, ExportFormat]:
    """Check declarations, by name.

    Raises:
        ConfigError: one is wrong; the message names the source and the key.
    """
    if not isinstance(declarations, dict):
        raise ConfigError(f"{source}: declarations must be a mapping of names to formats")
    formats = {}
    for name, declaration in declarations.items():
        try:
            formats[str(name)] = ExportFormat.model_validate(declaration)
        except ValidationError as error:
            explained = explain_options_error(error, (str(name),), ExportFormat)
            raise ConfigError(f"{source}: {explained.message}", hint=explained.hint) from None
    return formats


def recognise(table: PostsTable, exports: Sequence[KnownExport]) -> KnownExport | None:
    """Return the export that a table is; of several that fit, the one that requires the most."""
    known = known_paths(table.columns)
    fitting = [export for export in exports if _fit(export.format, known, table.records)]
    return max(fitting, key=lambda export: _fit(export.format, known, table.records), default=None)


def best_fit(exports: Sequence[KnownExport], columns: Iterable[str], records: str | None) -> int:
    """Return how much some export requires that records have; 0 if they are no known export.

    Args:
        columns: the columns of the records.
        records: where they are in a document; None if they stand alone.
    """
    known = known_paths(columns)
    return max((_fit(export.format, known, records) for export in exports), default=0)


def _fit(export: ExportFormat, known: frozenset[str], records: str | None) -> int:
    where = "" if records in {None, "*"} else records  # records that an object holds by their ids stand alone
    if export.records and where not in export.records:
        return 0
    fits = all(_has_any(known, required) for required in export.requires)
    return len(export.requires) + bool(export.records) if fits else 0


def _has_any(known: frozenset[str], expression: str) -> bool:
    alternatives = (alternative.split(JOIN) for alternative in expression.split(ALTERNATIVE))
    return any(all(has_path(known, path) for path in paths) for paths in alternatives)
