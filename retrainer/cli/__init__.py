"""The commands: each parses its arguments, makes one call, and gives one output."""

# The help lists the commands in the order in which these modules add them.
from retrainer.cli import retraining  # isort: skip
from retrainer.cli import replaying  # isort: skip
from retrainer.cli import looking  # isort: skip
from retrainer.cli import keeping  # isort: skip
from retrainer.cli import setting_up  # isort: skip
from retrainer.cli import serving  # isort: skip
from retrainer.cli import scheduling  # isort: skip
from retrainer.cli.app import app

__all__ = ["app", "keeping", "looking", "replaying", "retraining", "scheduling", "serving", "setting_up"]
