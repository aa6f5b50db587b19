"""Measure the time of 20 forecasts by `claude_api`, with a local server that takes 300 ms per answer.

make bench-claude
"""

from __future__ import annotations

import os
import statistics
import time

import numpy as np

from retrainer.algorithms.manager import load_algorithm
from retrainer.model_types.base import Origins
from retrainer.posts.sample import sample_posts
from tests.claude_server import ClaudeServer, Received, Reply

FORECASTS = 20
ANSWER_SECONDS = 0.3
ROUNDS = 5


class SlowServer(ClaudeServer):
    """A server with a delay before each answer."""

    def answer(self, request: Received) -> Reply:
        time.sleep(ANSWER_SECONDS)
        return super().answer(request)


def main() -> None:
    claude = load_algorithm("claude_api", "content")
    posts = sample_posts().dropna(subset="content").reset_index(drop=True)
    config = claude.options({}, "content")
    model = claude.train(posts.iloc[:300], config, "content")
    origins = Origins.before(posts, np.arange(300, 300 + FORECASTS), target_time_known=True)
    seconds, calls = [], []
    for _ in range(ROUNDS):
        with SlowServer() as server:
            os.environ |= {"ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_API_KEY": "sk-ant-benchmark"}
            started = time.perf_counter()
            claude.predict(model, posts, origins, config, "content")
            seconds.append(time.perf_counter() - started)
            calls.append(len(server.requests))
    sequential = FORECASTS * ANSWER_SECONDS
    median = statistics.median(seconds)
    print(
        f"{FORECASTS} forecasts at {ANSWER_SECONDS * 1000:.0f} ms: {median:.2f} s, {median / sequential:.2f} of the "
        f"sequential time; calls: {calls}"
    )


if __name__ == "__main__":
    main()
