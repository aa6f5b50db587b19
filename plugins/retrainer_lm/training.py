"""Train the adapter on windows of posts, with early stopping; an interrupted training is resumed."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict

from retrainer.algorithms import utc_times
from retrainer.errors import InsufficientData
from retrainer_lm import base_model
from retrainer_lm.checkpoint import Checkpoint, Progress
from retrainer_lm.devices import choose_device, choose_dtype, deterministic
from retrainer_lm.storage import FORMAT, make_model
from retrainer_lm.windows import IGNORED, PostTokens, cut_windows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from retrainer_lm import LmOptions
    from retrainer_lm.storage import LanguageModel, Weights
    from retrainer_lm.windows import Example

MIN_POSTS = 20
_BATCH = 2  # windows
_LEARNING_RATE = 1e-3
_WARM_UP_STEPS = 10
_MAX_GRADIENT = 1.0
_COOL_DOWN = 0.2  # of the time: the learning rate falls to 0 also where the time ends the training
_WITHOUT_HEADERS = 0.15  # of the windows
_MAX_OFFSET = 8  # posts
_HELD_OUT = 0.1  # of the posts, the last ones
_HELD_OUT_WINDOWS = 8
_EVALUATE_EVERY = 20  # steps
_TIMED_STEPS = 3  # by which the time is estimated
_PATIENCE = 4  # evaluations without an improvement
_LENGTHS = 32  # the network reads multiples of it: torch keeps megabytes for each length on the processor

log = logging.getLogger(__name__)


def train_model(posts: pd.DataFrame, options: LmOptions) -> LanguageModel:
    """Train the adapter, on a GPU if there is one.

    The description of the model is plain data: `format`; the `base` with its identity and SHA-256; the `tokenizer`;
    `rank`; `trained_posts`; `steps`, and which of `early_stopping`, `steps` and `time` ended the training; the
    `held_out` losses in nats per token, the first before training; `device`; `dtype` of the base model; and the
    versions of `torch`, `transformers` and `peft`.

    Args:
        posts: training posts in order, all with texts.
        options: see `LmOptions`.

    Raises:
        InsufficientData: there are fewer than 20 posts.
        ConfigError: the base model cannot be loaded.
        AlgorithmError: there is too little memory.
    """
    started = time.monotonic()
    if len(posts) < MIN_POSTS:
        raise InsufficientData(
            f"`finetuned_lm` needs {MIN_POSTS} training posts; found {len(posts)}",
            hint="Import more posts, or choose another algorithm, such as baseline",
        )
    base = base_model.find_base(options)
    device = choose_device()
    with deterministic():
        tokenizer = base_model.load_tokenizer(base)
        tokens = PostTokens(tokenizer, posts, utc_times(posts))
        torch.manual_seed(options.seed)
        dtype = choose_dtype(device)  # of the base model alone: the adapter is trained in single precision
        network = base_model.with_adapter(base_model.load_network(base, dtype), options.rank).to(device)
        training = _Training(network, tokens, options, device)
        checkpoint = Checkpoint.of(posts, options, base.sha256)
        ended_by = training.run(checkpoint, started + 60 * options.max_train_minutes)
        checkpoint.delete()
    progress = training.progress
    log.info(
        "Trained %d steps in %.0f s: held-out loss %.3f nats per token (before training: %.3f)",
        progress.steps,
        time.monotonic() - started,
        min(progress.held_out),
        progress.held_out[0],
    )
    import peft  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    description = {
        "format": FORMAT,
        "base": {"identity": base.identity, "sha256": base.sha256},
        "tokenizer": base_model.describe_tokenizer(tokenizer),
        "rank": options.rank,
        "trained_posts": len(posts),
        "steps": progress.steps,
        "ended_by": ended_by,
        "held_out": progress.held_out,
        "device": device,
        "dtype": str(choose_dtype(device)).removeprefix("torch."),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
    }
    return make_model(description, training.best)


class _Training:
    """An adapter, its optimizer and its data."""

    def __init__(self, network: Any, tokens: PostTokens, options: LmOptions, device: str) -> None:
        self._network = network
        self._tokens = tokens
        self._options = options
        self._device = device
        held_out = max(2, int(len(tokens) * _HELD_OUT))
        self._rows = range(len(tokens) - held_out)
        rows = range(len(tokens) - held_out, len(tokens))
        self._held_out = cut_windows(tokens, rows, 0, np.zeros(1, dtype=bool))[:_HELD_OUT_WINDOWS]
        trained = [part for part in network.parameters() if part.requires_grad]
        self._optimizer = torch.optim.AdamW(trained, lr=_LEARNING_RATE, weight_decay=0.0)
        self.progress = Progress()
        self.best: Weights = self._weights()

    def run(self, checkpoint: Checkpoint, deadline: float) -> str:
        """Train until the held-out loss does not improve, and return what ended it."""
        progress, options = self.progress, self._options
        stored = checkpoint.read()
        if stored is not None:
            self._restore(*stored)
            progress = self.progress
            log.info("Resumed training after %d steps", progress.steps)
        else:
            progress.held_out.append(self._held_out_loss())
        first, started = progress.steps, time.monotonic()
        for batch in self._batches(first):
            if progress.steps >= options.max_steps:
                return "steps"
            if time.monotonic() > deadline:
                self._evaluate_held_out()
                return "time"
            self._step(batch, (deadline - time.monotonic()) / (60 * options.max_train_minutes))
            progress.steps += 1
            if progress.steps - first == _TIMED_STEPS:
                seconds = (time.monotonic() - started) / _TIMED_STEPS
                left = min(seconds * (options.max_steps - progress.steps), deadline - time.monotonic())
                log.info("Training takes at most %.0f more minutes, less if the held-out loss stops falling", left / 60)
            if progress.steps % _EVALUATE_EVERY == 0 or progress.steps == options.max_steps:
                self._evaluate_held_out()
                if progress.evaluations_without_gain >= _PATIENCE:
                    return "early_stopping"
                checkpoint.write(progress, self._weights(), self.best, self._optimizer.state_dict())
        return "steps"

    def _evaluate_held_out(self) -> None:
        """Keep the weights if they are the best so far on the held-out posts."""
        loss = self._held_out_loss()
        if loss < min(self.progress.held_out):
            self.best, self.progress.evaluations_without_gain = self._weights(), 0
        else:
            self.progress.evaluations_without_gain += 1
        self.progress.held_out.append(loss)
        log.info("Step %d: held-out loss %.3f nats per token", self.progress.steps, loss)

    def _step(self, batch: Sequence[Example], remaining: float) -> None:
        done = self.progress.steps
        share = min((done + 1) / _WARM_UP_STEPS, 1.0) * (1 - done / self._options.max_steps)
        share *= min(max(remaining, 0.0) / _COOL_DOWN, 1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * share
        torch.manual_seed((self._options.seed << 20) + done)  # of the dropout, so that a resumed training is the same
        self._network.train()
        self._optimizer.zero_grad()
        self.add_gradient(batch)
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), _MAX_GRADIENT)
        self._optimizer.step()

    def add_gradient(self, batch: Sequence[Example]) -> float:
        """Add the gradient of the mean loss of the learned tokens, and return this loss in nats per token."""
        count = sum(map(_count_labels, batch))
        loss = 0.0
        for window in batch:  # one after the other, which halves the memory
            part = self._nats(window) / count
            part.backward()
            loss += float(part.detach())
        return loss

    def _held_out_loss(self) -> float:
        self._network.eval()
        with torch.no_grad():
            nats = sum(float(self._nats(window)) for window in self._held_out)
        return nats / sum(map(_count_labels, self._held_out))

    def _nats(self, window: Example) -> Any:
        """Return the negative log likelihood of the learned tokens, of all but the first token of the window.

        The probabilities of all tokens of the vocabulary are computed for these alone: they take most memory.
        """
        ids = torch.tensor([_filled(window.ids, 0)], device=self._device)  # what comes later, a token does not see
        learned = [place for place, label in enumerate(window.labels) if place > 0 and label >= 0]
        before = torch.tensor(_filled([place - 1 for place in learned], 0), device=self._device)
        labels = torch.tensor(_filled([window.labels[place] for place in learned], IGNORED), device=self._device)
        with torch.autocast(self._device, torch.bfloat16, enabled=choose_dtype(self._device) == torch.bfloat16):
            logits = self._network(input_ids=ids, logits_to_keep=before).logits[0]
        return torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum", ignore_index=IGNORED)

    def _batches(self, start: int) -> Iterator[Sequence[Example]]:
        """Yield batches for ever, from a step on; the order depends on the seed and the pass over the posts alone."""
        step, epoch = 0, 0
        while True:
            random = np.random.default_rng((self._options.seed, epoch))
            offset = int(random.integers(min(_MAX_OFFSET, max(1, len(self._rows) // 2))))
            without: NDArray[np.bool_] = random.random(len(self._rows)) < _WITHOUT_HEADERS
            windows = cut_windows(self._tokens, self._rows, offset, without)
            order = random.permutation(len(windows))
            for first in range(0, len(order), _BATCH):
                if step >= start:
                    yield [windows[number] for number in order[first : first + _BATCH]]
                step += 1
            epoch += 1

    def _weights(self) -> Weights:
        with base_model.quiet():  # a GGUF base model has no config.json
            state = get_peft_model_state_dict(self._network)
        return {name: part.detach().float().cpu().numpy().copy() for name, part in state.items()}

    def _restore(self, progress: Progress, weights: Weights, best: Weights, optimizer: dict[str, Any]) -> None:
        set_peft_model_state_dict(
            self._network, {name: torch.from_numpy(part).to(self._device) for name, part in weights.items()}
        )
        self._optimizer.load_state_dict(optimizer)
        self.progress, self.best = progress, best


def _count_labels(window: Example) -> int:
    return sum(label >= 0 for label in window.labels[1:])


def _filled(values: list[int], fill: int) -> list[int]:
    return [*values, *[fill] * (-len(values) % _LENGTHS)]
