"""The file of `train --summary`."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from retrainer.errors import RetrainerError, UsageError, wrap_unexpected
from retrainer.files import open_output
from retrainer.render import markdown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)


def require_writable(path: Path) -> None:
    """Check before training that the summary can be appended to its file."""
    try:
        open_output(path, append=True).close()
    except OSError as error:
        raise UsageError(
            f"--summary: cannot write '{path}': {error.strerror}", hint="Choose a writable path"
        ) from error


@contextmanager
def failure_summary(path: Path | None) -> Iterator[None]:
    """Append a failure before the first run, such as a wrong setting, to the summary."""
    try:
        yield
    except Exception as error:
        if path is not None:
            failure = error if isinstance(error, RetrainerError) else wrap_unexpected(error)
            append_summary(path, markdown.summarize_failure(failure))
        raise


def append_summary(path: Path, summary: str) -> None:
    """Append to the summary; that it cannot be written is a warning."""
    try:
        with open_output(path, append=True) as file:
            file.write(summary.encode())
    except OSError as error:  # the runs are recorded all the same
        log.warning("Cannot write the summary to '%s': %s", path, error.strerror)
