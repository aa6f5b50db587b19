"""The registry: versions, runs, evaluations, decisions, and model files."""
