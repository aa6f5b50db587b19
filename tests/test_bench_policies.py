"""`make bench-policies` replays policies on streams, and states what the differences between them are worth."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks import policies

if TYPE_CHECKING:
    from pathlib import Path


def stream(name: str, errors: dict[str, float], seed: int) -> dict[str, object]:
    """Return the result of a stream on which policies miss by so many hours on average."""
    hours = np.random.default_rng(seed).exponential(size=200)
    figures = {label: np.column_stack([hours * mean <= 6, hours * mean]).tolist() for label, mean in errors.items()}
    counts = {"trainings": 6, "promotions": 2, "reversed": 0, "missed": 1}
    naive = np.column_stack([hours * 12 <= 6, hours * 12]).tolist()
    known = {label: {"figures": rows, **counts} for label, rows in figures.items()}
    return {"stream": name, "naive": naive, "policies": known}


def test_the_interval_of_a_better_policy_lies_above_0_and_of_an_equal_one_is_empty() -> None:
    errors = {policies.REFERENCE: 8.0, "better": 5.0, "equal": 8.0}
    results = [stream(str(seed), errors, seed) for seed in range(4)]
    scores, skills = policies.resample(results, list(errors))
    assert scores.shape == skills.shape == (2001, 3)
    assert scores[0, 1] > scores[0, 0]
    difference = skills[:, 1] - skills[:, 0]
    assert np.quantile(difference[1:], 0.025) > 0
    assert (skills[:, 2] == skills[:, 0]).all()


@pytest.mark.slow
def test_every_policy_is_replayed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench-policies.json"
    arguments = ["--stream", "sparse", "--posts", "150", "--steps", "2", "--json", str(path)]
    policies.main(arguments)
    out = capsys.readouterr().out
    (result,) = json.loads(path.read_text())["streams"]
    labels = [label + refit for refit in ("", policies.WITH_REFIT) for label in policies.POLICIES.values()]
    assert list(result["policies"]) == labels
    for label in labels:
        assert f"| {label} | " in out
        assert len(result["policies"][label]["figures"]) == len(result["naive"]) == 74
    assert result["policies"]["never retrain"]["trainings"] == 1
    assert result["policies"]["promote every version, refit"]["promotions"] == 2
    path.write_text(path.read_text().replace('"stream":"sparse"', '"stream":"sparse","kept":true'))
    policies.main(arguments)
    assert '"kept":true' in path.read_text(), "what is known is not replayed again"
    assert capsys.readouterr().out == f"sparse: from {path}\n{out}"
    with pytest.raises(SystemExit) as ended:
        policies.main(["--stream", "sparce", "--json", str(path)])
    assert (ended.value.code, capsys.readouterr().err) == (2, "No streams to replay\n")
