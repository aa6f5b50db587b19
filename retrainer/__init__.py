"""retrainer keeps a prediction model fresh without anyone watching it.

The Python API offers the commands as functions. Nothing slow is imported until it is used.

    from pathlib import Path
    from retrainer import Project, predict, retrain

    with Project.open(Path("my-project")) as project:
        result = retrain(project, "timing")
        print(result.decision.reason)
        print(predict(project, "timing").next_post_at)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrainer.project import Project
    from retrainer.python_api import (
        check_ab_test,
        compare,
        evaluate,
        explain,
        history,
        predict,
        report,
        retrain,
        start_ab_test,
        stop_ab_test,
        tune,
    )

__version__ = "0.1.0"
__all__ = [
    "Project",
    "__version__",
    "check_ab_test",
    "compare",
    "evaluate",
    "explain",
    "history",
    "predict",
    "report",
    "retrain",
    "start_ab_test",
    "stop_ab_test",
    "tune",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module("retrainer.project" if name == "Project" else "retrainer.python_api"), name)
