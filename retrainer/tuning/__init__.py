"""Tuning: find the options of an algorithm by trial, on the training posts alone."""
