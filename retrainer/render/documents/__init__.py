"""The JSON documents of `--json`, the REST API and the events: each is one pydantic model, with its example.

The modules are imported on first use: a command that prints a table does not need them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrainer.render.documents import (
        ab_tests,
        evaluations,
        explanations,
        exports,
        forecasts,
        live,
        posts,
        project,
        runs,
        status,
        streams,
        tuning,
        versions,
    )

__all__ = [
    "ab_tests",
    "evaluations",
    "explanations",
    "exports",
    "forecasts",
    "live",
    "posts",
    "project",
    "runs",
    "status",
    "streams",
    "tuning",
    "versions",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return import_module(f"{__name__}.{name}")
