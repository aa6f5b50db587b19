"""Forecasts of `finetuned_lm` for the benchmark of content, kept in files, so that a run that is killed goes on.

In the folder of a stream are `model/`, the trained adapter, with `training.json`; `draws.jsonl` with the texts drawn
for each test post; and `nats.jsonl` with the negative log likelihood of each test post.
"""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.trigram import CACHED_POSTS, CachedTrigram
from retrainer.algorithms import choose_text, utc_times
from retrainer.algorithms.manager import load_algorithm
from retrainer.model_types.base import Origins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from retrainer_lm import LmOptions

log = logging.getLogger(__name__)


def measure_model(
    posts: pd.DataFrame, training: int, rows: NDArray[np.int64], options: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Train on the first posts, and forecast those at `rows`, each from the post before it.

    Args:
        posts: of the stream, all with texts.
        training: the number of training posts.
        rows: (n,) of the test posts.
        options: of `finetuned_lm`.
        folder: of the results; what is there already is not measured again.

    Returns:
        `training` (see `train`), the `texts` by the choice of `copies`, the `seconds` and `samples` of each forecast,
        and the `nats` of each test post: its `tokens`, and the nats by `finetuned_lm` and by `trigram`.
    """
    config: LmOptions = load_algorithm("finetuned_lm", "content").options(options, "content")  # type: ignore[assignment]
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"options": config.model_dump(), "posts": len(posts), "training": training, "rows": rows.tolist()}
    _check_settings(folder, settings)
    facts = train_apart(posts.iloc[:training], config, folder)
    forecasting = cache(partial(_Forecasting, posts, training, rows, config, folder))
    draws = resume(folder / "draws.jsonl", len(rows), lambda number: forecasting().draw(number))
    nats = resume(folder / "nats.jsonl", len(rows), lambda number: forecasting().nats(number))
    return {
        "training": facts,
        "texts": {copies: [draw[copies] for draw in draws] for copies in ("allow", "avoid")},
        "seconds": [draw["seconds"] for draw in draws],
        "samples": [draw["samples"] for draw in draws],
        "nats": nats,
    }


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Raise SystemExit if the folder holds the results of other settings."""
    path = folder / "settings.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != settings:
        raise SystemExit(f"'{folder}' has results of other options or posts. Choose another file for the results.")
    path.write_text(json.dumps(settings), encoding="utf-8")


def train_apart(posts: pd.DataFrame, config: LmOptions, folder: Path) -> dict[str, Any]:
    """Train on the posts in a process of its own, whose memory is measured, unless the folder has a model.

    Returns:
        `seconds`, `processor_seconds`, `peak_gigabytes` (None if unknown) and the model's `description`.
    """
    written = folder / "training.json"
    if not written.exists():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            facts = pool.submit(_train, posts, config, folder).result()
        written.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    found: dict[str, Any] = json.loads(written.read_text(encoding="utf-8"))
    return found


def _train(posts: pd.DataFrame, config: LmOptions, folder: Path) -> dict[str, Any]:
    from retrainer_lm.storage import save_model
    from retrainer_lm.training import train_model

    started, processor = time.monotonic(), time.process_time()
    model = train_model(posts, config)
    facts = {
        "seconds": time.monotonic() - started,
        "processor_seconds": time.process_time() - processor,
        "peak_gigabytes": peak_memory(),
        "description": model.description,
    }
    target = folder / "model"
    target.mkdir(exist_ok=True)
    save_model(model, target)
    return facts


def peak_memory() -> float | None:
    """Return the most memory the process has used, in gigabytes; None if unknown, as on other systems than Linux."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    return None


def resume(path: Path, count: int, measure: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the results of the numbers up to a count; those in the file are not measured again."""
    done = list(_complete_lines(path))
    path.write_text("".join(json.dumps(line) + "\n" for line in done), encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        for number in range(len(done), count):
            done.append(measure(number))
            file.write(json.dumps(done[-1]) + "\n")
            file.flush()
            log.info("%s: %d of %d", path, number + 1, count)
    return done[:count]


def _complete_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file up to one that was cut off."""
    with suppress(FileNotFoundError, json.JSONDecodeError):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


class _Forecasting:
    """Texts for the test posts, and their likelihood."""

    def __init__(
        self, posts: pd.DataFrame, training: int, rows: NDArray[np.int64], config: LmOptions, folder: Path
    ) -> None:
        from retrainer_lm.network import load_network
        from retrainer_lm.storage import load_model
        from retrainer_lm.windows import PostTokens

        self._posts, self._rows, self._config = posts, rows, config
        self._network = load_network(load_model(folder / "model"), config)
        self._tokens = PostTokens(self._network.tokenizer, posts, utc_times(posts))
        self._origins = Origins.before(posts, rows, target_time_known=True)
        self._trigram: CachedTrigram | None = None
        self._training = training

    def draw(self, number: int) -> dict[str, Any]:
        """Return the texts drawn for a test post, and the one chosen with and without copies."""
        from retrainer_lm import KNOWN_POSTS
        from retrainer_lm.devices import deterministic
        from retrainer_lm.forecast import draw_texts

        started = time.perf_counter()
        last, moment = self._origin(number)
        with deterministic(self._network.threads):
            prompt = self._tokens.prompt(last, moment, self._config.context_posts)
            samples = draw_texts(self._network, prompt, moment, self._config)
        known = [str(text).strip() for text in self._posts["content"].iloc[max(0, last + 1 - KNOWN_POSTS) : last + 1]]
        chosen = {copies: choose_text(samples, known, copies=copies == "allow") for copies in ("allow", "avoid")}
        return {"row": last + 1, "samples": samples, **chosen, "seconds": time.perf_counter() - started}

    def nats(self, number: int) -> dict[str, Any]:
        """Return the tokens of a test post and its nats by network and trigram, after the last posts."""
        from retrainer_lm.devices import deterministic

        last, moment = self._origin(number)
        text = self._tokens[last + 1].text
        prompt = self._tokens.prompt(last, moment, self._config.context_posts)
        if self._trigram is None:
            self._trigram = CachedTrigram([self._tokens[row].text for row in range(self._training)])
        with deterministic():
            network = -self._network.log_likelihoods(prompt, [text])[0]
        cached = [self._tokens[row].text for row in range(max(0, last + 1 - CACHED_POSTS), last + 1)]
        trigram = -self._trigram.log_likelihood(text, cached)
        return {"row": last + 1, "tokens": len(text), "finetuned_lm": network, "trigram": trigram}

    def _origin(self, number: int) -> tuple[int, np.datetime64]:
        moments = self._origins.target_time
        assert moments is not None  # noqa: S101  it is known in an evaluation
        return int(self._origins.position[number]), moments[number]
