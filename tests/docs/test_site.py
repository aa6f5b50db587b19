"""The documentation builds without a warning, offline, and loads nothing from another host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from retrainer.cli.app import COMMANDS
from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    for path in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)="(https?:[^"]*)', path.read_text())
        assert loaded == [], path
    for path in site.rglob("*.css"):
        assert re.findall(r"(?:@import|url\()\s*['\"]?https?:", path.read_text()) == [], path


def test_the_references_are_generated(site: Path) -> None:
    commands = (site / "commands" / "index.html").read_text()
    for name in COMMANDS:
        assert f"Usage: retrainer {name} " in commands
    assert "Usage: retrainer schedule install " in commands
    assert "Usage: retrainer plugins [OPTIONS]" in commands  # a command and a group
    rest = (site / "rest-api" / "index.html").read_text()
    assert "POST /models/rollback/{model_type}" in rest
    assert "retrainer.evaluation" in (site / "architecture" / "index.html").read_text()
    assert all("generated: " not in path.read_text() for path in site.rglob("*.html"))


def test_every_page_is_in_the_navigation(site: Path) -> None:
    index = (site / "index.html").read_text()
    for page in ROOT.glob("docs/*.md"):
        if page.stem != "index":
            assert f'href="{page.stem}/"' in index, page
