"""retrainer keeps a prediction model fresh without anyone watching it."""

__version__ = "0.1.0"
