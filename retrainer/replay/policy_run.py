"""The replay of one policy: its plan, its sandbox, and the results of its steps."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from retrainer.registry.runs import RunFilter
from retrainer.replay.sandbox import KEY_FILE, delete_sandbox, open_sandbox
from retrainer.replay.step import StepResult, decide, review_step

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from retrainer.model_types import ModelTypeName
    from retrainer.replay.cached_algorithm import AlgorithmCache
    from retrainer.replay.plan import Step
    from retrainer.replay.policies import Policy
    from retrainer.replay.sandbox import SandboxProject
    from retrainer.runtime import Runtime


@dataclass
class PolicyRun:
    """The replay of one policy.

    Attributes:
        policy: the policy.
        model_type: the model type.
        steps: the plan.
        sandbox: the project of its own.
        runtime: the runtime of its runs.
        cache: the cached algorithms of these runs.
        key: the hash of everything that its steps depend on, except the posts.
        results: the results of the completed steps, the first of the plan.
        decision: the decision of the next step, if it was interrupted after its decision; else None.
    """

    policy: Policy
    model_type: ModelTypeName
    steps: list[Step]
    sandbox: SandboxProject
    runtime: Runtime
    cache: AlgorithmCache
    key: str
    results: list[StepResult] = field(default_factory=list)
    decision: StepResult | None = None

    @classmethod
    def create(
        cls, policy: Policy, steps: list[Step], model_type: ModelTypeName, cache: AlgorithmCache, folder: Path
    ) -> PolicyRun:
        """Return the replay of a policy, whose sandbox is a subfolder named after it."""
        key = _key(policy, cache, steps[0], model_type)
        sandbox = open_sandbox(folder / policy.name, policy.settings, cache.history)
        runtime = replace(cache.runtime(), answers_dir=sandbox.answers_dir)
        return cls(policy, model_type, steps, sandbox, runtime, cache, key)

    @property
    def paid(self) -> bool:
        """Whether the forecasts of its versions cost money."""
        return self.cache(self.policy.algorithm, self.model_type).description.paid

    @property
    def can_warm_start(self) -> bool:
        """Whether a new version may depend on which one is in production."""
        return self.cache(self.policy.algorithm, self.model_type).can_warm_start

    def take_step(self, number: int) -> StepResult:
        """Take the next step, recording its decision and then its result."""
        step = self.steps[number]
        decision, self.decision = self.decision, None
        if decision is None:
            tuning = self.policy.tuning
            decision = decide(
                self.sandbox,
                self.runtime,
                self.policy,
                self.model_type,
                step,
                self.cache,
                tunes=tuning is not None and number % tuning.every == 0,
                tuned_options=self.results[-1].tuned_options if self.results else None,
            )
            self.cache.store.record_step(self.key, number, decision.document())
        result = review_step(self.sandbox, self.runtime, self.model_type, step, decision)
        self.cache.store.record_step(self.key, number, result.document())
        self.results.append(result)
        return result

    def restore(self) -> None:
        """Restore the recorded steps if they are the first of this plan on the same posts; else start over.

        Interrupted runs are deleted; a step that was interrupted after its decision keeps it. If one of the steps has
        failed all are repeated: this tries it again, and the others are cached.
        """
        store, history = self.cache.store, self.cache.history
        recorded = [StepResult.from_document(document) for document in store.steps(self.key)]
        plan = [
            (step.at, step.until, history.digest(history.count(step.review_until)))
            for step in self.steps[: len(recorded)]
        ]
        same = bool(recorded) and plan == [(result.at, result.until, result.digest) for result in recorded]
        if same and not any(result.failed for result in recorded) and self._sandbox_agrees(recorded[-1]):
            self.decision = None if recorded[-1].complete else recorded.pop()
            self.results = recorded
            self._delete_unfinished()
            return
        store.delete_steps(self.key)
        self.sandbox.close()
        folder = self.sandbox.folder
        delete_sandbox(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / KEY_FILE).write_text(self.key)
        self.sandbox = open_sandbox(folder, self.policy.settings, history)

    def _delete_unfinished(self) -> None:
        """Delete interrupted runs and their versions; nobody else uses the sandbox."""
        self.sandbox.artifacts.clear_abandoned()
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


def _key(policy: Policy, cache: AlgorithmCache, first: Step, model_type: ModelTypeName) -> str:
    algorithm = cache(policy.algorithm, model_type)
    options = algorithm.options(policy.settings.model(model_type).options(algorithm.name), model_type)
    facts = {
        "name": policy.name,  # two policies may differ in nothing else
        "start": first.at.isoformat(),
        "algorithm": algorithm.identity(options, model_type),
        "retraining": policy.settings.retraining.model_dump(mode="json"),
        "retrains": policy.retrains,
        "promotes_all": policy.promotes_all,
        **({} if policy.tuning is None else {"tuning": asdict(policy.tuning)}),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def chronological_order(runs: Sequence[PolicyRun]) -> list[tuple[PolicyRun, int]]:
    """Return all steps of all policies in the order of time, as pairs of policy run and step number."""
    steps = [(step.at, index, number) for index, run in enumerate(runs) for number, step in enumerate(run.steps)]
    return [(runs[index], number) for _, index, number in sorted(steps)]
