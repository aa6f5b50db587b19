"""The JSON documents in a server, where threads share their classes."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import create_model

from retrainer.render.documents.base import Document

if TYPE_CHECKING:
    from collections.abc import Iterator

THREADS = 6


@pytest.fixture
def busy_threads() -> Iterator[None]:
    """Let the threads of the process interrupt each other as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("busy_threads")
def test_threads_may_be_the_first_to_use_a_document_at_the_same_time() -> None:
    barrier = Barrier(THREADS)

    def use(document: type[Document]) -> str:
        barrier.wait()
        return document.model_validate({"inner": {"value": 1}}).model_dump_json()

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(50):
            inner = create_model("Inner", __base__=Document, value=(int, ...))
            fields: Any = {"inner": (inner, ...), "others": (list[inner], [])}  # type: ignore[valid-type]
            document = create_model("Outer", __base__=Document, **fields)
            assert set(pool.map(use, [document] * THREADS)) == {'{"inner":{"value":1},"others":[]}'}
