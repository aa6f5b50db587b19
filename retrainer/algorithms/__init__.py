"""The public interface for plugins: everything that an algorithm or an observer imports, besides `retrainer.errors`.

A plugin is a module of functions marked `@hookimpl`, registered under its algorithm's name in the entry-point group
`retrainer.algorithms`; docs/plugins.md shows how to write one. Names that need numpy or pandas are imported on first
use, so that `retrainer plugins` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from retrainer.algorithms.hookspecs import Algorithm, ContextPart, CostEstimate, Importance, hookimpl

if TYPE_CHECKING:
    from retrainer.algorithms.budget import Budget, BudgetExceeded
    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.algorithms.manager import load_algorithm
    from retrainer.algorithms.pending_batches import PendingBatch
    from retrainer.algorithms.point_rule import PointRule, best_constant
    from retrainer.algorithms.recalibration import RECALIBRATION_GAPS, PseudoOrigins, Recalibration
    from retrainer.algorithms.trial_views import PrefixedTrial
    from retrainer.model_types import ModelTypeName
    from retrainer.model_types.base import Origins, hours_between, utc_times
    from retrainer.model_types.content import ContentForecast, ContentTargets, normalize_text, similarity
    from retrainer.model_types.decoding import choose_text, sample_agreement
    from retrainer.model_types.likelihood import Likelihoods
    from retrainer.model_types.timing import LEVELS, TimingForecasts, TimingTargets, score_maximising_point
    from retrainer.redaction import without_secrets

__all__ = [
    "LEVELS",
    "RECALIBRATION_GAPS",
    "Algorithm",
    "Budget",
    "BudgetExceeded",
    "ContentForecast",
    "ContentTargets",
    "ContextPart",
    "CostEstimate",
    "Importance",
    "Likelihoods",
    "LoadedAlgorithm",
    "ModelTypeName",
    "Origins",
    "PendingBatch",
    "PointRule",
    "PrefixedTrial",
    "PseudoOrigins",
    "Recalibration",
    "TimingForecasts",
    "TimingTargets",
    "best_constant",
    "choose_text",
    "hookimpl",
    "hours_between",
    "load_algorithm",
    "normalize_text",
    "sample_agreement",
    "score_maximising_point",
    "similarity",
    "utc_times",
    "without_secrets",
]

_LAZY_NAMES = {
    "retrainer.algorithms.budget": ("Budget", "BudgetExceeded"),
    "retrainer.algorithms.loaded_algorithm": ("LoadedAlgorithm",),
    "retrainer.algorithms.manager": ("load_algorithm",),
    "retrainer.algorithms.pending_batches": ("PendingBatch",),
    "retrainer.algorithms.point_rule": ("PointRule", "best_constant"),
    "retrainer.algorithms.recalibration": ("RECALIBRATION_GAPS", "PseudoOrigins", "Recalibration"),
    "retrainer.algorithms.trial_views": ("PrefixedTrial",),
    "retrainer.redaction": ("without_secrets",),
    "retrainer.model_types": ("ModelTypeName",),
    "retrainer.model_types.base": ("Origins", "hours_between", "utc_times"),
    "retrainer.model_types.content": ("ContentForecast", "ContentTargets", "normalize_text", "similarity"),
    "retrainer.model_types.likelihood": ("Likelihoods",),
    "retrainer.model_types.decoding": ("choose_text", "sample_agreement"),
    "retrainer.model_types.timing": ("LEVELS", "TimingForecasts", "TimingTargets", "score_maximising_point"),
}


def __getattr__(name: str) -> object:
    for module, names in _LAZY_NAMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
