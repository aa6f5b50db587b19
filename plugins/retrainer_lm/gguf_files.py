"""GGUF files, parsed once.

transformers parses one for the configuration, for the tokenizer and for the weights, each time in seconds, and looks up
the names of all tensors once a layer.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import gguf

if TYPE_CHECKING:
    from collections.abc import Iterator

_read_file = lru_cache(maxsize=1)(gguf.GGUFReader)
_name_tensors = lru_cache(maxsize=8)(gguf.get_tensor_name_map)


@contextmanager
def parsed_once() -> Iterator[None]:
    """Let transformers use what was parsed before, until `forget`."""
    functions: dict[str, Any] = {"GGUFReader": _read_file, "get_tensor_name_map": _name_tensors}
    originals = {name: getattr(gguf, name) for name in functions}
    for name, function in functions.items():
        setattr(gguf, name, function)
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(gguf, name, function)


def forget() -> None:
    """Free what was parsed, a hundred megabytes."""
    _read_file.cache_clear()
