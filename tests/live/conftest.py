"""Fixtures of the tests of live scores."""

from tests.live.paid import claude, complete, paid

__all__ = ["claude", "complete", "paid"]
