"""The errors that a user may meet, each with its exit code and HTTP status.

    RetrainerError                  1  500   something failed
    ├── UsageError                  2  422   an invalid argument
    │   └── UnknownName             2  404   no such version, model type, algorithm or post
    ├── ConfigError                 2  500   a wrong setting, or no project here
    ├── MissingCredentials          2  503   an algorithm has no credentials for its service
    ├── InsufficientData            3  409   too few posts
    ├── NothingInProduction         1  409   a forecast without a production version
    ├── RetrainingDisabled          1  409   the settings disable the model type
    ├── RunInProgress               4  409   another run of the model type is in progress
    ├── PostsError                  1  422   a file or table of posts cannot be read
    ├── SourceError                 1  500   a source of posts cannot be fetched
    ├── RunTimeout                  1  500   a run exceeded max_run_minutes
    ├── RequestTimeout              1  503   an algorithm did not answer the server in time
    ├── ServerBusy                  1  503   the server has no free thread for an algorithm
    ├── AlgorithmError              1  500   a plugin is broken or returned an invalid value
    ├── ArtifactError               1  500   model files are missing, changed or cannot be written
    ├── CostLimitReached            1  409   another paid call might exceed the cost limit
    ├── DatabaseError               1  503   the database is invalid, too new or unreachable
    │   └── DamagedValue            1  500   a value in the database cannot be read
    ├── PromotionRefused            1  409   the version cannot be promoted
    │   └── ProductionChanged       1  409   the production version changed since the comparison
    ├── NothingToRollBack           1  409   there is no promotion to undo
    └── ABTestError                 1  409   an A/B test cannot be started, or none is running

The message says what failed, with the value in quotes; the hint says what to do. Together they are one line.
"""

from __future__ import annotations

import errno
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar

from retrainer.escapes import shorten
from retrainer.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterable


MAX_CHARACTERS = 2000  # of a message, whose values come from files and command lines
MAX_VALUE_CHARACTERS = 200
_MAX_SHOWN = 60  # of a damaged value
_SECTION = re.compile(r"a valid dictionary( or instance of \w+)?")  # as pydantic calls it


class RetrainerError(Exception):
    """Base of all errors that are reported as one line instead of a traceback."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    code: ClassVar[str] = "failed"

    def __init_subclass__(cls, *, exit_code: int = 0, http_status: int = 0, code: str = "") -> None:
        """Set what differs from the base class."""
        cls.exit_code = exit_code or cls.exit_code
        cls.http_status = http_status or cls.http_status
        cls.code = code or cls.code

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.run_id: str | None = None  # the run that failed, if any
        self.message = _one_line(redact(message))
        self.hint = _one_line(redact(hint))

    def __str__(self) -> str:
        end = "" if self.message.endswith((".", "?", "!")) else "."
        return f"{self.message}{end} {self.hint}" if self.hint else self.message

    def document(self) -> dict[str, dict[str, str]]:
        """Return the error as the JSON document of the commands and the REST API."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint}}


class UsageError(RetrainerError, exit_code=2, http_status=422, code="usage"):
    """An argument is invalid."""


class UnknownName(UsageError, http_status=404, code="unknown_name"):
    """A version, model type, algorithm or post does not exist."""


class ConfigError(RetrainerError, exit_code=2, code="configuration"):
    """A setting is unknown or wrong, or there is no project here."""


class MissingCredentials(RetrainerError, exit_code=2, http_status=503, code="missing_credentials"):
    """An algorithm has no credentials for the service it calls."""


class InsufficientData(RetrainerError, exit_code=3, http_status=409, code="insufficient_data"):
    """There are too few posts."""


class NothingInProduction(RetrainerError, http_status=409, code="nothing_in_production"):
    """A forecast was requested, but the model type has no production version."""


class RetrainingDisabled(RetrainerError, http_status=409, code="retraining_disabled"):
    """The settings disable retraining of the model type."""


class RunInProgress(RetrainerError, exit_code=4, http_status=409, code="run_in_progress"):
    """Another run of the model type is in progress."""


class RunTimeout(RetrainerError, code="run_took_too_long"):
    """A run exceeded `max_run_minutes`."""


class RequestTimeout(RetrainerError, http_status=503, code="took_too_long"):
    """An algorithm did not answer within the time that the server allows."""


class ServerBusy(RetrainerError, http_status=503, code="busy"):
    """All threads of the server are busy with algorithms."""


class PostsError(RetrainerError, http_status=422, code="posts"):
    """A file or table of posts cannot be read or was refused."""


class SourceError(RetrainerError, code="source"):
    """A source of posts cannot be fetched, or its plugin is broken."""


class AlgorithmError(RetrainerError, code="algorithm"):
    """A plugin cannot be loaded, failed in a hook, or returned an invalid value."""


class ArtifactError(RetrainerError, code="artifact"):
    """Model files are missing, were changed, or cannot be written."""


class CostLimitReached(RetrainerError, http_status=409, code="cost_limit"):
    """Further paid forecasts might exceed the cost limit."""


class DatabaseError(RetrainerError, http_status=503, code="database"):
    """The database cannot be opened, is not a database, or is newer than this program."""


class DamagedValue(DatabaseError, http_status=500, code="damaged_value"):
    """A value in the database cannot be read, so trying again does not help."""

    @classmethod
    def instead_of(cls, value: object, wanted: str) -> DamagedValue:
        """Return the error for a value of which something else is wanted, such as `a time`."""
        shown = shorten(str(value), _MAX_SHOWN)
        return cls(f"the database holds '{shown}' instead of {wanted}", hint="Correct the row, or restore a backup")


class PromotionRefused(RetrainerError, http_status=409, code="promotion_refused"):
    """The version cannot be promoted."""


class ProductionChanged(PromotionRefused, code="production_changed"):
    """The production version changed since the comparison."""


class NothingToRollBack(RetrainerError, http_status=409, code="nothing_to_roll_back"):
    """The model type has no promotion to undo."""


class ABTestError(RetrainerError, http_status=409, code="ab_test"):
    """An A/B test cannot be started, or none is running."""


def _one_line(text: str) -> str:
    line = " ".join(text.encode(errors="backslashreplace").decode().split())  # a database refuses surrogates
    return shorten(line, MAX_CHARACTERS)


def wrap_unexpected(error: BaseException) -> RetrainerError:
    """Wrap an unexpected exception in an error that names it."""
    if isinstance(error, MemoryError):
        return RetrainerError("out of memory", hint="Add memory, or use fewer posts (such as a view of recent ones)")
    if isinstance(error, UnicodeEncodeError):  # a file name may hold such bytes, a database cannot
        hint = "Remove it from the command line, the settings or the file that it comes from"
        return UsageError(f"{error.object[error.start : error.end]!r} is not a Unicode character", hint=hint)
    if isinstance(error, FileNotFoundError) and error.filename is None:  # only the current folder has no name
        return UsageError("the current folder no longer exists", hint="Change to another one")
    if isinstance(error, OSError) and (error.filename or error.errno in {errno.ENOSPC, errno.EDQUOT}):
        file = f"use '{error.filename}'" if error.filename else "write"
        return RetrainerError(f"cannot {file}: {error.strerror}", hint="Check path, permissions and free space")
    hint = "This is a bug in retrainer or in a plugin; --traceback shows where"
    return RetrainerError(f"unexpected {type(error).__name__}: '{error}'", hint=hint)


def invalid_value(name: str, value: object, problem: str) -> str:
    """Say what is wrong with a value, such as `test_split: invalid value '2' (must be less than 1)`.

    Args:
        problem: the message of pydantic, such as `Input should be less than 1`.
    """
    for start in ("Value error, ", "Input ", "String ", "it "):
        problem = problem.removeprefix(start)
    problem = _SECTION.sub("a section with keys of its own", problem)
    shown = shorten(str(value), MAX_VALUE_CHARACTERS)
    return f"{name}: invalid value '{shown}' ({problem.replace('should', 'must', 1)})"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `Did you mean 'x'?` for the nearest known name, or an empty string."""
    match = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"Did you mean '{match[0]}'?" if match else ""
