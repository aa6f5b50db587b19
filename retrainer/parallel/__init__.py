"""Hand out work to the workers of a cluster: one loop for all engines."""
