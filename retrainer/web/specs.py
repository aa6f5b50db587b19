"""Declarations of the pages; views need no web server, so that `retrainer report` can use them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from retrainer.serving.threads import Work
    from retrainer.web.rendering import Page
    from retrainer.web.site import Caching, Visit

    View = Callable[[Visit], Page]


@dataclass(frozen=True)
class PageSpec:
    """How a page is served; see `page`."""

    path: str
    view: View
    about: Literal["stream", "project"]
    parameters: Collection[str]
    work: Work
    cached: Caching


def page(
    path: str,
    view: View,
    *,
    about: Literal["stream", "project"] = "stream",
    parameters: Collection[str] = (),
    work: Work = "inspect",
    cached: Caching = "briefly",
) -> PageSpec:
    """Return how a page is served.

    Args:
        path: its address; the view finds the parts in braces in `visit.path`.
        view: returns the page. It runs in a thread, with its rendering, and raises RetrainerError for an error page.
        about: whether the page shows one stream, that of `?stream=` or the only one, or finds out by itself.
        parameters: the names of the parameters of the address, besides `stream`.
        work: the kind of work; see `Threads.run`.
        cached: see `Site.respond`.
    """
    return PageSpec(path, view, about, parameters, work, cached)
