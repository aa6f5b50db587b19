"""The checkpoints at which the hazard is refitted to the posts that have come since training.

Posts are counted from the last training post, which has the number 0. The checkpoints depend on the number of training
gaps only, and the fit at a checkpoint on nothing after its post, so a forecast is the same whatever others are made.
"""

from __future__ import annotations

_MIN_POSTS = 100
_SHARE = 50  # of the gaps before a checkpoint, one in so many follows until the next


def checkpoint_after(checkpoint: int, training_gaps: int) -> int:
    """Return the next checkpoint: after 100 posts, or 2% of those known if they are more."""
    return checkpoint + max(_MIN_POSTS, (training_gaps + checkpoint) // _SHARE)
