"""Tables and lines of what is recorded."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from retrainer.registry.tables import LEDGER_ACTIONS, LedgerEntry
from retrainer.render import tables

OF_A_TYPE = {"hold", "release", "cleanup", "set_aside"}  # these have no version


@pytest.mark.parametrize("action", [action for action in LEDGER_ACTIONS if action not in OF_A_TYPE])
def test_every_decision_about_a_version_has_words(action: str) -> None:
    now = datetime.now(UTC)
    entry = LedgerEntry(
        at=now, recorded_at=now, action=action, version_id="v", actor="ada", automatic=False, reason="so", evidence={}
    )
    sentence = tables._describe_entry(entry, "v")
    assert ": it was " in sentence or ": it became " in sentence
