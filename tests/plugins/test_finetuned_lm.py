"""The algorithm `finetuned_lm`: an adapter trained on this machine, the same each time, and refused on another base."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from retrainer.algorithms.manager import load_algorithm
from retrainer.algorithms.testing import check_algorithm
from retrainer.errors import AlgorithmError, ArtifactError, ConfigError, InsufficientData
from retrainer.model_types.base import Origins, utc_times
from retrainer.posts.sample import sample_posts

if TYPE_CHECKING:
    from tests.command_line import Runner

pytestmark = pytest.mark.slow  # the import of torch and transformers alone takes 10 s

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

    def interrupted(*arguments: Any) -> None:
        if len(taken) == 27:
            raise KeyboardInterrupt
        taken.append(1)
        step(*arguments)

    def counted(*arguments: Any) -> None:
        taken.append(1)
        step(*arguments)

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


def test_a_training_killed_while_it_writes_a_checkpoint_leaves_the_last_one(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retrainer_lm.checkpoint import Checkpoint, Progress

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    checkpoint = Checkpoint.of(posts_of(30), options_of(base), "0")

    def write(steps: int) -> None:
        weights = {"weight": np.full(2, steps, dtype=np.float32)}
        checkpoint.write(Progress(steps, [2.0]), weights, weights, {"state": {}, "param_groups": []})

    def killed(file: Path, target: Path) -> None:
        if next(replaced) == kill_before:
            raise KeyboardInterrupt
        replace(file, target)

    write(20)
    replace = Path.replace
    for kill_before in range(4):
        replaced = itertools.count()
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Path, "replace", killed)
            write(40)
        found = checkpoint.read()
        assert found is not None, kill_before
        assert (found[0].steps, found[1]["weight"].tolist()) == (20, [20, 20])
    write(40)
    found = checkpoint.read()
    assert found is not None
    assert (found[0].steps, found[1]["weight"].tolist()) == (40, [40, 40])
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 4


def test_a_forecast_does_not_change_after_a_restart(base: Path, tmp_path: Path) -> None:
    posts, options = posts_of(60), options_of(base)
    model = LM.train(posts, options, "content", None)
    texts = forecast(model, posts, options)
    files = {name: (tmp_path / name).read_bytes() for name in LM.save(model, tmp_path)}
    assert forecast(LM.load(files), posts, options) == texts
    assert sorted(files) == ["adapter.safetensors", "model.json"]


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
    with pytest.raises(ArtifactError, match=f"was trained on the base model '{base.name}', not on 'other'"):
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


def test_a_missing_package_is_named(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match="needs the package 'peft'"):
        LM.check_ready(options_of(base))


def test_likelihoods_are_those_of_each_text_read_alone_after_its_prompt(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six texts from one origin, of one token to many, and one from another; torch's own cross-entropy is the judge."""
    import torch

    from retrainer_lm import network as networks
    from retrainer_lm.windows import MAX_POST_TOKENS, PostTokens

    monkeypatch.setattr(networks, "choose_dtype", lambda _: torch.float32)
    monkeypatch.setattr(networks, "_loaded", {})
    posts, options = posts_of(40), options_of(base)
    model = LM.train(posts.iloc[:30], options, "content", None)
    texts = ["tea", WORDS[0], "x", "no telescope tonight: rain 31", "word " * 500, "🌧", WORDS[1]]
    origins = Origins.before(posts, np.array([35] * 6 + [38]), target_time_known=True)
    network = networks.load_network(model, options)
    with torch.no_grad():
        for weights in network._network.parameters():
            weights.mul_(10 if weights.dim() > 1 else 1)  # so that it matters which tokens are where
    found = LM.likelihood(model, posts, origins, texts, options)
    assert found is not None
    tokens = PostTokens(network.tokenizer, posts, utc_times(posts))
    assert origins.target_time is not None
    expected = []
    for position, moment, text in zip(origins.position, origins.target_time, texts, strict=True):
        prompt, ids = tokens.prompt(int(position), moment, options.context_posts), tokens.text(text)
        with torch.no_grad():
            logits = network._network(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
        expected.append(-float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids), reduction="sum")))
    np.testing.assert_allclose(found.nats, expected, rtol=1e-4)
    assert found.tokens.tolist() == [len(tokens.text(text)) for text in texts]
    assert found.tokens[4] == MAX_POST_TOKENS
    every_token = network.log_likelihoods([5, 6, 7], [[token] for token in range(len(network.tokenizer.get_vocab()))])
    assert np.exp(every_token).sum() == pytest.approx(1)


def test_the_rest_of_a_text_sees_the_prompt_as_if_it_had_been_read_together(base: Path) -> None:
    import torch

    from retrainer_lm.network import load_network

    posts, options = posts_of(60), options_of(base)
    network = load_network(LM.train(posts, options, "content", None), options)
    prompt, texts = list(range(5, 35)), [[40, 41, 42, 43, 44, 45], [50, 51]]
    together = []
    for text in texts:
        logits = network._network(torch.tensor([[*prompt, *text]])).logits[0, len(prompt) - 1 : -1].float()
        together.append(float(torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(text)[:, None]).sum()))
    assert network.log_likelihoods(prompt, texts) == pytest.approx(together, rel=0.01)


def wide_layers(vocab_size: int = 300, **changes: Any) -> Any:
    """Return a network of two random layers as wide as SmolLM2's, in bfloat16 where the processor multiplies it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from retrainer_lm.devices import choose_dtype

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=2,
        num_attention_heads=9,
        num_key_value_heads=3,
        initializer_range=0.2,  # so that texts differ, and end at different times
        **changes,
    )
    return LlamaForCausalLM(config).to(choose_dtype("cpu")).eval()


@pytest.mark.parametrize("biased", [False, True])
def test_packed_layers_compute_every_bit_of_those_of_transformers(biased: bool) -> None:
    import torch
    from transformers import DynamicCache

    from retrainer_lm import shared_prompt
    from retrainer_lm.packed import pack

    layers = wide_layers(attention_bias=biased, mlp_bias=biased)
    if layers.dtype != torch.bfloat16:
        pytest.skip("layers are packed only in bfloat16, which this processor does not multiply")
    for name, part in layers.named_parameters():
        torch.nn.init.normal_(part, mean=float("norm" in name), std=0.2)  # also of the norms and biases
    layers.set_attn_implementation(shared_prompt.NAME)

    def compute() -> list[Any]:
        """Read a prompt, two tokens of five texts after it, and one more of two of them."""
        with torch.inference_mode():
            read = layers(torch.arange(5, 75)[None], use_cache=True)
            cache, found = DynamicCache(), [read.logits]
            for number, ids in enumerate((torch.arange(10).reshape(5, 2), torch.tensor([[7], [8]]))):
                positions = torch.arange(70, 72)[None] if number == 0 else torch.tensor([[72]])
                if number == 1:
                    cache.batch_select_indices(torch.tensor([1, 4]))
                found.append(layers(ids, cache=cache, position_ids=positions, prompt=read.cache).logits)
            return found

    expected = compute()
    pack(layers)
    assert "Linear" not in {type(part).__name__ for part in layers.modules()}
    assert all(torch.equal(one, other) for one, other in zip(compute(), expected, strict=True))


def test_a_second_thread_changes_no_bit(base: Path) -> None:
    """Every logit is compared, not only the texts."""
    import torch

    from retrainer_lm import shared_prompt
    from retrainer_lm.base_model import find_base, load_tokenizer
    from retrainer_lm.devices import deterministic
    from retrainer_lm.network import Network
    from retrainer_lm.packed import pack

    tokenizer = load_tokenizer(find_base(options_of(base)))
    layers = wide_layers(len(tokenizer.get_vocab()))
    pack(layers)
    layers.set_attn_implementation(shared_prompt.NAME)
    network = Network(layers, tokenizer, "cpu")
    if network.threads == 1:
        pytest.skip("texts are drawn in two threads only in bfloat16, which this processor does not multiply")
    logits: list[Any] = []
    layers.register_forward_hook(lambda *arguments: logits.append(arguments[-1].logits.clone()))

    def draw(prompt: list[int]) -> tuple[list[str], list[Any]]:
        logits.clear()
        return network.sample(prompt, 8, 6, seed=3), list(logits)

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for length in (64, 200):
            prompt = [5 + token % 200 for token in range(length)]
            with deterministic():
                texts, expected = draw(prompt)
            with deterministic(network.threads):
                assert torch.get_num_threads() == 2
                found, own = draw(prompt)
            assert found == texts
            assert all(torch.equal(one, other) for one, other in zip(own, expected, strict=True))
    finally:
        torch.set_num_threads(threads)


def test_a_post_that_spells_out_a_special_token_does_not_end_there(base: Path) -> None:
    from retrainer_lm.base_model import find_base, load_tokenizer
    from retrainer_lm.windows import PostTokens

    tokenizer = load_tokenizer(find_base(options_of(base)))
    ids = PostTokens(tokenizer, posts_of(20), np.zeros(20, dtype="datetime64[us]")).text("the <end> of it")
    assert ids.index(tokenizer.eos_token_id) == len(ids) - 1


def test_a_base_model_without_some_of_its_weights_is_refused(base: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "torn"
    shutil.copytree(base, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match="'torn' lacks the weights of 1 layers, such as 'model.layers.1.mlp.up_proj"):
        LM.train(posts_of(60), options_of(folder), "content", None)


def test_an_adapter_that_was_changed_is_refused(base: Path, tmp_path: Path) -> None:
    model = LM.train(posts_of(60), options_of(base), "content", None)
    files = {name: (tmp_path / name).read_bytes() for name in LM.save(model, tmp_path)}
    weights = files["adapter.safetensors"]
    files["adapter.safetensors"] = weights[:-1] + bytes([weights[-1] ^ 1])
    with pytest.raises(ArtifactError, match="the adapter of this version has changed"):
        LM.load(files)


@pytest.mark.parametrize("changes", [{"format": 0}, {"format": None}, {"adapter_sha256": None}])
def test_a_version_of_another_release_is_refused_as_such(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Those without a digest were written by releases that recorded none."""
    from retrainer_lm.storage import FORMAT, load_model, make_model, save_model

    save_model(make_model({"format": FORMAT}, {"weight": np.zeros(2, dtype=np.float32)}), tmp_path)
    described = {**json.loads((tmp_path / "model.json").read_text()), **changes}
    (tmp_path / "model.json").write_text(json.dumps({key: value for key, value in described.items() if value}))
    with pytest.raises(ArtifactError, match="^this version was trained by another release of `finetuned_lm`. Train"):
        load_model(tmp_path)


def test_too_little_memory_and_a_lost_device_are_errors_of_one_line() -> None:
    import torch

    from retrainer_lm.devices import deterministic

    with pytest.raises(AlgorithmError, match="^`finetuned_lm` ran out of memory"), deterministic():
        torch.empty(2**55)
    with pytest.raises(AlgorithmError, match="^`finetuned_lm` ran out of memory"), deterministic():
        bytearray(2**62)
    for lost in (torch.AcceleratorError("CUDA error: unspecified launch failure\nmore"), RuntimeError("CUDA error: x")):
        with pytest.raises(AlgorithmError, match="^the device of `finetuned_lm` failed: CUDA error: [a-z ]+. Check"):
            with deterministic():
                raise lost
    with pytest.raises(RuntimeError, match="^mat1 and mat2 shapes cannot be multiplied"), deterministic():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_the_time_left_is_logged(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    posts, options = posts_of(60), options_of(base)
    with caplog.at_level("INFO"):
        forecast(LM.train(posts, options, "content", None), posts, options, rows=3)
    assert re.search(r"Training takes at most \d+ more minutes", caplog.text)
    assert "the other 2 take about" in caplog.text


@pytest.mark.usefixtures("posts")
def test_a_training_that_runs_out_of_memory_fails_in_one_line_and_leaves_production(
    base: Path, folder: Path, retrainer: Runner
) -> None:
    assert retrainer("train", "content").code == 0
    before = retrainer("production", "--json").json
    # Threads need some room, and end the process where they find none: a large allocation of torch is what must fail.
    script = """
import gguf, peft, psutil, resource, safetensors, sys, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
from retrainer.__main__ import main
from retrainer_lm import training
def limited(*arguments):
    limit = psutil.Process().memory_info().vms + 2**28
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return found(*arguments), torch.zeros(2**28)
found, training.base_model.with_adapter = training.base_model.with_adapter, limited
sys.argv = ["retrainer", *sys.argv[1:]]
main()
"""
    environ = {
        **os.environ,
        "RETRAINER_CONTENT_MODEL__ALGORITHM": "finetuned_lm",
        "RETRAINER_CONTENT_MODEL__FINETUNED_LM__BASE": str(base),
        "RETRAINER_CONTENT_MODEL__FINETUNED_LM__RANK": "256",
    }
    done = subprocess.run(
        [sys.executable, "-c", script, "train", "content"],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "`finetuned_lm` ran out of memory" in done.stderr
    assert "Traceback" not in done.stderr
    assert retrainer("production", "--json").json == before


@pytest.mark.usefixtures("posts")
def test_a_training_that_was_killed_is_resumed_by_the_next_run(
    base: Path, folder: Path, tmp_path: Path, retrainer: Runner
) -> None:
    environ = {
        "XDG_CACHE_HOME": str(tmp_path / "killed"),
        "RETRAINER_CONTENT_MODEL__ALGORITHM": "finetuned_lm",
        "RETRAINER_CONTENT_MODEL__FINETUNED_LM__BASE": str(base),
        "RETRAINER_CONTENT_MODEL__FINETUNED_LM__MAX_STEPS": "100000",
        "RETRAINER_CONTENT_MODEL__FINETUNED_LM__MAX_TRAIN_MINUTES": "1440",
    }
    command = [sys.executable, "-m", "retrainer", "train", "content"]
    with subprocess.Popen(command, cwd=folder, env={**os.environ, **environ}, stderr=subprocess.DEVNULL) as running:
        while not list((tmp_path / "killed").rglob("state.json")):
            assert running.poll() is None
            time.sleep(0.05)
        running.kill()
    environ["RETRAINER_CONTENT_MODEL__FINETUNED_LM__MAX_TRAIN_MINUTES"] = "0.02"
    environ["RETRAINER_CONTENT_MODEL__FINETUNED_LM__SAMPLES"] = "2"  # does not concern training
    done = retrainer("train", "content", env=environ)
    assert done.code == 0, done.err
    assert re.search(r"Resumed training after [1-9][0-9]*0 steps", done.err)


def test_the_windows_of_a_step_give_the_gradient_of_all_their_texts_read_together(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss and gradient are those of transformers for a batch of padded windows."""
    import torch

    from retrainer_lm import base_model
    from retrainer_lm.training import _Training
    from retrainer_lm.windows import IGNORED, PostTokens, cut_windows

    options, posts = options_of(base), posts_of(60)
    found = base_model.find_base(options)
    tokens = PostTokens(base_model.load_tokenizer(found), posts, utc_times(posts))
    torch.manual_seed(0)
    network = base_model.with_adapter(base_model.load_network(found, torch.float32), options.rank).eval()
    trained = [part for part in network.parameters() if part.requires_grad]
    for part in trained:
        torch.nn.init.normal_(part)
    windows = [
        cut_windows(tokens, range(first, first + count), 0, np.zeros(1, bool))[0] for first, count in ((0, 9), (9, 4))
    ]
    assert len(windows[0].ids) > len(windows[1].ids) + 32

    length = len(windows[0].ids)
    ids = torch.tensor([window.ids + [0] * (length - len(window.ids)) for window in windows])
    labels = torch.tensor([window.labels + [IGNORED] * (length - len(window.labels)) for window in windows])
    loss = network(input_ids=ids, labels=labels).loss
    expected = torch.autograd.grad(loss, trained)

    monkeypatch.setattr("retrainer_lm.training.choose_dtype", lambda device: torch.float32)  # noqa: ARG005
    training = _Training(network, tokens, options, "cpu")
    own = training.add_gradient(windows)
    assert own == pytest.approx(float(loss.detach()), rel=1e-5)
    for part, gradient in zip(trained, expected, strict=True):
        torch.testing.assert_close(part.grad, gradient, rtol=1e-4, atol=1e-6)
