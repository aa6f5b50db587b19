"""How algorithms are declared, found and called.

A plugin is a module with functions marked `@hookimpl`, registered under its algorithm's name in the entry-point group
`retrainer.algorithms`. Nothing slow is imported here, so that `retrainer plugins` answers at once.
"""

from retrainer.algorithms.hookspecs import Algorithm, CostEstimate, Importance, hookimpl

__all__ = ["Algorithm", "CostEstimate", "Importance", "hookimpl"]
