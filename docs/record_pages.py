"""Take the pictures of the pages in docs/images: of the project of `docs.sample_project`, in a headless Chromium.

make docs-pages
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from docs.sample_project import make_project
from tests.web.browser import chromium, tab
from tests.web.conftest import served

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.api.conftest import Server

IMAGES = Path(__file__).resolve().parent / "images"
PROJECT = "hilltop"  # the folder, which the pages show
WIDTH = 1200


class Picture(NamedTuple):
    """A picture of a page.

    Attributes:
        path: the address, with the ids of versions and runs by name in braces.
        height: in pixels, from the top; None for the whole page.
    """

    path: str
    height: int | None = None


PICTURES = {
    "page-overview": Picture("/overview", 1235),
    "page-version": Picture("/version/{production}", 1235),
    "page-compare": Picture("/compare?a={production}&b={challenger}", 1200),
    "page-run": Picture("/run/{run}", 1000),
    "page-posts": Picture("/posts", 1290),
    "page-live": Picture("/live", 1300),
    "page-replay": Picture("/replay", 815),
}


def main() -> None:
    """Make the project, serve it, and take the pictures."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / PROJECT
        make_project(folder)
        with served(folder, token=False) as server, chromium() as browser:
            names = find_names(server)
            for name, picture in PICTURES.items():
                take(browser, server, names, name, picture)
    print(f"Wrote {len(PICTURES)} pictures to {os.path.relpath(IMAGES)}")  # noqa: T201


def find_names(server: Server) -> dict[str, str]:
    """Return the ids that the addresses name."""
    production = server.get("/models/production").json()["timing_model"]["version_id"]
    runs = server.get("/models/training-history?model_type=timing").json()["training_runs"]
    run = next(one for one in runs if one["model_version_id"] == production)
    return {"production": production, "challenger": runs[0]["model_version_id"], "run": run["run_id"]}


def take(browser: Browser, server: Server, names: dict[str, str], name: str, picture: Picture) -> None:
    """Take one picture."""
    with tab(browser, server.url, width=WIDTH) as visit:
        page = visit.open(picture.path.format_map(names)).page
        if picture.height is not None:
            page.set_viewport_size({"width": WIDTH, "height": picture.height})
        page.screenshot(path=IMAGES / f"{name}.png", full_page=picture.height is None)


if __name__ == "__main__":
    main()
