"""Files of charts: which names are possible."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer.errors import UsageError
from retrainer.files import is_possible_output

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = (".png", ".svg")


def require_format(path: Path) -> None:
    """Check that a plot can be written to a file.

    Raises:
        UsageError: the extension is not a supported format, the folder does not exist, or it is no regular file.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(
            f"--plot: unsupported format '{path.name}'", hint=f"Choose a name that ends in {' or '.join(FORMATS)}"
        )
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--plot: folder '{path.parent}' does not exist", hint="Create it, or choose another")
    if not is_possible_output(path):
        raise UsageError(f"--plot: cannot write '{path}'", hint="Choose another file")
