"""The errors that a user may meet, each with its exit code and HTTP status.

    RetrainerError                  1  500   something failed
    ├── UsageError                  2  422   a wrong argument
    │   └── UnknownName             2  404   no such version, model type, algorithm
    ├── ConfigError                 2  500   a wrong setting, or no project here
    ├── MissingCredentials          2  503   an algorithm has nothing to log in with
    ├── InsufficientData            3  409   too few posts
    ├── NothingInProduction         1  409   a forecast is asked for, and no version is live
    ├── RetrainingDisabled          1  409   the settings switch the runs of this model type off
    ├── RunInProgress               4  409   another run of this model type is going on
    ├── PostsError                  1  422   a file or table of posts that cannot be read
    ├── RunTimeout              1  500   a run that went on for longer than it may
    ├── RequestTimeout           1  503   an algorithm that the server waited for as long as it may
    ├── ServerBusy                  1  503   no thread of the server became free for an algorithm
    ├── AlgorithmError              1  500   a plugin that is broken, or answered nonsense
    ├── ArtifactError               1  500   model files that are missing, changed or cannot be written
    ├── CostLimitReached            1  409   one more paid call could exceed what may be spent
    ├── DatabaseError               1  503   the database is not one, is newer than the program, or is out of reach
    ├── PromotionRefused            1  409   this version cannot go live
    │   └── ProductionChanged       1  409   production is no longer what it was compared with
    └── NothingToRollBack           1  409   no promotion is left to undo

A message says what failed, with the value in quotes; the hint says what to do. Together they are one line.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable


class RetrainerError(Exception):
    """Base of all errors that are shown as one line instead of a traceback."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    code: ClassVar[str] = "failed"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.run_id: str | None = None  # the run that failed by it, if there was one
        self.message = " ".join(message.split())
        self.hint = " ".join(hint.split())

    def __str__(self) -> str:
        end = "" if self.message.endswith((".", "?", "!")) else "."
        return f"{self.message}{end} {self.hint}" if self.hint else self.message

    def document(self) -> dict[str, dict[str, str]]:
        """Return the error as the JSON document of the commands and the REST API."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint}}


class UsageError(RetrainerError):
    """An argument that cannot be meant."""

    exit_code = 2
    http_status = 422
    code = "usage"


class UnknownName(UsageError):
    """A version, model type or algorithm that does not exist."""

    http_status = 404
    code = "unknown_name"


class ConfigError(RetrainerError):
    """A setting that is unknown or wrong, or no project where one is needed."""

    exit_code = 2
    code = "configuration"


class MissingCredentials(RetrainerError):
    """An algorithm would call a service and has nothing to log in with."""

    exit_code = 2
    http_status = 503
    code = "missing_credentials"


class InsufficientData(RetrainerError):
    """Too few posts for what was asked."""

    exit_code = 3
    http_status = 409
    code = "insufficient_data"


class NothingInProduction(RetrainerError):
    """A forecast was asked for, and no version of the model type is live."""

    http_status = 409
    code = "nothing_in_production"


class RetrainingDisabled(RetrainerError):
    """A run was asked for that the settings switch off."""

    http_status = 409
    code = "retraining_disabled"


class RunInProgress(RetrainerError):
    """Another run of the same model type is going on."""

    exit_code = 4
    http_status = 409
    code = "run_in_progress"


class RunTimeout(RetrainerError):
    """A run went on for longer than `max_run_minutes`."""

    code = "run_took_too_long"


class RequestTimeout(RetrainerError):
    """Something was asked over HTTP, and no answer was there when the server had waited for it as long as it may."""

    http_status = 503
    code = "took_too_long"


class ServerBusy(RetrainerError):
    """No thread of the server became free: what was asked before goes on, or does not come back."""

    http_status = 503
    code = "busy"


class PostsError(RetrainerError):
    """A file or a table of posts that cannot be read or was refused."""

    http_status = 422
    code = "posts"


class AlgorithmError(RetrainerError):
    """A plugin that cannot be loaded, failed in a hook, or answered nonsense."""

    code = "algorithm"


class ArtifactError(RetrainerError):
    """Model files that are missing, were changed, or cannot be written."""

    code = "artifact"


class CostLimitReached(RetrainerError):
    """One more set of paid forecasts could take the cost over what may be spent."""

    http_status = 409
    code = "cost_limit"


class DatabaseError(RetrainerError):
    """The database cannot be opened, is not one, or is newer than this program."""

    http_status = 503
    code = "database"


class PromotionRefused(RetrainerError):
    """This version cannot go live as it is."""

    http_status = 409
    code = "promotion_refused"


class ProductionChanged(PromotionRefused):
    """Production is no longer the version that the decision was made against."""

    code = "production_changed"


class NothingToRollBack(RetrainerError):
    """No promotion of this model type is left to undo."""

    http_status = 409
    code = "nothing_to_roll_back"


def wrap_unexpected(error: Exception) -> RetrainerError:
    """Return what a user is told of an error that nobody foresaw."""
    if isinstance(error, MemoryError):
        return RetrainerError("out of memory", hint="Give it more, or fewer posts (a view of the recent ones)")
    hint = "This is a fault in retrainer or in a plugin: --traceback shows where"
    return RetrainerError(f"unexpected {type(error).__name__}: '{error}'", hint=hint)


def invalid_value(name: str, value: object, problem: str) -> str:
    """Say what is wrong with a value, such as `test_split: invalid value '2' (must be less than 1)`.

    Args:
        problem: the message of pydantic, such as `Input should be less than 1`.
    """
    for start in ("Value error, ", "Input ", "String ", "it "):
        problem = problem.removeprefix(start)
    return f"{name}: invalid value '{value}' ({problem.replace('should', 'must', 1)})"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `Did you mean 'x'?` for the nearest known name, or an empty string."""
    match = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"Did you mean '{match[0]}'?" if match else ""
