"""Read the output of `git log`: its default, fuller and raw formats, and one line a commit by --pretty=format."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Commit = dict[str, str]

COLUMNS = ("commit", "author", "date", "message")

_HASH = r"(?P<commit>[0-9a-f]{7,40}|[0-9a-f]{64})"
_COMMIT = re.compile(rf"(?P<graph>[*|\\/_ ]*)commit {_HASH}(?: .*)?")
_DATE = re.compile(r"(?:Author)?Date: +(?P<date>.+)")
_AUTHOR = re.compile(r"[Aa]uthor:? +(?P<author>.*?>)(?: (?P<date>[0-9]+) [+-][0-9]{4})?")
_TIME = (
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9:]{5,8}(?: ?(?:Z|[+-][0-9]{2}:?[0-9]{2}))?)?"
    r"|(?:[A-Z][a-z]{2},? )?(?:[A-Z][a-z]{2} [0-9]{1,2}|[0-9]{1,2} [A-Z][a-z]{2}) [0-9: ]{13,14}(?: [+-][0-9]{4})?"
    r"|[0-9]{9,10})"
)
# The separator follows the hash, and stands before and after the date where that is not the first or the last field.
_LINE = re.compile(
    rf"[\"']?{_HASH}[\"']?(?P<separator>\s*[|,;\t\x1f\0~^#]+\s*| - |\s+)"
    rf"(?:(?P<before>.*?)(?P=separator))??[\"'(\[]?{_TIME}[\"')\]]?(?:(?P=separator)(?P<after>.*)|$)"
)
_MARK = re.compile(r"^[|:,;-] +")


def is_git_log(head: str) -> bool:
    """Whether a text that begins like this is the output of `git log`."""
    lines = [line for line in head.splitlines()[:-1] or [head] if line.strip()]
    if not lines or _COMMIT.fullmatch(lines[0]):
        return bool(lines)
    commits = [match["commit"] for match in map(_LINE.fullmatch, lines) if match]
    # Numbers at the start of lines are more likely the ids of a table than hashes without a letter.
    return bool(_LINE.fullmatch(lines[0])) and not all(map(str.isdigit, commits))


def parse_git_log(lines: Iterable[str]) -> Iterator[tuple[int, Commit]]:
    """Yield the number of the first line and the values of each commit: COLUMNS, those it has.

    Author and date are those of the author, not of the committer; the message is without its indentation.
    """
    commit: Commit | None = None
    first = 0
    message: list[str] = []
    is_default = False
    width = 0  # of what --graph draws on the left
    for number, raw in enumerate(lines, 1):
        line = raw.rstrip("\r\n")
        start = _COMMIT.fullmatch(line)
        one_line = None if is_default else _LINE.fullmatch(line)
        found = start or one_line
        if found:
            if commit is not None:
                yield first, _finish(commit, message)
            commit, first, message = {"commit": found["commit"]}, number, []
            if start:
                is_default, width = True, len(start["graph"])
            if one_line:
                message = _read_fields(one_line, commit)
        elif commit is not None:
            _read_line(line[width:], commit, message, is_default=is_default)
    if commit is not None:
        yield first, _finish(commit, message)


def _read_fields(line: re.Match[str], commit: Commit) -> list[str]:
    """Take over date and author of a commit in one line; return its message."""
    separator, before, after = line["separator"], line["before"], line["after"]
    commit["date"] = line["date"]
    if after is None and before is not None and not separator.isspace():
        before, _, after = before.rpartition(separator)
    if after is None:
        before, after = None, before
    if before:
        commit["author"] = before.strip("\"'")
    return [_MARK.sub("", after or "").strip("\"'")]


def _read_line(line: str, commit: Commit, message: list[str], *, is_default: bool) -> None:
    if not is_default:
        message.append(line)
    elif line.startswith("    ") or (not line and message):
        message.append(line[4:])
    elif not message:
        header = _AUTHOR.fullmatch(line) or _DATE.fullmatch(line)
        commit.update({name: value for name, value in header.groupdict().items() if value} if header else {})


def _finish(commit: Commit, message: list[str]) -> Commit:
    return {**commit, "message": "\n".join(message).strip()}
