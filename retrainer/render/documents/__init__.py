"""The JSON documents of `--json`, the REST API and the events: each is one pydantic model, with its example.

The names of the models are those of the OpenAPI document, by which generated clients call them. They are imported on
first use: a command that prints a table does not need them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrainer.render.documents.evaluations import Comparison, Evaluation
    from retrainer.render.documents.forecasts import next_post_document
    from retrainer.render.documents.project import Findings, Import, Plugin, PostsCount
    from retrainer.render.documents.runs import History, Training, run_document
    from retrainer.render.documents.versions import Changed, Production, Pruned, VersionLife, Versions

_MODULES = {
    "evaluations": ["Comparison", "Evaluation"],
    "forecasts": ["next_post_document"],
    "project": ["Findings", "Import", "Plugin", "PostsCount"],
    "runs": ["History", "Training", "run_document"],
    "versions": ["Changed", "Production", "Pruned", "VersionLife", "Versions"],
}
__all__ = [
    "Changed",
    "Comparison",
    "Evaluation",
    "Findings",
    "History",
    "Import",
    "Plugin",
    "PostsCount",
    "Production",
    "Pruned",
    "Training",
    "VersionLife",
    "Versions",
    "next_post_document",
    "run_document",
]


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
