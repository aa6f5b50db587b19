"""Tests of live scores, drift, A/B tests and rollback by evidence."""
