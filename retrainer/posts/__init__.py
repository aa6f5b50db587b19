"""The posts: where they are stored, how they are imported, and a synthetic sample."""
