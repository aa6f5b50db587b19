"""Hand out work to processes of this machine, or to the workers of a cluster: one loop for all engines."""
