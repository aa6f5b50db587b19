"""A policy on its way through the past: its plan, its room, and what is done of it."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from retrainer import __version__
from retrainer.pipeline.loading import load_configured_algorithm
from retrainer.registry.artifacts import remove
from retrainer.registry.runs import RunFilter
from retrainer.replay.fingerprint import fingerprint
from retrainer.replay.sandbox import open_sandbox
from retrainer.replay.step import StepResult, decide, review_step

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from retrainer.model_types import ModelTypeName
    from retrainer.replay.cached_algorithm import Memory
    from retrainer.replay.plan import Step
    from retrainer.replay.policies import Policy
    from retrainer.replay.sandbox import PostHistory, SandboxProject

KEY_FILE = "policy.sha256"


@dataclass
class PolicyRun:
    """A policy on its way.

    Attributes:
        policy: the policy.
        steps: its plan.
        room: the project in which it lives.
        key: the hash of all that its steps depend on but the posts.
        records: the steps that are done, the first of the plan.
        decided: the record of the step after these where it was interrupted after its decision; else None.
    """

    policy: Policy
    steps: list[Step]
    room: SandboxProject
    key: str
    records: list[StepResult] = field(default_factory=list)
    decided: StepResult | None = None

    @classmethod
    def of(
        cls, policy: Policy, steps: list[Step], model_type: ModelTypeName, past: PostHistory, folder: Path
    ) -> PolicyRun:
        """Return the track of a policy, whose room is a folder of its name."""
        key = _key(policy, steps[0], model_type)
        return cls(policy, steps, open_sandbox(folder / policy.name, policy.settings, past), key)

    def take(self, number: int, model_type: ModelTypeName, memory: Memory) -> StepResult:
        """Take the next step, and keep what was decided, and then what became of it."""
        step = self.steps[number]
        decided, self.decided = self.decided, None
        if decided is None:
            decided = decide(self.room, self.policy, model_type, step, memory)
            memory.work.note_decided(self.key, number, decided.document())
        record = review_step(self.room, model_type, step, decided)
        memory.work.add_step(self.key, number, record.document())
        self.records.append(record)
        return record

    def recall(self, memory: Memory, model_type: ModelTypeName) -> None:
        """Take over the steps that are kept, if they are the first of this plan on the same posts; else begin anew.

        What an interrupted run had recorded is forgotten; where a step was interrupted after its decision, that is
        taken over. Where one of the steps failed, all begin anew: it is tried again, and what did not fail is not made
        again.
        """
        done = [StepResult.of(document) for document in memory.work.steps(self.key)]
        pending = memory.work.decided(self.key, len(done))
        decided = None if pending is None else StepResult.of(pending)
        records = done if decided is None else [*done, decided]
        past = memory.past
        plan = [
            (step.at, step.until, past.digest(past.count(step.review_until))) for step in self.steps[: len(records)]
        ]
        same = bool(records) and plan == [(record.at, record.until, record.digest) for record in records]
        if same and not any(record.failed for record in records) and self._agrees(records[-1]):
            self.records, self.decided = done, decided
            self._tidy(model_type)
            return
        memory.work.forget_steps(self.key)
        self.room.close()
        folder = self.room.folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / KEY_FILE).write_text(self.key)
        self.room = open_sandbox(folder, self.policy.settings, past)

    def _tidy(self, model_type: ModelTypeName) -> None:
        """Forget runs that were interrupted, with the files that they left; nobody else uses the room."""
        self.room.registry.forget_unfinished_runs()
        artifacts = self.room.artifacts
        for folder in artifacts.unregistered_folders(model_type):
            remove(folder)
        for version in self.room.registry.list_versions(model_type):
            for path in artifacts.stray_files(version):
                remove(path)

    def _agrees(self, last: StepResult) -> bool:
        """Whether the room is where the records end: a kill may have fallen between the two."""
        marker = self.room.folder / KEY_FILE
        if not marker.is_file() or marker.read_text() != self.key:
            return False
        registry = self.room.registry
        live = [version.version_id for version in registry.list_versions(status="active")]
        later = registry.list_runs(limit=1, run_filter=RunFilter(since=last.until, status="completed"))
        return not later and live == ([last.live] if last.live else [])


def _key(policy: Policy, first: Step, model_type: ModelTypeName) -> str:
    algorithm, options = load_configured_algorithm(policy.settings, model_type, policy.algorithm)
    facts = {
        "name": policy.name,  # two policies may be the same but for it
        "retrainer": __version__,
        "model_type": model_type,
        "start": first.at.isoformat(),
        "algorithm": [algorithm.name, algorithm.distribution, algorithm.version, fingerprint(algorithm)],
        "options": options.model_dump(mode="json"),
        "retraining": policy.settings.retraining.model_dump(mode="json"),
        "retrains": policy.retrains,
        "promotes_all": policy.promotes_all,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def chronological_order(tracks: Sequence[PolicyRun]) -> list[tuple[PolicyRun, int]]:
    """Return each track with the number of a step, all steps of all tracks in the order of time."""
    every = [(step.at, place, number) for place, track in enumerate(tracks) for number, step in enumerate(track.steps)]
    return [(tracks[place], number) for _, place, number in sorted(every)]
