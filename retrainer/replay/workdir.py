"""The folder of a replay, used by one replay at a time.

Folders that a replay did not create are refused, and so are links below the folder. Only what a replay writes is
deleted; what a user has put next to it stays.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from retrainer import __version__
from retrainer.errors import RetrainerError, RunInProgress, UsageError
from retrainer.files import exclusive_lock, files_in, open_within, write_atomically
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.replay.policies import NAME_PATTERN
from retrainer.replay.prefetch import WORKER_FOLDERS
from retrainer.replay.sandbox import KEY_FILE, MODELS, delete_sandbox
from retrainer.replay.store import is_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MARKER = "replay.json"  # identifies the folder as a replay's
STORE = "work.db"
SANDBOXES = "policies"
_FILES = (STORE, f"{STORE}-wal", f"{STORE}-shm")
_PRODUCTION_LINKS = frozenset(f"{name}_model" for name in MODEL_TYPE_NAMES)
_MAX_MARKER_BYTES = 1_000_000


@contextmanager
def opened(folder: Path, policies: Sequence[str], *, resume: bool) -> Iterator[None]:
    """Use a folder exclusively; without `resume`, delete what an earlier replay left in it.

    Args:
        policies: the names of the policies, each of which gets a sandbox in it.
        resume: keep what an earlier replay left.

    Raises:
        UsageError: the folder contains files that are not a replay's where a replay would write, or links.
        RunInProgress: another replay uses it.
        RetrainerError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                lock_file = folder.parent / f".{folder.name}.lock"
                _refuse_links(lock_file)
                stack.enter_context(exclusive_lock(lock_file, timeout=0))
            except TimeoutError:
                hint = "Wait for it to end, or choose another --workdir"
                raise RunInProgress(f"another replay is in progress in '{folder}'", hint=hint) from None
            _prepare(folder, policies, resume=resume)
            yield
    except OSError as error:
        raise RetrainerError(
            f"cannot write to '{folder}': {error.strerror}", hint="Choose another --workdir, or free some space"
        ) from error


def _prepare(folder: Path, policies: Sequence[str], *, resume: bool) -> None:
    recorded = _read_marker(folder) if any(folder.iterdir()) else []
    _refuse_links(*(path for path in files_in(folder) if not _is_production_link(path.relative_to(folder))))
    for name in policies:
        sandbox = folder / SANDBOXES / name
        if name not in recorded and sandbox.exists():
            raise UsageError(f"'{sandbox}' was not created by a replay", hint="Choose another --workdir")
    if (folder / STORE).exists() and not is_store(folder / STORE):
        hint = "Move it away, or choose another --workdir"
        raise UsageError(f"'{folder / STORE}' was not created by a replay", hint=hint)
    _delete_sandboxes(folder / WORKER_FOLDERS, [path.name for path in (folder / WORKER_FOLDERS).glob("[0-9]*")])
    if not resume:
        _delete_sandboxes(folder / SANDBOXES, recorded)
        for name in _FILES:
            (folder / name).unlink(missing_ok=True)
    document = {"retrainer": __version__, "policies": sorted({*recorded, *policies})}
    write_atomically(folder / MARKER, json.dumps(document).encode())


def _read_marker(folder: Path) -> list[str]:
    """Return the names of the policies that have been replayed in a folder.

    Raises:
        UsageError: it is not the folder of a replay.
    """
    document = None
    with suppress(OSError, ValueError, RecursionError), open_within(folder, [MARKER]) as file:
        document = json.loads(file.read(_MAX_MARKER_BYTES))
    match document:
        case {"retrainer": str(), "policies": [*names]} if all(_is_policy_name(name) for name in names):
            return names
        case {"retrainer": "0.1.0", **others} if not others:  # as that release wrote it
            return [path.parent.name for path in (folder / SANDBOXES).glob(f"*/{KEY_FILE}")]
    raise UsageError(f"'{folder}' was not created by a replay", hint="Choose another --workdir")


def _is_policy_name(name: object) -> bool:
    return isinstance(name, str) and NAME_PATTERN.fullmatch(name) is not None


def _is_production_link(path: Path) -> bool:
    """Whether a path below the folder is where a sandbox has the link to a production version."""
    return path.name in _PRODUCTION_LINKS and path.parts[0] in {SANDBOXES, WORKER_FOLDERS} and MODELS in path.parts[2:3]


def _refuse_links(*paths: Path) -> None:
    for path in paths:
        if path.is_symlink():
            raise UsageError(f"'{path}' is a symbolic link", hint="Remove it, or choose another --workdir")


def _delete_sandboxes(parent: Path, names: Sequence[str]) -> None:
    for name in names:
        delete_sandbox(parent / name)
    with suppress(OSError):  # missing, or a user's files are in it
        parent.rmdir()
