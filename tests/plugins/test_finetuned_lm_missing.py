"""The algorithm `finetuned_lm` where something is missing: a base model, or the extra `lm`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from retrainer.algorithms.manager import load_algorithm
from retrainer.errors import ConfigError

LM = load_algorithm("finetuned_lm")


@pytest.mark.parametrize(
    ("name", "message"),
    [("no-such-folder", "'no-such-folder' is neither a folder nor a file"), ("someone/model", "downloads are off")],
)
def test_nothing_is_downloaded_unless_allowed(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LM.check_ready(LM.options({"base": name}, "content"))


def test_without_the_extra_nothing_of_it_is_imported_and_plugins_names_it() -> None:
    script = """
import sys
extra = ("torch", "transformers", "peft", "safetensors", "gguf")
sys.modules.update(dict.fromkeys(extra))
from retrainer.__main__ import main
sys.argv = ["retrainer", *sys.argv[1:]]
main()
"""
    done = subprocess.run([sys.executable, "-c", script, "plugins"], capture_output=True, text=True, check=False)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("finetuned_lm")]
    assert done.returncode == 0, done.stderr
    assert " ok " in line
    assert "Needs the extra `lm`" in line
