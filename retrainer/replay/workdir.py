"""The folder of a replay, used by one replay at a time. Folders that a replay did not create are refused."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from retrainer import __version__
from retrainer.errors import RetrainerError, RunInProgress, UsageError
from retrainer.files import exclusive_lock, remove
from retrainer.replay.prefetch import POSTS_FILE, WORKER_FOLDERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARKER = "replay.json"  # identifies the folder as a replay's
STORE = "work.db"
SANDBOXES = "policies"
_KEPT_TO_RESUME = (SANDBOXES, POSTS_FILE, STORE, f"{STORE}-wal", f"{STORE}-shm")


@contextmanager
def opened(folder: Path, *, resume: bool) -> Iterator[None]:
    """Use a folder exclusively; without `resume`, delete what an earlier replay left in it.

    Raises:
        UsageError: the folder contains files that are not a replay's.
        RunInProgress: another replay uses it.
        RetrainerError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(exclusive_lock(folder.parent / f".{folder.name}.lock", timeout=0))
            except TimeoutError:
                hint = "Wait for it to end, or choose another --workdir"
                raise RunInProgress(f"another replay is in progress in '{folder}'", hint=hint) from None
            _prepare(folder, resume=resume)
            yield
    except OSError as error:
        raise RetrainerError(
            f"cannot write to '{folder}': {error.strerror}", hint="Free some space, or choose another --workdir"
        ) from error


def _prepare(folder: Path, *, resume: bool) -> None:
    if any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise UsageError(f"'{folder}' was not created by a replay", hint="Choose another --workdir")
    for name in (WORKER_FOLDERS,) if resume else (WORKER_FOLDERS, *_KEPT_TO_RESUME):
        remove(folder / name)
    (folder / MARKER).write_text(json.dumps({"retrainer": __version__}))
