"""The replay of one policy: its plan, its sandbox, and the results of its steps."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from retrainer import __version__
from retrainer.pipeline.loading import load_configured_algorithm
from retrainer.pipeline.recovery import clear_abandoned
from retrainer.registry.runs import RunFilter
from retrainer.replay.fingerprint import fingerprint
from retrainer.replay.sandbox import open_sandbox
from retrainer.replay.step import StepResult, decide, review_step

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from retrainer.model_types import ModelTypeName
    from retrainer.replay.cached_algorithm import AlgorithmCache
    from retrainer.replay.plan import Step
    from retrainer.replay.policies import Policy
    from retrainer.replay.sandbox import PostHistory, SandboxProject
    from retrainer.runtime import Runtime

KEY_FILE = "policy.sha256"


@dataclass
class PolicyRun:
    """The replay of one policy.

    Attributes:
        policy: the policy.
        model_type: the model type.
        steps: the plan.
        sandbox: the project of its own.
        runtime: the runtime of its runs.
        key: the hash of everything that its steps depend on, except the posts.
        results: the results of the completed steps, the first of the plan.
        decision: the decision of the next step, if it was interrupted after its decision; else None.
    """

    policy: Policy
    model_type: ModelTypeName
    steps: list[Step]
    sandbox: SandboxProject
    runtime: Runtime
    key: str
    results: list[StepResult] = field(default_factory=list)
    decision: StepResult | None = None

    @classmethod
    def create(
        cls,
        policy: Policy,
        steps: list[Step],
        model_type: ModelTypeName,
        history: PostHistory,
        runtime: Runtime,
        folder: Path,
    ) -> PolicyRun:
        """Return the replay of a policy, whose sandbox is a subfolder named after it."""
        key = _key(policy, runtime, steps[0], model_type)
        sandbox = open_sandbox(folder / policy.name, policy.settings, history)
        return cls(policy, model_type, steps, sandbox, replace(runtime, answers_dir=sandbox.answers_dir), key)

    def take_step(self, number: int, cache: AlgorithmCache) -> StepResult:
        """Take the next step, recording its decision and then its result."""
        step = self.steps[number]
        decision, self.decision = self.decision, None
        if decision is None:
            decision = decide(self.sandbox, self.runtime, self.policy, self.model_type, step, cache)
            cache.store.record_decision(self.key, number, decision.document())
        result = review_step(self.sandbox, self.runtime, self.model_type, step, decision)
        cache.store.add_step(self.key, number, result.document())
        self.results.append(result)
        return result

    def restore(self, cache: AlgorithmCache) -> None:
        """Restore the recorded steps if they are the first of this plan on the same posts; else start over.

        Interrupted runs are deleted; a step that was interrupted after its decision keeps it. If one of the steps has
        failed all are repeated: this tries it again, and the others are cached.
        """
        completed = [StepResult.from_document(document) for document in cache.store.steps(self.key)]
        pending = cache.store.decision(self.key, len(completed))
        decision = None if pending is None else StepResult.from_document(pending)
        recorded = completed if decision is None else [*completed, decision]
        history = cache.history
        plan = [
            (step.at, step.until, history.digest(history.count(step.review_until)))
            for step in self.steps[: len(recorded)]
        ]
        same = bool(recorded) and plan == [(result.at, result.until, result.digest) for result in recorded]
        if same and not any(result.failed for result in recorded) and self._sandbox_agrees(recorded[-1]):
            self.results, self.decision = completed, decision
            self._delete_unfinished()
            return
        cache.store.delete_steps(self.key)
        self.sandbox.close()
        folder = self.sandbox.folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / KEY_FILE).write_text(self.key)
        self.sandbox = open_sandbox(folder, self.policy.settings, history)

    def _delete_unfinished(self) -> None:
        """Delete interrupted runs and their versions; nobody else uses the sandbox."""
        clear_abandoned(self.sandbox)
        registry = self.sandbox.registry
        for status in ("running", "failed"):
            for run in registry.list_runs(run_filter=RunFilter(status=status)):
                if run.model_version_id is not None:
                    self.sandbox.artifacts.remove_files(registry.get_version(run.model_version_id))
        registry.delete_unfinished_runs()

    def _sandbox_agrees(self, last: StepResult) -> bool:
        """Whether the sandbox is where the results end: a kill may have come in between."""
        marker = self.sandbox.folder / KEY_FILE
        if not marker.is_file() or marker.read_text() != self.key:
            return False
        registry = self.sandbox.registry
        active = [version.version_id for version in registry.list_versions(status="active")]
        later = registry.list_runs(limit=1, run_filter=RunFilter(since=last.until, status="completed"))
        return not later and active == ([last.live] if last.live else [])


def _key(policy: Policy, runtime: Runtime, first: Step, model_type: ModelTypeName) -> str:
    algorithm, options = load_configured_algorithm(policy.settings, runtime, model_type, policy.algorithm)
    facts = {
        "name": policy.name,  # two policies may differ in nothing else
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


def chronological_order(runs: Sequence[PolicyRun]) -> list[tuple[PolicyRun, int]]:
    """Return all steps of all policies in the order of time, as pairs of policy run and step number."""
    steps = [(step.at, index, number) for index, run in enumerate(runs) for number, step in enumerate(run.steps)]
    return [(runs[index], number) for _, index, number in sorted(steps)]
