"""What is remembered: versions, runs, evaluations, decisions, and the model files."""
