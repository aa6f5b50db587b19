"""Retrain many streams in parallel: each stream and model type is a run of its own."""
