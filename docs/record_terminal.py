"""Draw docs/images/terminal.svg: parts of a real run of demo.sh, recorded in a terminal of 100 columns.

make docs-picture
"""

from __future__ import annotations

import io
import os
import pty
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "terminal.svg"
COLUMNS = 100
PROMPT = "$ retrainer "
HEADING = re.compile(r"(\x1b\[1m)?\d\. ")
PARTS = ("train timing --as-of 2024-10-30T22:00", "predict timing --at last")  # commands of the demo

# The progress line is redrawn in place, and erased at the end.
ERASED_LINE = re.compile(r"[^\n]*\n\x1b\[\?25h\r\x1b\[1A")
ERASE_LINE = "\x1b[2K"


def record() -> str:
    """Run the demo in a pseudo-terminal; return all that it wrote, with escape codes."""
    os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    written = bytearray()

    def read(terminal: int) -> bytes:
        data = os.read(terminal, 65_536)
        written.extend(data)
        return data

    if pty.spawn(["sh", str(ROOT / "demo.sh")], read) != 0:
        sys.exit("demo.sh failed")
    return written.decode()


def visible_lines(written: str) -> list[str]:
    """Return the lines that are left on the screen, with their colours."""
    text = ERASED_LINE.sub("", written.replace("\r\n", "\n"))
    return [line.rpartition(ERASE_LINE)[2] for line in text.split("\n")]


def parts(lines: list[str]) -> list[str]:
    """Return the lines of the commands that the picture shows."""
    shown: list[str] = []
    for name in PARTS:
        start = lines.index(PROMPT + name)
        for line in lines[start:]:
            if HEADING.match(line) or (line.startswith(PROMPT) and line != lines[start]):
                break
            shown.append(line)
        while not shown[-1].strip():
            shown.pop()
        shown.append("")
    return shown[:-1]


def draw(lines: list[str]) -> str:
    """Return the SVG. It names no font, since the usual ones would come from another host."""
    console = Console(record=True, width=COLUMNS + 2, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line))
    svg = console.export_svg(title="make demo", theme=MONOKAI, unique_id="terminal")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", "monospace")


if __name__ == "__main__":
    PICTURE.write_text(draw(parts(visible_lines(record()))))
