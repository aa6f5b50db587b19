"""A replay from its first step to its last: all policies side by side, in the order of time."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from retrainer.algorithms.manager import set_apart
from retrainer.errors import CostLimitReached
from retrainer.replay import workdir as folders
from retrainer.replay.budget import require_max_cost
from retrainer.replay.cache import Work
from retrainer.replay.cached_algorithm import Memory, SpendingLimit
from retrainer.replay.plan import plan_steps, resolve_span
from retrainer.replay.policies import build_policies
from retrainer.replay.policy_run import PolicyRun, chronological_order
from retrainer.replay.prefetch import Place, prefetching
from retrainer.replay.results import Ending, report
from retrainer.replay.sandbox import read_history

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.replay.results import ReplayReport
    from retrainer.replay.step import StepResult

log = logging.getLogger(__name__)


class Progress(NamedTuple):
    """How far a replay is.

    Attributes:
        done, total: steps, of all policies.
        seconds_left: roughly.
    """

    done: int
    total: int
    seconds_left: float


def replay(
    project: Project,
    model_type: ModelTypeName,
    now: datetime,
    start: datetime,
    end: datetime | None = None,
    *,
    policies: Sequence[str] = (),
    workdir: Path | None = None,
    jobs: int = 1,
    resume: bool = False,
    max_cost: float | None = None,
    tell: Callable[[Progress], None] = lambda _: None,
) -> ReplayReport:
    """Replay a model type's past under several policies, without touching the project's database and models.

    Args:
        now: posts later than this are not read.
        start: the first step, UTC.
        end: no step is taken then or later, and no later post is looked at; None: the last post.
        policies: beside the three that every replay has; see `policies.build_policies`.
        workdir: where its registries and its work are kept; None: `.retrainer/replay` in the project folder.
        jobs: how many processes train ahead; 1: none but this.
        resume: go on from what an earlier replay in this folder left.
        max_cost: US dollars that paid forecasts may cost, those before a `resume` included; needed where there are any.
        tell: is told how far it is, after every step.

    Returns:
        What it came to; where it was interrupted or its money was spent, what is known so far.

    Raises:
        UsageError: a policy, the span, or the folder is wrong, or money is needed and `max_cost` is not given.
        InsufficientData: there are never enough posts.
        RunInProgress: another replay uses the folder.
        RetrainerError: nothing can go on.
    """
    chosen = build_policies(project.settings, model_type, policies)
    past = read_history(project, model_type, now)
    span = resolve_span(past, start, end)
    plans = [(policy, plan_steps(policy, past, *span)) for policy in chosen]
    folder = (workdir or project.folder / ".retrainer" / "replay") / model_type
    with folders.opened(folder, resume=resume), closing(Work(folder / folders.WORK)) as work:
        memory = Memory(work, past, SpendingLimit(max_cost, work.spent()))
        tracks = [PolicyRun.of(*plan, model_type, past, folder / folders.POLICIES) for plan in plans]
        place = Place(folder, folder / folders.WORK, past.location, model_type)
        try:
            with set_apart(memory.algorithm):
                for track in tracks:
                    track.recall(memory, model_type)
                require_max_cost(tracks, model_type, memory.purse)
                if resume and not any(track.records for track in tracks):
                    log.warning("No kept step is one of these policies and this span: all steps are taken anew")
                ending = _take_all(tracks, place, memory, jobs, tell)
        finally:
            for track in tracks:
                track.room.close()
    done = [(track.policy, track.records) for track in tracks]
    _tell_failures([record for _, records in done for record in records if record.failed])
    return report(model_type, span, done, ending, past.times)


def _take_all(
    tracks: Sequence[PolicyRun], place: Place, memory: Memory, jobs: int, tell: Callable[[Progress], None]
) -> Ending:
    """Take the steps of all policies that are not done yet, in the order of time."""
    order = chronological_order(tracks)
    total, known = len(order), sum(len(track.records) for track in tracks)
    log.info("Replaying %d steps of %d policies%s", total, len(tracks), f"; {known} are known" if known else "")
    started = time.monotonic()
    done = known
    try:
        with prefetching(order, place, memory.past, jobs) as wait_for:
            for track, number in order:
                if number < len(track.records):
                    continue
                wait_for(track, number)
                _tell_step(track, track.take(number, place.model_type, memory))
                done += 1
                each = (time.monotonic() - started) / (done - known)
                tell(Progress(done, total, each * (total - done)))
    except KeyboardInterrupt:
        return Ending(f"Interrupted after {done} of {total} steps", interrupted=True, spent_usd=memory.purse.spent)
    except CostLimitReached as error:
        return Ending(f"Stopped after {done} of {total} steps: {error}", spent_usd=memory.purse.spent)
    return Ending(spent_usd=memory.purse.spent)


def _tell_failures(failed: Sequence[StepResult]) -> None:
    if failed:
        log.warning("%d runs failed, the first as of %s: %s", len(failed), f"{failed[0].at:%Y-%m-%d}", failed[0].reason)


def _tell_step(track: PolicyRun, record: StepResult) -> None:
    """Say in one line what became of a step."""
    if record.failed:
        what = "failed"
    elif record.version_id is None:
        what = "not retrained"
    else:
        what = f"{record.version_id} {'promoted' if record.promoted else 'not promoted'}"
    live = "no post forecast"
    if record.score is not None:
        live = f"live {record.score:.4f} on {len(record.rows)} posts, naive {record.naive_score:.4f}"
    reason = f" ({record.reason})" if record.reason else ""
    log.debug("%s %s: %s%s; %s", f"{record.at:%Y-%m-%d %H:%M}", track.policy.name, what, reason, live)
