"""The JSON documents of `--json`, the REST API and the events: each is one pydantic model, with its example.

They are imported on first use: a command that prints a table does not need them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrainer.render.documents.evaluations import ComparisonDocument, EvaluationDocument
    from retrainer.render.documents.forecasts import next_post_document
    from retrainer.render.documents.project import FindingsDocument, ImportDocument, PluginDocument, PostsCountDocument
    from retrainer.render.documents.runs import HistoryDocument, TrainingDocument, run_document
    from retrainer.render.documents.versions import (
        ChangedDocument,
        ProductionDocument,
        PrunedDocument,
        VersionLifeDocument,
        VersionsDocument,
    )

_MODULES = {
    "evaluations": ["ComparisonDocument", "EvaluationDocument"],
    "forecasts": ["next_post_document"],
    "project": ["FindingsDocument", "ImportDocument", "PluginDocument", "PostsCountDocument"],
    "runs": ["HistoryDocument", "TrainingDocument", "run_document"],
    "versions": ["ChangedDocument", "ProductionDocument", "PrunedDocument", "VersionLifeDocument", "VersionsDocument"],
}
__all__ = [
    "ChangedDocument",
    "ComparisonDocument",
    "EvaluationDocument",
    "FindingsDocument",
    "HistoryDocument",
    "ImportDocument",
    "PluginDocument",
    "PostsCountDocument",
    "ProductionDocument",
    "PrunedDocument",
    "TrainingDocument",
    "VersionLifeDocument",
    "VersionsDocument",
    "next_post_document",
    "run_document",
]


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
