"""The page of a run: its steps with times, its log, its decision and the evidence."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retrainer.model_types import get_model_type
from retrainer.registry.liveness import is_gone
from retrainer.web.rendering import Page, name_stream
from retrainer.web.run_log import RunLog, read_run_log
from retrainer.web.specs import page
from retrainer.web.views.run_steps import RunRecord, Step, trace_steps
from retrainer.web.views.scores import MetricTable, metric_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from retrainer.project import Project
    from retrainer.registry.tables import LedgerEntry, TrainingRun
    from retrainer.web.site import Site, Visit

_MAX_ARCHIVED = 200  # entries of the ledger that are looked through


@dataclass(frozen=True)
class Evidence:
    """The figures behind a decision, as the ledger has them.

    Attributes:
        metrics: of the new version, production and the naive forecast on the same posts.
        figures: the interval and the probability, by their keys; None if there were too few posts.
        differences: the situations in which the two differ most.
        window: the posts that were forecast.
    """

    metrics: MetricTable
    figures: Mapping[str, Any] | None
    differences: Sequence[Mapping[str, Any]]
    window: Mapping[str, Any] | None


@dataclass(frozen=True)
class RunView:
    """What the page shows.

    Attributes:
        run: the run, closed if its process is dead.
        steps: the seven steps.
        log: as far as it was found.
        is_followed: whether the page follows it: it goes on, or its process may still write to its log.
        decision: the entry of the ledger that the run ended with.
        evidence: None if nothing was compared.
    """

    run: TrainingRun
    steps: list[Step]
    log: RunLog | None
    is_followed: bool
    decision: LedgerEntry | None
    evidence: Evidence | None

    @property
    def is_running(self) -> bool:
        """Whether it goes on."""
        return self.run.status == "running"


def run(visit: Visit) -> Page:
    """Return the page of the run that the address names."""
    view = find_run(visit.site, visit.path["run_id"], visit.stream, visit.now)
    elapsed = max((visit.now - view.run.started_at).total_seconds(), 0.0)
    values = {"view": view, "state": describe_state(view), "elapsed": elapsed}
    stream = name_stream(visit, view.run.stream)
    return Page("run.html", f"Run {view.run.run_id}", values, "/runs", stream)


def find_run(site: Site, name: str, stream: str | None, now: datetime) -> RunView:
    """Return what is recorded of a run, and its log.

    Args:
        name: its id, or a unique part of it.
        stream: the stream that it must be of; None for any.

    Raises:
        UnknownName: there is no such run.
    """
    found = site.streams.find_run(name, stream)
    project = site.project.for_stream(found.stream)
    record = load_record(project, found)
    # Asked before the log is read, so that no line is missed. The server, which recorded a run that it could not start,
    # writes nothing to it.
    may_write = found.pid != os.getpid() and is_gone(found.process) is False
    log = read_run_log(project.folder, site.runs.log_folder, found)
    is_followed = found.status == "running" or (log is not None and log.is_own and may_write)
    evidence = _read_evidence(found, record.decision)
    return RunView(found, trace_steps(record, now), log, is_followed, record.decision, evidence)


def load_record(project: Project, run: TrainingRun) -> RunRecord:
    """Return what the registry has of a run, from which its steps follow."""
    registry = project.registry
    if run.model_version_id is None:
        return RunRecord(run, None, [], None)
    version = registry.get_version(run.model_version_id)
    entries = [entry for entry in registry.version_history(version.version_id) if entry.run_id == run.run_id]
    decision = entries[-1] if entries else None
    evaluations = registry.list_evaluations_of_run(run.run_id)
    archived = _find_archived(project, run, decision) if decision is not None else []
    return RunRecord(run, version, evaluations, decision, archived)


def _find_archived(project: Project, run: TrainingRun, decision: LedgerEntry) -> list[str]:
    """Return the versions archived after a decision and before the next one of this model."""
    entries = project.registry.list_ledger_entries(
        run.model_type_name, ("promotion", "rejection", "rollback", "archive"), _MAX_ARCHIVED
    )
    later = sorted((entry for entry in entries if entry.entry_id > decision.entry_id), key=lambda one: one.entry_id)
    archived: list[str] = []
    for entry in later:
        if entry.action != "archive":
            break
        if entry.automatic and entry.version_id is not None:
            archived.append(entry.version_id)
    return archived


def _read_evidence(run: TrainingRun, decision: LedgerEntry | None) -> Evidence | None:
    found: dict[str, Any] = decision.evidence if decision is not None else {}
    if not found.get("metrics_b"):
        return None
    model_type = get_model_type(run.model_type_name)
    sides = {"new": found["metrics_b"], "production": found["metrics_a"], "naive": found["baseline_metrics"]}
    table = metric_table(model_type, sides)
    return Evidence(table, found.get("evidence"), found.get("differences") or [], found.get("window"))


def describe_state(view: RunView) -> str:
    """Return how a run stands, in a sentence."""
    run = view.run
    if run.status == "failed":
        return "The run failed."
    if run.status == "completed":
        return "Its version was promoted." if run.promoted_to_production else "Its version was not promoted."
    step = next((step for step in view.steps if step.state == "running"), None)
    return "Running." if step is None else f"Running step {step.number} of 7: {step.name.lower()}."


ROUTES = [page("/run/{run_id}", run, about="project", work="look", cached="briefly")]
