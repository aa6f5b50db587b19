"""The commands: each parses its arguments, makes one call, and gives one output."""

# The help lists the commands in the order in which these modules add them.
from retrainer.cli import train  # isort: skip
from retrainer.cli import replay  # isort: skip
from retrainer.cli import show  # isort: skip
from retrainer.cli import versions  # isort: skip
from retrainer.cli import project  # isort: skip
from retrainer.cli import serve  # isort: skip
from retrainer.cli import schedule  # isort: skip
from retrainer.cli.app import app

__all__ = ["app", "project", "replay", "schedule", "serve", "show", "train", "versions"]
