"""The fine-tuned network: samples of the next post, and the likelihood of texts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from peft import set_peft_model_state_dict
from transformers import DynamicCache

from retrainer.errors import ArtifactError
from retrainer_lm import base_model, shared_prompt
from retrainer_lm.devices import choose_device, choose_dtype, choose_threads
from retrainer_lm.packed import pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer_lm import LmOptions
    from retrainer_lm.storage import LanguageModel

log = logging.getLogger(__name__)

_TOP_TOKENS = 64  # of which the next token is drawn (top-k sampling: Fan et al. 2018)
_TEXTS_AT_ONCE = 4  # whose likelihood is computed; the probabilities of all tokens after 160 others take 120 MB


class Network:
    """A network that continues texts.

    Attributes:
        tokenizer: of its base model.
        device: where it computes.
        threads: in how many at most it draws texts.
    """

    def __init__(self, network: Any, tokenizer: Any, device: str) -> None:
        self._network = network
        self.tokenizer = tokenizer
        self.device = device
        self.threads = choose_threads(device, network.dtype)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def sample(self, prompt: Sequence[int], count: int, max_tokens: int, seed: int) -> list[str]:
        """Return `count` texts drawn from the distribution of what follows a prompt.

        The prompt is read once for all of them. The same seed gives the same texts.
        """
        random = torch.Generator().manual_seed(seed)
        end = self.tokenizer.eos_token_id
        read = self._network(torch.tensor([list(prompt)], device=self.device), use_cache=True, logits_to_keep=1)
        logits = read.logits[:, -1].expand(count, -1)
        cache = DynamicCache()
        texts: list[list[int]] = [[] for _ in range(count)]
        open_texts = list(range(count))
        for position in range(len(prompt), len(prompt) + max_tokens):
            best, tokens = torch.topk(logits, min(_TOP_TOKENS, logits.shape[-1]))
            drawn = torch.multinomial(torch.softmax(best.float().cpu(), dim=-1), 1, generator=random)
            chosen = tokens.cpu().gather(1, drawn)[:, 0].tolist()
            going_on = [number for number, token in enumerate(chosen) if token != end]
            for number in going_on:
                texts[open_texts[number]].append(chosen[number])
            if not going_on:
                break
            if len(going_on) < len(open_texts):
                cache.batch_select_indices(torch.tensor(going_on, device=self.device))
                open_texts = [open_texts[number] for number in going_on]
            ids = torch.tensor([[chosen[number]] for number in going_on], device=self.device)
            positions = torch.tensor([[position]], device=self.device)
            logits = self._network(ids, cache=cache, use_cache=True, position_ids=positions, prompt=read.cache).logits[
                :, -1
            ]
        return [str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in texts]

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def log_likelihoods(self, prompt: Sequence[int], texts: Sequence[Sequence[int]]) -> list[float]:
        """Return the log-likelihood in nats of each text as the tokens that follow a prompt, by the whole distribution.

        The prompt is read once for all of them.

        Args:
            prompt: the tokens of the prompt; at least one.
            texts: the tokens of each text; at least one.
        """
        read = self._network(torch.tensor([list(prompt)], device=self.device), use_cache=True, logits_to_keep=1)
        first = torch.log_softmax(read.logits[0, -1].float(), dim=-1)
        nats: list[float] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            batch = texts[start : start + _TEXTS_AT_ONCE]
            rest = self._log_likelihoods_after_first(len(prompt), batch, read.cache)
            nats += [float(first[text[0]]) + part for text, part in zip(batch, rest, strict=True)]
        return nats

    def _log_likelihoods_after_first(self, begin: int, texts: Sequence[Sequence[int]], prompt: Any) -> list[float]:
        """Return the log-likelihood of the tokens of each text after its first one.

        Args:
            begin: the position of the first tokens.
            texts: the tokens of each text.
            prompt: the cache of the prompt.
        """
        longest = max(map(len, texts))
        if longest == 1:
            return [0.0] * len(texts)
        padded = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts], device=self.device)
        positions = torch.arange(begin, begin + longest - 1, device=self.device)[None]
        # What is added at the end of a text comes after all of its tokens, so they do not see it.
        logits = self._network(
            padded[:, :-1], cache=DynamicCache(), use_cache=True, position_ids=positions, prompt=prompt
        ).logits.float()
        chosen = torch.log_softmax(logits, dim=-1).gather(2, padded[:, 1:, None])[:, :, 0].double()
        return [float(row[: len(text) - 1].sum()) for row, text in zip(chosen, texts, strict=True)]


_loaded: dict[tuple[str, str], Network] = {}  # the last one: it takes seconds to load, and half a gigabyte


def load_network(model: LanguageModel, options: LmOptions) -> Network:
    """Return the network of a model.

    Raises:
        ArtifactError: the model was trained on another base model.
        ConfigError: the base model cannot be loaded.
    """
    base = base_model.find_base(options)
    trained_on = model.description["base"]
    if base.sha256 != trained_on["sha256"]:
        raise ArtifactError(
            f"this version was trained on the base model '{trained_on['identity']}', not on '{base.identity}'",
            hint="Install that base model again, or train a new version",
        )
    key = (base.sha256, model.sha256)
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = _load(model, base)
    return _loaded[key]


def _load(model: LanguageModel, base: base_model.Base) -> Network:
    tokenizer = base_model.load_tokenizer(base)
    if base_model.describe_tokenizer(tokenizer) != model.description["tokenizer"]:
        raise ArtifactError(f"the tokenizer of '{base.identity}' has changed", hint="Train a new version")
    device = choose_device()
    network = base_model.with_adapter(base_model.load_network(base, torch.float32), model.description["rank"])
    set_peft_model_state_dict(network, {name: torch.from_numpy(part) for name, part in model.weights.items()})
    dtype = choose_dtype(device)
    trained_in = model.description["dtype"]
    if trained_in != str(dtype).removeprefix("torch."):
        log.warning(
            "The version was trained in %s; this machine computes in %s: its texts may differ", trained_in, dtype
        )
    merged = network.merge_and_unload().to(device, dtype).eval()
    if device == "cpu" and dtype == torch.bfloat16:
        pack(merged)
    merged.set_attn_implementation(shared_prompt.NAME)
    return Network(merged, tokenizer, device)
