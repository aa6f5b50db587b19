"""Two ways to call `retrainer` from a test: in this process, which is quick, and in a process of its own."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

# Permissions do not bind root; as a child of this, it is bound like anyone else.
WITHOUT_POWER = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
TIMEOUT_SECONDS = 600
# Python reads these when it starts, so only a process of its own obeys them.
READ_AT_START = ("PYTHONIOENCODING", "PYTHONUTF8", "PYTHONWARNINGS", "LANG", "LC_ALL")


@dataclass(frozen=True)
class Completed:
    """The result of a command line."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Runner(Protocol):
    """Calls `retrainer` with arguments, by default in the project folder, and with additional environment variables."""

    def __call__(
        self, *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, **environ: str
    ) -> Completed: ...


def with_default_signals() -> None:
    """Restore the default signal handlers; for `preexec_fn`, since a shell ignores some in the background."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)


def run_as_process(folder: Path, *, powerless: bool = False) -> Runner:
    """Return a runner that starts a Python process for each command.

    Args:
        folder: the default working directory.
        powerless: whether permissions of files bind the process even where the tests run as root.
    """

    def run(
        *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, **environ: str
    ) -> Completed:
        done = subprocess.run(
            [*(WITHOUT_POWER if powerless else []), sys.executable, "-W", "error", "-m", "retrainer", *arguments],
            cwd=cwd or folder,
            env={**os.environ, **(env or {}), **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        return _without_traceback(Completed(done.returncode, done.stdout, done.stderr), arguments)

    return run


def run_in_process(folder: Path, *, terminal: int | None = None) -> Runner:
    """Return a runner that calls the program's entry function in this process.

    What a process would start with is set up for the call and restored after it: working directory, environment,
    streams (by file descriptor, so output of libraries and children is captured too), log handlers, warning filters,
    and the packages on PYTHONPATH.

    Args:
        folder: the default working directory.
        terminal: the file descriptor of a terminal that results go to, instead of being captured.
    """

    def run(
        *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, **environ: str
    ) -> Completed:
        variables = {**(env or {}), **environ}
        assert not variables.keys() & set(READ_AT_START), "this needs the fixture `retrainer_process`"
        # Imported late: the environment of a test must be in place first.
        from retrainer import console
        from retrainer.cli import program

        with (
            environment(variables),
            contextlib.chdir(cwd or folder),
            packages(variables.get("PYTHONPATH", "")),
            _fresh_logging(),
            warnings.catch_warnings(action="error"),
            _captured_streams(terminal) as read,
        ):
            console.prepare_streams()
            try:
                code = program.run(arguments)
            except SystemExit as exit_:
                code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
            out, err = read()
        return _without_traceback(Completed(code, out, err), arguments)

    return run


def _without_traceback(done: Completed, arguments: tuple[str, ...]) -> Completed:
    assert "Traceback" not in done.err or "--traceback" in arguments, done.err
    return done


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the block, and put back what they were."""
    before = dict(os.environ)
    os.environ.update(variables)
    time.tzset()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        time.tzset()


@contextmanager
def packages(python_path: str) -> Iterator[None]:
    """Put folders of packages first on the path, import their modules again, and forget them afterwards."""
    if not python_path:
        yield
        return
    folders = [folder for folder in python_path.split(os.pathsep) if folder]
    names = {path.stem for folder in folders for path in Path(folder).iterdir() if path.suffix in {"", ".py"}}
    hidden = _pop_modules(names)
    path = list(sys.path)
    sys.path[:0] = folders
    _forget_installed_packages()
    try:
        yield
    finally:
        sys.path[:] = path
        _pop_modules(names)
        sys.modules.update(hidden)
        _forget_installed_packages()


def _pop_modules(names: set[str]) -> dict[str, ModuleType]:
    found = [name for name in sys.modules if name.partition(".")[0] in names]
    return {name: sys.modules.pop(name) for name in found}


def _forget_installed_packages() -> None:
    """Clear the caches of installed packages: those of Python, and those of retrainer's plugins."""
    importlib.invalidate_caches()
    for name, module in list(sys.modules.items()):
        if name.startswith(("retrainer.entry_points", "retrainer.algorithms")):
            for value in list(vars(module).values()):
                if isinstance(value, functools._lru_cache_wrapper):
                    value.cache_clear()


@contextmanager
def _fresh_logging() -> Iterator[None]:
    """Hide the log handlers of the tests from the program, which would close them, and drop the program's own."""
    from retrainer import logs, redaction

    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    root.handlers = []
    logs._recent.clear()
    redaction._secrets.clear()
    try:
        yield
    finally:
        for handler in root.handlers:
            with contextlib.suppress(OSError):  # a full disk, as at the end of a process
                handler.close()
        root.handlers = handlers
        root.setLevel(level)


class _Read(Protocol):
    def __call__(self) -> tuple[str, str]: ...


@contextmanager
def _captured_streams(terminal: int | None) -> Iterator[_Read]:
    """Send stdout and stderr, with their file descriptors, to files; stdin is empty. Yields what reads the two.

    Args:
        terminal: the file descriptor that stdout goes to instead.
    """
    streams = sys.stdin, sys.stdout, sys.stderr
    descriptors = [(number, os.dup(number)) for number in (1, 2)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open() as stdin:

        def read() -> tuple[str, str]:
            sys.stdout.flush()
            sys.stderr.flush()
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode().replace("\r\n", "\n"))
            return texts[0], texts[1]

        os.dup2(out.fileno() if terminal is None else terminal, 1)
        os.dup2(err.fileno(), 2)
        sys.stdin = stdin
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  for the call
        sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115  as above
        try:
            yield read
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            sys.stdin, sys.stdout, sys.stderr = streams
            for number, saved in descriptors:
                os.dup2(saved, number)
                os.close(saved)
