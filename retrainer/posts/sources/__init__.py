"""Sources of posts: feeds, accounts, endpoints and queries that `retrainer posts fetch` reads.

The names here are the interface for plugins of the entry point group `retrainer.sources`. None is imported until it is
used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrainer.errors import SourceError
    from retrainer.posts.sources.hookspecs import Page, Since, SourceType, hookimpl
    from retrainer.posts.sources.http import HttpClient, Response
    from retrainer.posts.sources.secrets import read_secret
    from retrainer.posts.sources.walk import Listing, parse_time, walk

_MODULES = {
    "retrainer.errors": ("SourceError",),
    "retrainer.posts.sources.hookspecs": ("Page", "Since", "SourceType", "hookimpl"),
    "retrainer.posts.sources.http": ("HttpClient", "Response"),
    "retrainer.posts.sources.secrets": ("read_secret",),
    "retrainer.posts.sources.walk": ("Listing", "parse_time", "walk"),
}
__all__ = [
    "HttpClient",
    "Listing",
    "Page",
    "Response",
    "Since",
    "SourceError",
    "SourceType",
    "hookimpl",
    "parse_time",
    "read_secret",
    "walk",
]


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
