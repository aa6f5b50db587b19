"""Replays a retraining policy on the past: the real pipeline as of each date, and how well what went live then did."""
