"""The posts: where they are kept, how files of them are read, and a synthetic sample."""
