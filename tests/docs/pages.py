"""The pages of the documentation and their code blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *(f"docs/{path.name}" for path in sorted(ROOT.glob("docs/*.md"))),
)
SHELL = ("bash", "console")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes:
        page: path of the page, relative to the repository.
        language: as written behind the fence.
    """

    page: str
    language: str
    text: str

    @property
    def first_line(self) -> str:
        return self.text.splitlines()[0]

    @property
    def file_name(self) -> str | None:
        """The file that the block shows, named by a comment in its first line."""
        named = re.fullmatch(r"# ([\w./-]+\.\w+)", self.first_line)
        return named[1] if named else None

    def steps(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the commands of a shell block, each with the output shown below it."""
        if self.language == "bash":
            yield self.text, []
            return
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, *output = part.splitlines()
            yield command, output


def read(page: str) -> str:
    return (ROOT / page).read_text()


def blocks(page: str, *languages: str) -> list[Block]:
    """Return the blocks of a page in these languages, in order."""
    found = [Block(page, language, text) for language, text in _BLOCK.findall(read(page))]
    return [block for block in found if block.language in languages]
