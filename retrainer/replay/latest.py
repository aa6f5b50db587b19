"""The latest replay of each model: its results in one file of the project, which the pages and reports show.

The file is an .npz of plain arrays; one of them holds a JSON document. Of a replay in another working folder it is the
only trace in the project.
"""

from __future__ import annotations

import io
import json
import logging
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from retrainer.config import RetrainingSettings
from retrainer.errors import RetrainerError
from retrainer.files import open_within, write_atomically
from retrainer.model_types.base import read_arrays
from retrainer.replay.policies import Policy, PolicyTuning
from retrainer.replay.results import Ending, report
from retrainer.replay.step import StepResult
from retrainer.streams import stream_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from retrainer.config import Settings
    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.replay.results import PolicyReport, ReplayReport

log = logging.getLogger(__name__)

FOLDER = (".retrainer", "replay")
_PER_POST = ("rows", "figures", "naive_figures")  # of a step, in arrays; all else is in the document
_MAX_BYTES = 500_000_000


@dataclass(frozen=True)
class LatestReplay:
    """The latest replay of a model.

    Attributes:
        at: the time of the replay, UTC; it read the posts up to then.
        report: its results; those so far, if it was stopped.
    """

    at: datetime
    report: ReplayReport


def record_latest(project: Project, found: ReplayReport, at: datetime) -> None:
    """Keep the results of a replay as the latest ones; that they cannot be written is a warning."""
    folder = project.folder.joinpath(*FOLDER, stream_folder(project.stream))
    path = folder / _file_name(found.model_type)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _pack(found, at))
    except OSError as error:
        log.warning("Cannot write '%s': %s. The page does not show this replay", path, error.strerror)


def read_latest(project: Project, model_type: ModelTypeName) -> LatestReplay | None:
    """Return the latest replay of a model; None if there is none, or its file cannot be read."""
    parts = [*FOLDER, *filter(None, stream_folder(project.stream).split("/")), _file_name(model_type)]
    try:
        with open_within(project.folder, parts) as file:
            return _unpack(file.read(_MAX_BYTES), project.settings)
    except FileNotFoundError:
        return None
    except (OSError, RetrainerError, ValueError, TypeError, KeyError, IndexError, StopIteration) as error:
        log.debug("Cannot read the latest replay in '%s': %s", "/".join(parts), error)
        return None


def _file_name(model_type: ModelTypeName) -> str:
    return f"{model_type}.latest.npz"


def _pack(found: ReplayReport, at: datetime) -> bytes:
    document = {
        "at": at.isoformat(),
        "model_type": found.model_type,
        "span": [found.start.isoformat(), found.end.isoformat()],
        "ending": found.ending._asdict(),
        "policies": [_policy_document(policy) for policy in found.policies],
    }
    arrays = {"document": np.frombuffer(json.dumps(document).encode(), dtype=np.uint8), "times": found.times}
    for index, policy in enumerate(found.policies):
        if policy.live is not None:
            for name in _PER_POST:
                arrays[f"{name}_{index}"] = getattr(policy.live, name)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # of the flag before the arrays
    return buffer.getvalue()


def _policy_document(found: PolicyReport) -> dict[str, Any]:
    policy = found.policy
    return {
        "name": policy.name,
        "algorithm": policy.algorithm,
        "retrains": policy.retrains,
        "promotes_all": policy.promotes_all,
        "tuning": policy.tuning and asdict(policy.tuning),
        "changes": policy.changes,
        "retraining": policy.settings.retraining.model_dump(mode="json"),
        "steps": [{**step.document(), **dict.fromkeys(_PER_POST), "posts": len(step.rows)} for step in found.steps],
    }


def _unpack(data: bytes, settings: Settings) -> LatestReplay:
    arrays = read_arrays(data)
    document = json.loads(arrays["document"].tobytes())
    done = [
        (_read_policy(policy, settings), _read_steps(policy["steps"], arrays, index))
        for index, policy in enumerate(document["policies"])
    ]
    start, end = (datetime.fromisoformat(time) for time in document["span"])
    results = report(document["model_type"], (start, end), done, Ending(**document["ending"]), arrays["times"])
    return LatestReplay(datetime.fromisoformat(document["at"]), results)


def _read_policy(document: Mapping[str, Any], settings: Settings) -> Policy:
    retraining = RetrainingSettings.model_validate(document["retraining"])
    tuning = None if document["tuning"] is None else PolicyTuning(**document["tuning"])
    own = {key: document[key] for key in ("name", "algorithm", "retrains", "promotes_all", "changes")}
    return Policy(settings=settings.model_copy(update={"retraining": retraining}), tuning=tuning, **own)


def _read_steps(documents: list[dict[str, Any]], arrays: Mapping[str, NDArray[Any]], index: int) -> list[StepResult]:
    steps, first = [], 0
    for document in documents:
        end = first + document.pop("posts")
        per_post = {name: arrays[f"{name}_{index}"][first:end].tolist() if end > first else [] for name in _PER_POST}
        steps.append(StepResult.from_document({**document, **per_post}))
        first = end
    return steps
