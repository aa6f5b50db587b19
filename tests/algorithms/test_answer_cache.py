"""Answers are deleted when they are old; nothing else is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from retrainer.algorithms.answer_cache import AnswerCache

if TYPE_CHECKING:
    from pathlib import Path


def test_only_old_answers_are_deleted(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path)
    cache.put(cache.key("a question"), {"text": "an answer"})
    (answer,) = tmp_path.iterdir()
    killed = tmp_path / f".{answer.name}.123"
    mine = tmp_path / "notes-2024.json"
    for path in (answer, killed, mine):
        path.write_text("{}")
        os.utime(path, (0, 0))
    AnswerCache(tmp_path).clear_used()
    assert list(tmp_path.iterdir()) == [mine]
