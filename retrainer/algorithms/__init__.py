"""The public interface for plugins: everything that an algorithm or an observer imports, besides `retrainer.errors`.

A plugin is a module of functions marked `@hookimpl`, registered under its algorithm's name in the entry-point group
`retrainer.algorithms`; docs/plugins.md shows how to write one. Names that need numpy or pandas are imported on first
use, so that `retrainer plugins` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from retrainer.algorithms.hookspecs import Algorithm, CostEstimate, Importance, hookimpl

if TYPE_CHECKING:
    from retrainer.algorithms.budget import Budget, BudgetExceeded
    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.base import Origins, hours_between, utc_times
    from retrainer.model_types.content import ContentForecast, ContentTargets, normalize_text, similarity
    from retrainer.model_types.timing import LEVELS, TimingForecasts, TimingTargets, score_maximising_point

__all__ = [
    "LEVELS",
    "Algorithm",
    "Budget",
    "BudgetExceeded",
    "ContentForecast",
    "ContentTargets",
    "CostEstimate",
    "Importance",
    "ModelTypeName",
    "Origins",
    "TimingForecasts",
    "TimingTargets",
    "hookimpl",
    "hours_between",
    "normalize_text",
    "score_maximising_point",
    "similarity",
    "utc_times",
]

_LAZY_MODULES = {
    "LEVELS": "retrainer.model_types.timing",
    "Budget": "retrainer.algorithms.budget",
    "BudgetExceeded": "retrainer.algorithms.budget",
    "ContentForecast": "retrainer.model_types.content",
    "ContentTargets": "retrainer.model_types.content",
    "ModelTypeName": "retrainer.model_types",
    "Origins": "retrainer.model_types.base",
    "TimingForecasts": "retrainer.model_types.timing",
    "TimingTargets": "retrainer.model_types.timing",
    "hours_between": "retrainer.model_types.base",
    "normalize_text": "retrainer.model_types.content",
    "score_maximising_point": "retrainer.model_types.timing",
    "similarity": "retrainer.model_types.content",
    "utc_times": "retrainer.model_types.base",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY_MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(_LAZY_MODULES[name]), name)
