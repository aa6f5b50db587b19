"""Sources of posts: feeds, accounts, endpoints and queries that `retrainer posts fetch` reads.

The names here are the interface for plugins of the entry point group `retrainer.sources`.
"""

from retrainer.errors import SourceError
from retrainer.posts.sources.hookspecs import Page, Since, SourceType, hookimpl
from retrainer.posts.sources.http import HttpClient, Response
from retrainer.posts.sources.secrets import read_secret
from retrainer.posts.sources.walk import Listing, parse_time, walk

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
