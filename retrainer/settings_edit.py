"""Change one key of the settings file; its comments and all other lines stay as they are."""

from __future__ import annotations

import difflib
from io import StringIO
from typing import TYPE_CHECKING, Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.util import load_yaml_guess_indent

from retrainer.errors import ConfigError
from retrainer.settings_file import parse_yaml

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.config import Key

_NO_WRAPPING = 10_000  # characters


def change_key(text: str, key: Key, value: str, path: Path) -> str:
    """Return the text of a settings file with one key set; a missing section is added.

    Args:
        text: a settings file that can be read.
        key: the key, such as ("retraining", "test_split").
        value: YAML; what is none counts as text.
        path: the file, for messages.

    Raises:
        ConfigError: the key is inside another key's value.
    """
    if text and not text.endswith("\n"):
        text += "\n"  # or what is added would continue the last line
    _, indent, sequence_offset = load_yaml_guess_indent(text)
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = _NO_WRAPPING
    editor.indent(mapping=indent or 2, sequence=indent or 2, offset=sequence_offset or 0)
    editor.representer.add_representer(type(None), _represent_null)
    editor.representer.add_representer(float, _represent_float)
    tree = editor.load(text)
    if tree is None:  # nothing but comments
        changed = CommentedMap()
        _set(changed, key, value, path)
        return text + _dump(editor, changed)
    unchanged = _dump(editor, tree)
    _set(tree, key, value, path)
    return _with_lines_of(text, unchanged, _dump(editor, tree))


def _set(tree: CommentedMap, key: Key, value: str, path: Path) -> None:
    section = tree
    for depth, name in enumerate(key[:-1], start=1):
        if section.get(name) is None:
            section[name] = CommentedMap()
        section = section[name]
        if not isinstance(section, CommentedMap):
            raise ConfigError(f"'{path}': '{'.'.join(key[:depth])}' is a value, not a section")
    section[key[-1]] = _parse(value)


def _parse(value: str) -> Any:
    try:
        return parse_yaml(value)[0]
    except yaml.YAMLError:
        return value


def _represent_null(representer: Any, _: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def _represent_float(representer: Any, value: float) -> Any:
    """Write 1.0e-05, which all versions of YAML take for a number; to some, 1e-05 is a text."""
    return representer.represent_scalar("tag:yaml.org,2002:float", yaml.safe_dump(value).split()[0])


def _dump(editor: YAML, tree: CommentedMap) -> str:
    stream = StringIO()
    editor.dump(tree, stream)
    return stream.getvalue()


def _with_lines_of(text: str, unchanged: str, changed: str) -> str:
    """Return what was changed, with every other line as it is in the text, not as ruamel.yaml would write it.

    Args:
        text: the file.
        unchanged: the file, as ruamel.yaml writes it.
        changed: the changed file, as ruamel.yaml writes it.
    """
    original, before, after = (part.splitlines(keepends=True) for part in (text, unchanged, changed))
    if len(original) != len(before):
        return changed
    lines: list[str] = []
    for tag, start, end, new_start, new_end in difflib.SequenceMatcher(
        None, before, after, autojunk=False
    ).get_opcodes():
        lines += original[start:end] if tag == "equal" else after[new_start:new_end]
    return "".join(lines)
