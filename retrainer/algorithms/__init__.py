"""How algorithms are declared, found and called.

A plugin is a module with functions marked `@hookimpl`, registered under its algorithm's name in the entry-point group
`retrainer.algorithms`; docs/plugins.md shows how one is written. Nothing slow is imported here, so that
`retrainer plugins` answers at once: what a forecast is made of is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from retrainer.algorithms.hookspecs import Algorithm, CostEstimate, Importance, hookimpl

if TYPE_CHECKING:
    from retrainer.model_types.base import Origins, hours_between, utc_times
    from retrainer.model_types.content import ContentForecast
    from retrainer.model_types.timing import TimingForecasts

__all__ = [
    "Algorithm",
    "ContentForecast",
    "CostEstimate",
    "Importance",
    "Origins",
    "TimingForecasts",
    "hookimpl",
    "hours_between",
    "utc_times",
]

_LATE = {
    "ContentForecast": "retrainer.model_types.content",
    "Origins": "retrainer.model_types.base",
    "TimingForecasts": "retrainer.model_types.timing",
    "hours_between": "retrainer.model_types.base",
    "utc_times": "retrainer.model_types.base",
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(_LATE[name]), name)
