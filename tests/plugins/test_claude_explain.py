"""`retrainer explain` on `claude_api`: it finds what a stream depends on, and never spends more than it may."""

from __future__ import annotations

import contextlib
import json
import random
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, get_args

import pandas as pd
import pytest

from retrainer.algorithms.budget import Budget
from retrainer.algorithms.model import TrainedModel
from retrainer.errors import AlgorithmError, CostLimitReached
from retrainer.evaluation.ablation import leave_out_parts
from retrainer.evaluation.windows import Window, held_out_window
from tests import claude_server
from tests.claude_batches import Operation
from tests.claude_server import KEY, ClaudeServer, Received

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.evaluation.explanation import Explanation
    from tests.command_line import Runner

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
TRAINING, POSTS = 80, 12
PARTS = ("examples", "last_posts", "moment", "style", "all")
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
UNINFORMED = "?"
PRICED: dict[str, Any] = {"input": 1.0, "output": 5.0, "cache_write": 1.25, "cache_read": 0.1, "as_of": "2026-01-01"}
EXPENSIVE = {"prices": {"claude-haiku-5-5": PRICED}}


class Writer(ClaudeServer):
    """A server that writes its answers with a function of the request."""

    def __init__(self, write: Callable[[Received], str]) -> None:
        super().__init__()
        self._write = write

    def _message(self, request: Received, number: int) -> dict[str, Any]:
        text = {"type": "text", "text": json.dumps(self._write(request)), "citations": None}
        return super()._message(request, number) | {"content": [text]}


# --- streams whose posts depend on one part, and writers that know how ----------------------------


def counting(row: int) -> str:
    """The post names the number after that of the post before."""
    return f"{NUMBERS[row % 7]} {NUMBERS[row % 7]} times {NUMBERS[row % 7]}"


def continue_counting(request: Received) -> str:
    posts = re.findall(r'UTC: "(.*)"$', request.texts[-1], re.MULTILINE)
    return counting(NUMBERS.index(posts[-1].split()[0]) + 1) if posts else UNINFORMED


def greeting(row: int) -> str:
    """The post names the day of the week."""
    day = (START + timedelta(hours=25 * row)).strftime("%A")
    return f"Hello {day}, a {'very ' * DAYS.index(day)}good {day} to you all"


def greet(request: Received) -> str:
    found = re.search(r"The post of (\w+day)", request.texts[-1])
    if found is None:
        return UNINFORMED
    return f"Hello {found[1]}, a {'very ' * DAYS.index(found[1])}good {found[1]} to you all"


def motto(_row: int) -> str:
    return "The same procedure as every year, James"


def repeat_an_example(request: Received) -> str:
    turns = [turn["content"][0]["text"] for turn in request.body["messages"] if turn["role"] == "assistant"]
    return str(json.loads(turns[0])) if turns else UNINFORMED


def line(_row: int) -> str:
    return "x" * 42


def keep_to_the_median(request: Received) -> str:
    found = re.search(r"median is (\d+)", request.texts[0])
    return "y" * int(found[1]) if found else UNINFORMED


STREAMS: dict[str, tuple[Callable[[int], str], Callable[[Received], str]]] = {
    "last_posts": (counting, continue_counting),
    "moment": (greeting, greet),
    "examples": (motto, repeat_an_example),
    "style": (line, keep_to_the_median),
}


def make_posts(write: Callable[[int], str]) -> pd.DataFrame:
    times = [START + timedelta(hours=25 * row) for row in range(120)]
    return pd.DataFrame(
        {
            "post_id": [f"{row:06d}" for row in range(120)],
            "created_at": pd.to_datetime(times, utc=True).as_unit("us"),
            "content": pd.Series([write(row) for row in range(120)], dtype="str"),
        }
    )


def window_of(posts: pd.DataFrame) -> Window:
    last = posts.iloc[TRAINING - 1]
    window = held_out_window(posts, (last["created_at"].to_pydatetime(), last["post_id"]), POSTS)
    assert window is not None
    return window


def explain(claude: LoadedAlgorithm, posts: pd.DataFrame, budget: Budget | None = None, **given: Any) -> Explanation:
    options = claude.options({"examples": 4, **given}, "content")
    trained = claude.train(posts[:TRAINING], options, "content")
    model = TrainedModel(claude, options, trained, "content")
    parts = claude.context_parts(trained, options, "content")
    return leave_out_parts(model, posts, window_of(posts), parts, budget or Budget())


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[ClaudeServer], ClaudeServer]]:
    """Start a server and let the SDK of this process use it."""
    running: list[ClaudeServer] = []

    def start(server: ClaudeServer) -> ClaudeServer:
        running.append(server.__enter__())
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        return server

    yield start
    for server in running:
        server.__exit__(None, None, None)


# --- what it finds --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("part", STREAMS)
def test_the_part_that_a_stream_depends_on_is_found_and_no_other(
    part: str, claude: LoadedAlgorithm, connect: Callable[[ClaudeServer], ClaudeServer]
) -> None:
    write_post, write_answer = STREAMS[part]
    server = connect(Writer(write_answer))
    found = explain(claude, make_posts(write_post))
    assert tuple(one.name for one in found.parts) == PARTS
    assert found.metrics["overall_score"] == pytest.approx(1 if part != "style" else 0.5)
    assert len(server.requests) == POSTS * (1 + len(PARTS))
    for one in found.parts:
        assert one.worth is not None
        score, lift = one.worth["overall_score"], one.worth["lift"]
        assert score.interval is not None
        if one.name in {part, "all"}:
            assert score.interval[0] > 0.2
            assert lift.value > 0.2 or part in {"examples", "style"}  # where all posts are the same, lift is 0
        else:
            assert (score.value, score.interval, lift.value) == (0, (0, 0), 0)


@pytest.mark.slow
def test_two_parts_that_stand_in_for_each_other_are_worth_something_together(
    claude: LoadedAlgorithm, connect: Callable[[ClaudeServer], ClaudeServer]
) -> None:
    """The motto is among the examples and among the last posts."""

    def know_the_motto(request: Received) -> str:
        return motto(0) if motto(0) in request.prompt else UNINFORMED

    connect(Writer(know_the_motto))
    worth = {
        one.name: one.worth["overall_score"].value for one in explain(claude, make_posts(motto)).parts if one.worth
    }
    assert worth["examples"] == worth["last_posts"] == 0
    assert worth["all"] > 0.5


def test_a_part_that_the_model_does_not_have_is_not_measured(
    claude: LoadedAlgorithm, connect: Callable[[ClaudeServer], ClaudeServer]
) -> None:
    server = connect(Writer(greet))
    found = explain(claude, make_posts(greeting), examples=0, recent_posts=0)
    assert [one.name for one in found.parts] == ["moment", "style", "all"]
    assert len(server.requests) == POSTS * 4


@pytest.mark.slow
@pytest.mark.parametrize("given", [{"batch": True}, {"samples": 3}, {"samples": 2, "batch": True}], ids=str)
def test_batches_and_samples_find_the_same(
    given: dict[str, Any], claude: LoadedAlgorithm, connect: Callable[[ClaudeServer], ClaudeServer]
) -> None:
    connect(Writer(continue_counting))
    found = explain(claude, make_posts(counting), **given)
    worth = {one.name: one.worth["overall_score"].value for one in found.parts if one.worth}
    assert worth.pop("last_posts") == worth.pop("all") > 0.9
    assert worth == {"examples": 0, "moment": 0, "style": 0}


def test_left_out_parts_are_not_in_the_request(
    claude: LoadedAlgorithm, connect: Callable[[ClaudeServer], ClaudeServer]
) -> None:
    server = connect(Writer(greet))
    explain(claude, make_posts(greeting))
    variants = [server.requests[start * POSTS : (start + 1) * POSTS] for start in range(len(PARTS) + 1)]
    seen = {
        "examples": ["assistant" in {turn["role"] for turn in one[0].body["messages"]} for one in variants],
        "last_posts": ["The latest posts" in one[0].texts[-1] for one in variants],
        "moment": ["The post of" in one[0].texts[-1] for one in variants],
        "style": ["median" in one[0].texts[0] for one in variants],
    }
    for number, name in enumerate(PARTS[:-1]):
        assert seen[name] == [variant not in {number + 1, len(PARTS)} for variant in range(len(PARTS) + 1)]
    assert "characters" not in variants[4][0].texts[0]  # of the length of posts
    assert "JSON string" in variants[4][0].texts[0]


# --- what it costs --------------------------------------------------------------------------------


def true_cost(server: ClaudeServer) -> float:
    """Return what the server would charge for all messages that it wrote, whether they arrived or not."""
    return cost_of(server.usages)


def cost_of(usages: list[dict[str, Any]]) -> float:
    names = {"input_tokens": "input", "output_tokens": "output"}
    names |= {"cache_creation_input_tokens": "cache_write", "cache_read_input_tokens": "cache_read"}
    total: float = sum(usage[name] * float(PRICED[price]) for usage in usages for name, price in names.items())
    return total / 1e6


FAULTS = (
    claude_server.rate_limited,
    claude_server.overloaded,
    claude_server.server_error,
    claude_server.cut_short,
    claude_server.malformed,
    claude_server.web_page,
    claude_server.refusal,
    claude_server.truncated,
    claude_server.empty,
)


@pytest.mark.parametrize(
    "seed",
    [
        0,
        1,
        *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 7)),
        *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(7, 50)),
    ],
)
def test_it_never_spends_more_than_the_limit_whatever_fails(
    seed: int, claude: LoadedAlgorithm, connect: Callable[[ClaudeServer], ClaudeServer]
) -> None:
    generator = random.Random(seed)  # noqa: S311  reproducible faults
    limit = generator.uniform(0.03, 0.2)
    server = connect(Writer(greet))
    server.enqueue(
        *(generator.choice(FAULTS)() if generator.random() < 0.3 else claude_server.Reply() for _ in range(200))
    )
    budget = Budget(limit_usd=limit)
    with contextlib.suppress(CostLimitReached, AlgorithmError):
        found = explain(claude, make_posts(greeting), budget, **EXPENSIVE, concurrency=4)
        assert all(one.worth or one.problem for one in found.parts)
        assert found.problem == budget.exceeded
    assert 0 < true_cost(server) <= budget.cost_usd + 1e-9
    assert budget.cost_usd <= limit
    assert budget.reserved_usd == pytest.approx(0)


@pytest.mark.parametrize(
    "seed",
    [
        0,
        *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6)),
        *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(6, 50)),
    ],
)
def test_batches_never_spend_more_than_the_limit_whatever_fails(
    seed: int, claude: LoadedAlgorithm, connect: Callable[[ClaudeServer], ClaudeServer]
) -> None:
    generator = random.Random(seed)  # noqa: S311  reproducible faults
    limit = generator.uniform(0.03, 0.2)
    server = connect(Writer(greet))
    for number in range(2 * POSTS):
        if generator.random() < 0.3:
            server.batches.end(number, generator.choice(("errored", "canceled", "expired")))
    for operation in generator.choices(get_args(Operation), k=6):
        if generator.random() < 0.5:
            server.batches.fail(operation, generator.choice(FAULTS[:6])())
        else:  # by an error that does not say that nothing was done
            server.batches.lose(operation, generator.choice(FAULTS[2:6])())
    budget = Budget(limit_usd=limit)
    options = {"batch": True, "batch_poll_seconds": 0.01, "samples": generator.choice((1, 2)), **EXPENSIVE}
    with contextlib.suppress(CostLimitReached, AlgorithmError):
        explain(claude, make_posts(greeting), budget, **options)
    lines = [line["result"] for batch in server.batches.created for line in batch.results]
    half_price = [line["message"]["usage"] for line in lines if line["type"] == "succeeded"]
    assert true_cost(server) - cost_of(half_price) / 2 <= budget.cost_usd + budget.reserved_usd + 1e-9
    assert budget.cost_usd + budget.reserved_usd <= limit + 1e-9


def test_parts_measured_before_the_limit_are_kept(
    claude: LoadedAlgorithm, connect: Callable[[ClaudeServer], ClaudeServer]
) -> None:
    server = connect(Writer(greet))
    budget = Budget(limit_usd=0.03)
    found = explain(claude, make_posts(greeting), budget, **EXPENSIVE, concurrency=1)
    assert "(--max-cost)" in found.problem
    measured = [one.name for one in found.parts if one.worth]
    assert 0 < len(measured) < len(PARTS)
    assert measured == list(PARTS[: len(measured)])
    assert true_cost(server) <= budget.cost_usd + 1e-9 <= 0.03
    assert len(server.requests) < POSTS * (1 + len(PARTS))


def test_a_limit_that_does_not_suffice_for_anything_is_an_error(
    claude: LoadedAlgorithm, connect: Callable[[ClaudeServer], ClaudeServer]
) -> None:
    server = connect(Writer(greet))
    with pytest.raises(CostLimitReached, match="nothing was measured: .*max-cost"):
        explain(claude, make_posts(greeting), Budget(limit_usd=0.001), **EXPENSIVE)
    assert server.requests == []


@pytest.mark.slow
def test_a_part_that_fails_does_not_stop_the_others(
    claude: LoadedAlgorithm, connect: Callable[[ClaudeServer], ClaudeServer]
) -> None:
    server = connect(Writer(greet))
    server.reply_to("The next post:", claude_server.server_error())  # without the moment, alone and with all
    found = explain(claude, make_posts(greeting), max_retries=0)
    problems = {one.name: one.problem for one in found.parts}
    assert "12 of 12 forecasts failed" in problems.pop("moment")
    assert "12 of 12 forecasts failed" in problems.pop("all")
    assert set(problems.values()) == {""}
    assert found.problem == ""


@pytest.mark.slow
def test_refusals_without_a_part_are_not_scored(
    claude: LoadedAlgorithm, connect: Callable[[ClaudeServer], ClaudeServer]
) -> None:
    """Two of the posts are refused when the moment is missing, and are left out on both sides."""
    refused = make_posts(counting)["content"].iloc[window_of(make_posts(counting)).rows[[3, 5]] - 1]
    server = connect(Writer(continue_counting))
    for text in set(refused):
        server.reply_to(f'"{text}"\n\nThe next post:', claude_server.refusal())
    parts = {one.name: one for one in explain(claude, make_posts(counting), recent_posts=1).parts}
    assert parts["examples"].num_predictions == POSTS
    assert 0 < POSTS - parts["moment"].num_predictions <= 6
    assert parts["moment"].worth is not None
    assert parts["moment"].worth["overall_score"].value == 0


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def environ(connect: Callable[[ClaudeServer], ClaudeServer]) -> dict[str, str]:
    return {**connect(Writer(greet)).environ, "RETRAINER_CONTENT_MODEL__ALGORITHM": "claude_api"}


@pytest.fixture
def greetings(folder: Path, retrainer: Runner, environ: dict[str, str]) -> str:
    """A project whose content version depends on the moment."""
    make_posts(greeting).to_csv(folder / "posts.csv", index=False)
    assert retrainer("posts", "import", "posts.csv").code == 0
    (run,) = retrainer("train", "content", "--json", env=environ).json["training_runs"]
    return str(run["model_version_id"])


@pytest.mark.slow
def test_the_explanation_is_kept_with_the_version(greetings: str, environ: dict[str, str], retrainer: Runner) -> None:
    asked = ("explain", "content@production", "--posts", "8")
    done = retrainer(*asked, env=environ)
    assert done.code == 2
    assert "forecasts of 'claude_api' cost money: this explanation may cost up to about $" in done.err
    assert "(48 calls)" in done.err
    made = retrainer(*asked, "--max-cost", "1", "--json", env=environ)
    assert made.code == 0, made.err
    document = made.json
    assert document["version_id"] == greetings
    assert document["num_predictions"] == 8
    assert 0 < document["cost_usd"] < 1
    kept = retrainer("show", greetings, "--json", env=environ).json["explanation"]
    assert kept == {name: value for name, value in document.items() if name != "importance"}
    worth = {part["name"]: part["worth"]["overall_score"] for part in kept["parts"]}
    assert worth["moment"]["interval"][0] > 0.2
    assert [worth[name]["value"] for name in ("examples", "last_posts", "style")] == [0, 0, 0]
    shown = retrainer("show", greetings, env=environ).out
    assert re.search(r"the moment +\+0\.\d+ +\+0\.\d+ to \+0\.\d+", shown)
    assert re.search(r"the examples +\+0\.000 +\+0\.000 to \+0\.000", shown)


@pytest.mark.slow
def test_what_was_paid_for_is_not_paid_for_again_after_the_limit(
    greetings: str, environ: dict[str, str], retrainer: Runner
) -> None:
    environ["RETRAINER_CONTENT_MODEL__CLAUDE_API__PRICES"] = json.dumps(EXPENSIVE["prices"])
    environ["RETRAINER_CONTENT_MODEL__CLAUDE_API__CONCURRENCY"] = "1"
    short = retrainer("explain", greetings, "--posts", "8", "--max-cost", "0.03", "--json", env=environ)
    assert short.code == 1
    assert "(--max-cost)" in short.json["problem"]
    measured = [part for part in short.json["parts"] if part["worth"]]
    assert 0 < len(measured) < len(PARTS)
    assert "Incomplete: " in retrainer("show", greetings, env=environ).out
    rest = retrainer("explain", greetings, "--posts", "8", "--max-cost", "0.5", "--json", env=environ)
    assert rest.code == 0, rest.err
    whole_parts = [part for part in measured if part["num_predictions"] == 8]  # the limit may come within one
    assert rest.json["parts"][: len(whole_parts)] == whole_parts
    whole = retrainer("explain", greetings, "--posts", "8", "--max-cost", "0.5", "--json", env=environ)
    assert short.json["cost_usd"] + rest.json["cost_usd"] == pytest.approx(whole.json["cost_usd"], rel=0.2)


def test_an_explanation_of_a_rejected_key_names_it_and_records_nothing(
    greetings: str, environ: dict[str, str], retrainer: Runner, connect: Callable[[ClaudeServer], ClaudeServer]
) -> None:
    server = connect(ClaudeServer())
    server.reply_to("", claude_server.authentication_error())
    done = retrainer("explain", greetings, "--max-cost", "1", env={**environ, "ANTHROPIC_BASE_URL": server.url})
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("Error: ")
    assert retrainer("show", greetings, "--json", env=environ).json["explanation"] is None
