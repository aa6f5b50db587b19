"""Observers hear of runs, and can change nothing."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from retrainer.algorithms import hookimpl
from retrainer.algorithms.events import Event, EventBus, Observer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Runner
    from tests.plugins_for_tests import Plugins


@pytest.mark.usefixtures("with_posts")
def test_an_observer_hears_of_runs_and_may_wrap_and_one_that_fails_changes_nothing(
    retrainer: Runner, plugins: Plugins, folder: Path, tmp_path: Path
) -> None:
    heard = tmp_path / "heard.jsonl"
    code = f"""
    import json

    def note(what):
        with open({str(heard)!r}, "a") as file:
            file.write(json.dumps(what) + "\\n")

    @hookimpl(wrapper=True)
    def train(posts, model_type):
        note({{"kind": "wrapped", "posts": len(posts)}})
        return (yield)

    @hookimpl
    def on_event(event):
        note(event)
    """
    plugins.add_observer("listener", code)
    plugins.add_observer("deaf", "raise RuntimeError('no ears')")
    failing = "@hookimpl\ndef on_event(event):\n    raise ValueError('no')\n"
    plugins.add_observer("failing", failing)
    done = retrainer("train", "timing", env=plugins.environ)
    assert done.code == 0
    assert "WARNING: Observer 'failing' failed: ValueError: no" in done.err
    events = [json.loads(line) for line in heard.read_text().splitlines()]
    kinds = [event["kind"] for event in events]
    assert kinds.count("wrapped") == 2, "training of the candidate and of the naive reference"
    assert [kind for kind in kinds if kind != "wrapped"] == ["promotion", "run", "stale_posts"]
    (run_event,) = (event for event in events if event["kind"] == "run")
    assert "First timing model" in run_event["reason"]
    run = run_event["run"]
    assert run["promoted_to_production"]
    assert run["run_id"] == retrainer("history", "--json").json["training_runs"][0]["run_id"]


@pytest.mark.usefixtures("with_posts")
def test_an_observer_cannot_answer_in_an_algorithms_place_nor_block_it(retrainer: Runner, plugins: Plugins) -> None:
    usurper = "@hookimpl\ndef train(posts):\n    return {'usurped': 1}\n"
    plugins.add_observer("usurper", usurper)
    misfit = "@hookimpl\ndef on_event(what):\n    pass\n"
    plugins.add_observer("misfit", misfit)
    plugins.add_observer("quitter", "import sys\nsys.exit(7)\n")
    plugins.add_observer("bare", "raise BaseException\n")
    plugins.add_observer("bare_too", "@hookimpl\ndef on_event(event):\n    raise GeneratorExit\n")
    done = retrainer("train", "timing", "--json", env=plugins.environ)
    assert done.code == 0
    assert done.json["training_runs"][0]["promoted_to_production"]
    for name in ("usurper", "misfit", "quitter", "bare", "bare_too"):
        assert f"observer '{name}'" in done.err.lower()
    assert retrainer("predict", "timing", env=plugins.environ).code == 0


def test_an_observer_cannot_falsify_what_another_hears() -> None:
    heard = []

    @hookimpl
    def falsify(event: dict[str, Any]) -> None:
        event["kind"] = "promotion"
        event["run"]["status"] = "completed"

    @hookimpl
    def listen(event: dict[str, Any]) -> None:
        heard.append(event)

    document = {"kind": "failure", "run": {"status": "failed"}}
    plugins = [SimpleNamespace(on_event=falsify), SimpleNamespace(on_event=listen)]
    events = EventBus(lambda _: document, [Observer(f"observer {id(plugin)}", plugin) for plugin in plugins])
    events.publish(Event("failure", None, None, "no posts"))
    assert heard == [document] == [{"kind": "failure", "run": {"status": "failed"}}]


UNFIT_OBSERVERS = {
    "usurper": ("@hookimpl\ndef train(posts):\n    return {}\n", "its hook train is not a wrapper"),
    "misspelled": ("@hookimpl\ndef on_evnt(event):\n    pass\n", "unknown hook 'on_evnt'. Did you mean 'on_event'?"),
    "misfit": ("@hookimpl\ndef on_event(what):\n    pass\n", "Argument(s) {'what'} are declared"),
    "unmarked": ("def on_event(event):\n    pass\n", "it has no hooks. Mark its functions"),
    "unimportable": ("import there_is_no_such_module\n", "ModuleNotFoundError"),
}


def test_an_observer_that_cannot_be_used_is_listed_and_told_of_once(
    retrainer: Runner, plugins: Plugins, folder: Path
) -> None:
    for name, (code, _) in UNFIT_OBSERVERS.items():
        plugins.add_observer(name, code)
    fit = "@hookimpl\ndef on_event(event):\n    pass\n"
    plugins.add_observer("fit", fit)
    listed = retrainer("plugins", "--json", env=plugins.environ)
    observers = {one["name"]: one for one in listed.json if one["kind"] == "observer"}
    assert observers.keys() == {*UNFIT_OBSERVERS, "fit"}
    assert observers["fit"]["status"] == "ok"
    assert observers["fit"]["hooks"] == ["on_event"]
    for name, (_, problem) in UNFIT_OBSERVERS.items():
        assert observers[name]["status"] == "broken"
        assert problem in observers[name]["problem"]
        assert listed.err.lower().count(f"the observer '{name}'") == 1
    assert len(listed.err.splitlines()) == len(UNFIT_OBSERVERS)
