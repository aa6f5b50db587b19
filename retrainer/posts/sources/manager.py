"""Finds types of sources by entry point, and loads the one that is needed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy
from pydantic import BaseModel, ValidationError

from retrainer.config import explain_options_error
from retrainer.entry_points import SOURCES, describe_error, find_entry_points, package_of
from retrainer.errors import RetrainerError, SourceError, UnknownName, did_you_mean
from retrainer.posts.sources.hookspecs import Page, SourceHooks, SourceType

if TYPE_CHECKING:
    from collections.abc import Generator

    from retrainer.config import SourceSettings
    from retrainer.posts.sources.hookspecs import Since
    from retrainer.posts.sources.http import HttpClient

_HOOKS = ("fetch", "source")


class TypeStatus(NamedTuple):
    """An installed type of source: what it says about itself, or why it cannot be used."""

    name: str
    distribution: str
    version: str
    summary: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class LoadedSource:
    """A source whose posts can be fetched.

    Attributes:
        name: its name in the settings.
        type_name: the name of its type.
        config: its options, parsed.
    """

    name: str
    type_name: str
    config: BaseModel
    _manager: pluggy.PluginManager

    @property
    def options_sha256(self) -> str:
        """A hash of the type and its options."""
        document = [self.type_name, self.config.model_dump(mode="json")]
        return sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def fetch(self, since: Since, http: HttpClient) -> Generator[Page]:
        """Yield the pages of posts.

        Raises:
            RetrainerError: the source cannot be read.
            SourceError: the plugin is broken.
        """
        problem = f"the source type '{self.type_name}' failed at '{self.name}'"
        try:
            for page in self._manager.hook.fetch(config=self.config, since=since, http=http) or ():
                _check_page(page, problem)
                yield page
        except RetrainerError:
            raise
        except (Exception, SystemExit) as error:
            packages = {package_of(plugin) for plugin in self._manager.get_plugins()}
            raise SourceError(
                f"{problem}: {describe_error(error, packages)}",
                hint="This may be a bug in its plugin; --traceback shows where",
            ) from error


def load_source(name: str, settings: SourceSettings) -> LoadedSource:
    """Load the plugin of a source, and check its options.

    Raises:
        UnknownName: no installed package provides the type.
        ConfigError: an option is unknown or wrong.
        SourceError: two packages provide the type, or its plugin is broken.
    """
    manager, description = load_type(settings.type, f"posts.sources.{name}.type")
    try:
        config = description.options.model_validate(settings.options)
    except ValidationError as error:
        raise explain_options_error(error, ("posts", "sources", name), description.options) from None
    return LoadedSource(name, settings.type, config, manager)


def list_types() -> list[TypeStatus]:
    """Describe every installed type of source; a broken one is listed with its problem."""
    statuses = []
    for name, distribution, version, _ in find_entry_points(SOURCES):
        try:
            _, description = load_type(name, "type")
        except RetrainerError as error:
            statuses.append(TypeStatus(name, distribution, version, problem=str(error)))
        else:
            statuses.append(TypeStatus(name, distribution, version, summary=description.summary))
    return statuses


def load_type(name: str, key: str) -> tuple[pluggy.PluginManager, SourceType]:
    """Import a type of source and check its hooks; see `load_source`."""
    found = [plugin for plugin in find_entry_points(SOURCES) if plugin.name == name]
    if not found:
        known = sorted({plugin.name for plugin in find_entry_points(SOURCES)})
        hint = did_you_mean(name, known) or f"Installed: {', '.join(known) or 'none'}"
        raise UnknownName(f"{key}: unknown source type '{name}'", hint=hint)
    if len(found) > 1:
        both = " and ".join(plugin.origin for plugin in found)
        raise SourceError(f"two packages provide the source type '{name}': {both}", hint="Uninstall one of them")
    (installed,) = found
    broken = f"the source type '{name}' ({installed.origin}) is broken"
    try:
        plugin = installed.entry_point.load()
        manager = pluggy.PluginManager("retrainer")
        manager.add_hookspecs(SourceHooks)
        manager.register(plugin, name)
        hooks = sorted(caller.name for caller in manager.get_hookcallers(plugin) or [])
        description: Any = manager.hook.source() if hooks == list(_HOOKS) else None
    except (Exception, SystemExit) as error:
        raise SourceError(
            f"{broken}: {describe_error(error, {installed.package})}", hint="Fix or uninstall it"
        ) from error
    if hooks != list(_HOOKS):
        has = ", ".join(hooks) or "none"
        raise SourceError(f"{broken}: it has the hooks {has}", hint="It must implement source and fetch with @hookimpl")
    if not isinstance(description, SourceType) or description.name != name:
        raise SourceError(f"{broken}: source must return a SourceType named '{name}'", hint="Fix or uninstall it")
    return manager, description


def _check_page(page: object, problem: str) -> None:
    """Check what a plugin yields: its state is stored as JSON.

    Raises:
        SourceError: it is no page, or its state is not plain data.
    """
    hint = "This is a bug in its plugin"
    if not isinstance(page, Page):
        raise SourceError(f"{problem}: fetch yielded a value that is not a Page", hint=hint)
    try:
        json.dumps(page.state)
    except (TypeError, ValueError):
        raise SourceError(f"{problem}: the state of a page is not plain data", hint=hint) from None
