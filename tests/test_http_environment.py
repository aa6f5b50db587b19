"""Environment variables that HTTP clients obey."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from retrainer.http_environment import ssl_context

if TYPE_CHECKING:
    from pathlib import Path


def test_certificates_are_read_once_until_a_variable_names_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usual = ssl_context()
    assert ssl_context() is usual
    with monkeypatch.context() as others:
        others.setenv("SSL_CERT_DIR", str(tmp_path))
        assert ssl_context() is not usual
        others.setenv("SSL_CERT_FILE", "/no/such/file")
        for _ in range(2):
            with pytest.raises(FileNotFoundError):
                ssl_context()
    assert ssl_context() is usual
