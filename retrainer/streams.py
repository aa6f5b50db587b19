"""Streams: each is one sequence of posts, such as those of an account."""

DEFAULT_STREAM = "default"  # of posts that are said to be in no other
