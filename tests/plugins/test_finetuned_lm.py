"""The algorithm `finetuned_lm`: an adapter trained on this machine, the same each time, and refused on another base."""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from retrainer.algorithms.manager import load_algorithm
from retrainer.algorithms.testing import check_algorithm
from retrainer.errors import AlgorithmError, ArtifactError, ConfigError, InsufficientData
from retrainer.model_types.base import Origins

if TYPE_CHECKING:
    from pathlib import Path

LM = load_algorithm("finetuned_lm")
WORDS = ("the fog lifts over our hill and we open early", "tea is ready, doors at eight", "no telescope tonight: rain")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a random language model of two layers, and a tokenizer of a few hundred tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("base")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(WORDS, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer.get_vocab()),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        eos_token_id=0,
        bos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def options_of(base: Path, **changes: Any) -> Any:
    tiny = {"max_steps": 4, "rank": 2, "samples": 3, "max_new_tokens": 8, "context_posts": 2}
    return LM.options({"base": str(base), **tiny, **changes}, "content")


def posts_of(count: int, *texts: str) -> pd.DataFrame:
    times = pd.Timestamp("2024-03-01", tz="UTC") + pd.to_timedelta(np.arange(count) * 7.3, unit="h")
    chosen = texts or WORDS
    return pd.DataFrame(
        {
            "post_id": [f"{row:04d}" for row in range(count)],
            "created_at": times.as_unit("us"),
            "content": [f"{chosen[row % len(chosen)]} {row}" for row in range(count)],
        }
    )


def forecast(model: Any, posts: pd.DataFrame, options: Any, rows: int = 2) -> list[str | None]:
    origins = Origins.before(posts, np.arange(len(posts) - rows, len(posts)))
    times = posts["created_at"].to_numpy(dtype="datetime64[us]")[origins.position + 1]
    return [
        one.text
        for one in LM.predict(model, posts, dataclasses.replace(origins, target_time=times), options, "content", None)
    ]


def test_it_passes_the_conformance_suite(base: Path) -> None:
    check_algorithm(
        "finetuned_lm", config={"base": str(base), "max_steps": 2, "rank": 2, "samples": 2, "max_new_tokens": 5}
    )


def test_training_and_forecasts_are_the_same_each_time(base: Path) -> None:
    posts, options = posts_of(60), options_of(base)
    one, other = (LM.train(posts, options, "content", None) for _ in range(2))
    assert one.sha256 == other.sha256
    assert one.description["held_out"] == other.description["held_out"]
    assert forecast(one, posts, options) == forecast(other, posts, options)
    assert LM.train(posts, options_of(base, seed=1), "content", None).sha256 != one.sha256
