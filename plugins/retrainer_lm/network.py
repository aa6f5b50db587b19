"""The fine-tuned network: samples of the next post, and the likelihood of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from peft import set_peft_model_state_dict
from transformers import DynamicCache

from retrainer.errors import ArtifactError
from retrainer_lm import base_model, shared_prompt
from retrainer_lm.devices import choose_device, choose_dtype
from retrainer_lm.packed import pack
from retrainer_lm.storage import FORMAT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer_lm import LmOptions
    from retrainer_lm.storage import LanguageModel

_TOP_TOKENS = 64  # of which the next token is drawn (top-k sampling: Fan et al. 2018)


class Network:
    """A network that continues texts.

    Attributes:
        tokenizer: of its base model.
        device: where it computes.
    """

    def __init__(self, network: Any, tokenizer: Any, device: str) -> None:
        self._network = network
        self.tokenizer = tokenizer
        self.device = device

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

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def log_likelihood(self, prompt: Sequence[int], text: Sequence[int]) -> float:
        """Return the log likelihood in nats of the tokens of a text after a prompt."""
        ids = torch.tensor([[*prompt, *text]], device=self.device)
        logits = self._network(ids).logits[0, len(prompt) - 1 : -1].float()
        chosen = torch.log_softmax(logits, dim=-1).gather(1, ids[0, len(prompt) :, None])
        return float(chosen.double().sum())


_loaded: dict[tuple[str, str], Network] = {}  # the last one: it takes seconds to load, and half a gigabyte


def load_network(model: LanguageModel, options: LmOptions) -> Network:
    """Return the network of a model.

    Raises:
        ArtifactError: the model was trained by another release, or on another base model.
        ConfigError: the base model cannot be loaded.
    """
    description = model.description
    if description.get("format") != FORMAT:
        raise ArtifactError("this version was trained by another release of `finetuned_lm`", hint="Train a new version")
    base = base_model.find_base(options)
    trained_on = description["base"]
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
    merged = network.merge_and_unload().to(device, dtype).eval()
    if device == "cpu" and dtype == torch.bfloat16:
        pack(merged)
    merged.set_attn_implementation(shared_prompt.NAME)
    return Network(merged, tokenizer, device)
