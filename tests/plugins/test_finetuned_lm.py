"""The algorithm `finetuned_lm`: an adapter trained on this machine, the same each time, and refused on another base."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from retrainer.algorithms.manager import load_algorithm
from retrainer.algorithms.testing import check_algorithm
from retrainer.errors import ArtifactError, ConfigError, InsufficientData
from retrainer.model_types.base import Origins
from retrainer.posts.sample import sample_posts

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
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)  # noqa: S106
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


@pytest.mark.slow
def test_it_passes_the_conformance_suite(base: Path) -> None:
    tiny = {"base": str(base), "max_steps": 2, "rank": 2, "samples": 2, "max_new_tokens": 5}
    check_algorithm("finetuned_lm", options=tiny, posts=sample_posts().iloc[:250])


def test_training_and_forecasts_are_the_same_each_time(base: Path) -> None:
    posts, options = posts_of(60), options_of(base)
    one, other = (LM.train(posts, options, "content", None) for _ in range(2))
    assert one.sha256 == other.sha256
    assert one.description["held_out"] == other.description["held_out"]
    assert forecast(one, posts, options) == forecast(other, posts, options)
    assert LM.train(posts, options_of(base, seed=1), "content", None).sha256 != one.sha256


def test_parts_of_the_context_can_be_left_out(base: Path) -> None:
    """Without the last posts, their texts change nothing."""
    options = options_of(base)
    posts = posts_of(60)
    model = LM.train(posts, options, "content", None)
    parts = [part.name for part in LM.context_parts(model, options, "content")]
    assert parts == ["last_posts", "moment"]

    def texts(known: pd.DataFrame, *without: str) -> list[str | None]:
        origins = Origins.before(posts, np.arange(58, 60), target_time_known=True)
        found = LM.predict(model, known, origins, options, "content", None, frozenset(without))
        return [one.text for one in found]

    others = posts.assign(content="something else entirely")
    assert texts(posts) != texts(others)
    assert texts(posts, "last_posts") == texts(others, "last_posts")
    assert len(texts(posts, *parts)) == 2


@pytest.mark.slow
def test_training_learns_the_posts(base: Path) -> None:
    model = LM.train(posts_of(80), options_of(base, max_steps=60, rank=8), "content", None)
    held_out = model.description["held_out"]
    assert min(held_out) < held_out[0] - 0.1


def test_an_interrupted_training_goes_on_to_the_same_model(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from retrainer_lm.training import _Training

    posts, options = posts_of(60), options_of(base, max_steps=45)
    whole = LM.train(posts, options, "content", None)
    step = _Training._step
    taken: list[int] = []

    def interrupted(training: Any, batch: Any) -> None:
        if len(taken) == 27:
            raise KeyboardInterrupt
        taken.append(1)
        step(training, batch)

    def counted(training: Any, batch: Any) -> None:
        taken.append(1)
        step(training, batch)

    monkeypatch.setattr(_Training, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        LM.train(posts, options, "content", None)
    monkeypatch.setattr(_Training, "_step", counted)
    resumed = LM.train(posts, options, "content", None)
    assert len(taken) == 27 + 45 - 20  # a checkpoint is written every 20 steps
    assert resumed.sha256 == whole.sha256


def test_a_checkpoint_that_cannot_be_read_is_ignored_and_an_old_one_deleted(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retrainer_lm.checkpoint import MAX_AGE_DAYS, Checkpoint, Progress

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    weights = {"weight": np.zeros(2, dtype=np.float32)}

    def write(posts: int) -> tuple[Checkpoint, Path]:
        before = set(tmp_path.rglob("state.json"))
        checkpoint = Checkpoint.of(posts_of(posts), options_of(base), "0")
        checkpoint.write(Progress(20, [2.0]), weights, weights, {"state": {}, "param_groups": []})
        (state,) = set(tmp_path.rglob("state.json")) - before
        return checkpoint, state

    first, old = write(30)
    assert first.read() is not None
    state = json.loads(old.read_text())
    broken: list[object] = [{}, [], {**state, "progress": {"looks": 1}}, {**state, "progress": 1}]
    for strange in broken:
        old.write_text(json.dumps(strange))
        assert first.read() is None, strange
    week = time.time() - (MAX_AGE_DAYS + 1) * 86_400
    os.utime(old, (week, week))
    second, recent = write(40)
    assert not old.parent.exists()
    write(50)
    assert recent.exists()
    assert second.read() is not None


def test_a_forecast_does_not_change_after_a_restart(base: Path, tmp_path: Path) -> None:
    posts, options = posts_of(60), options_of(base)
    model = LM.train(posts, options, "content", None)
    texts = forecast(model, posts, options)
    files = {name: (tmp_path / name).read_bytes() for name in LM.save(model, tmp_path)}
    assert forecast(LM.load(files), posts, options) == texts
    assert sorted(files) == ["adapter.safetensors", "model.json"]


@pytest.mark.slow
def test_posts_of_one_word_emoji_many_characters_and_languages_can_be_learned(base: Path) -> None:
    posts = posts_of(60, "hi", "🌧🌧", "x" * 100_000, "Der Nebel lichtet sich", "霧が晴れる")
    posts["content"] = [text.rsplit(" ", 1)[0] for text in posts["content"]]
    options = options_of(base)
    assert all(forecast(LM.train(posts, options, "content", None), posts, options))


def test_few_posts_are_refused(base: Path) -> None:
    with pytest.raises(InsufficientData, match="needs 20 training posts; found 19"):
        LM.train(posts_of(19), options_of(base), "content", None)


def test_a_version_of_another_base_model_is_refused(base: Path, tmp_path: Path) -> None:
    import shutil

    posts, options = posts_of(60), options_of(base)
    model = LM.train(posts, options, "content", None)
    other = tmp_path / "other"
    shutil.copytree(base, other)
    weights = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(ArtifactError, match="was trained on the base model 'base0', not on 'other'"):
        forecast(model, posts, options_of(other))


@pytest.mark.parametrize(
    ("missing", "message"),
    [("tokenizer*", "has no tokenizer"), ("config.json", "has no config.json"), ("*.safetensors", "has no weights")],
)
def test_an_incomplete_base_model_is_refused(base: Path, tmp_path: Path, missing: str, message: str) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(base, folder)
    for file in folder.glob(missing):
        file.unlink()
    with pytest.raises(ConfigError, match=message):
        LM.check_ready(options_of(folder))


def test_a_base_model_of_another_architecture_is_refused(base: Path, tmp_path: Path) -> None:
    import shutil

    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path / "gpt2"
    shutil.copytree(base, folder)
    GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=8, n_layer=1, n_head=1)).save_pretrained(folder)
    with pytest.raises(ConfigError, match="'gpt2' is a GPT2LMHeadModel, an unsupported architecture"):
        LM.train(posts_of(60), options_of(folder), "content", None)


@pytest.mark.parametrize(
    ("name", "message"),
    [("no-such-folder", "'no-such-folder' is neither a folder nor a file"), ("someone/model", "downloads are off")],
)
def test_nothing_is_downloaded_unless_allowed(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LM.check_ready(LM.options({"base": name}, "content"))


def test_a_missing_package_is_named(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match="needs the package 'peft'"):
        LM.check_ready(options_of(base))
