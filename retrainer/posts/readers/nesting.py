"""What nested records look like: the paths of their values, and the arrays in which they may stand."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from retrainer.errors import PostsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_COLUMNS = 100_000  # all names are in memory

ID = "id"

_MAX_KEYS = 1_000  # of a nested object; one with more is keyed by ids
_MAX_DEPTH = 20
_MAX_SAMPLE = 40  # characters
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_TIME_WORDS = frozenset(
    ("date", "datetime", "day", "time", "timestamp", "unixtime", "created", "creation", "published", "posted", "sent")
) | {"pubdate", "epoch", "utc", "ts", "when"}
_ID_WORDS = frozenset(("id", "guid", "uuid", "ts"))
_TEXT_WORDS = frozenset(("text", "content", "body", "message", "title", "caption", "description", "selftext", "tweet"))
_LEAST_TIME = 100_000_000  # seconds since 1970; smaller numbers are no times


class Merged(list[Any]):
    """The objects and arrays that stand under one key, which an object has several times, as one array."""


class Node:
    """What stands at one path: the objects, the arrays and the values seen there.

    Attributes:
        objects: the number of objects.
        keys: key -> what stands below it, of objects.
        elements: what stands in arrays.
        values: what stands below the keys of objects that are keyed by ids.
        sample: a value that is neither object nor array, shortened; None if there was none.
        is_array: whether there was an array.
    """

    __slots__ = ("elements", "is_array", "keys", "objects", "sample", "values")

    def __init__(self) -> None:
        self.objects = 0
        self.keys: dict[str, Node] = {}
        self.elements: Node | None = None
        self.values: Node | None = None
        self.sample: object = None
        self.is_array = False

    def element_node(self) -> Node:
        """Return what stands in arrays here; there may be none yet."""
        self.is_array = True
        if self.elements is None:
            self.elements = Node()
        return self.elements

    def value_node(self) -> Node:
        """Return what stands below the ids."""
        if self.values is None:
            self.values = Node()
        return self.values


class Survey:
    """Looks at records.

    Attributes:
        root: what stands at the top.
    """

    def __init__(self, name: str) -> None:
        self.root = Node()
        self._name = name
        self._nodes = 0

    def key_node(self, node: Node, key: str, depth: int = 0) -> Node | None:
        """Return what stands below a key of an object; None if it has too many."""
        child = node.keys.get(key)
        if child is None:
            if depth and len(node.keys) >= _MAX_KEYS:
                return None
            self._nodes += 1
            if self._nodes > MAX_COLUMNS:
                problem = f"'{self._name}' has more than {MAX_COLUMNS:,} columns"
                raise PostsError(problem, hint="Check that it holds posts")
            child = node.keys[key] = Node()
        return child

    def look(self, value: object, node: Node, depth: int = 0, *, in_record: bool = False) -> int:
        """Look at a value and at all below it; return the number of its keys, if it is not too deep."""
        if depth > _MAX_DEPTH:
            return -1
        if isinstance(value, dict):
            return len(value) + self._look_at_keys(value, node, depth, in_record=in_record)
        if not isinstance(value, list):
            return 0
        elements = node.element_node()
        if value and not isinstance(value[0], dict | list):
            elements.sample = value[0]
        return sum(
            self.look(below, elements if isinstance(below, dict) else node, depth + 1, in_record=True)
            for below in value
            if isinstance(below, dict | list)
        )

    def _look_at_keys(self, value: dict[str, object], node: Node, depth: int, *, in_record: bool) -> int:
        node.objects += 1
        if not in_record and is_keyed_by_id(value):
            ids = node.value_node()
            count = sum(self.look(record, ids, depth + 1) for record in value.values())
            self.note_id(ids, next(iter(value)))
            return count
        count = 0
        for key, below in value.items():
            child = node.keys.get(key) or self.key_node(node, key, depth)
            if child is None:
                continue
            if isinstance(below, dict | list):
                count += self.look(below, child, depth + 1, in_record=in_record)
            elif child.sample is None and below is not None:
                child.sample = below[:_MAX_SAMPLE] if isinstance(below, str) else below
        return count

    def note_id(self, node: Node, key: str) -> None:
        """Note that records get an id from the key before them, if they do; see `with_id`."""
        if are_ids(key) and ID in with_id(key, dict.fromkeys(node.keys)) and ID not in node.keys:
            child = self.key_node(node, ID)
            if child is not None:
                child.sample = key


def is_keyed_by_id(value: dict[str, object]) -> bool:
    """Whether an object stands for an array: all below its keys are objects, whose keys are alike."""
    below = (other[0] if isinstance(other, Merged) and other else other for other in value.values())
    first, second = next(below, None), next(below, None)
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return False
    alike = 2 * len(first.keys() & second.keys()) >= max(len(first), len(second)) > 0
    return alike and all(isinstance(other, dict) for other in below)


def are_alike(first: Node, second: Node) -> bool:
    """Whether two values below the keys of an object may be the first records of one that is keyed by ids."""
    return 2 * len(first.keys.keys() & second.keys.keys()) >= max(len(first.keys), len(second.keys)) > 0


def columns_of(node: Node) -> list[str]:
    """Return the path of each value of the objects here that is no object; of arrays, of the first object too."""
    return list(_columns(node, ""))


def _columns(node: Node, prefix: str) -> Iterator[str]:
    for key, child in node.keys.items():
        path = prefix + key
        if child.sample is not None or child.is_array or not child.objects:
            yield path
        yield from _columns(child, f"{path}.")
        if child.elements is not None:
            yield from _columns(child.elements, f"{path}.0.")


def find_candidates(root: Node) -> dict[str, Node]:
    """Return path -> what stands there, for each place where records may be; outer ones come first."""
    return dict(_candidates(root, ""))


def _candidates(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    for child, step in ((node.elements, ""), (node.values, "*")):
        if child is not None:
            inner = join(path, step)
            yield inner, child
            yield from _candidates(child, inner)
    for key, child in node.keys.items():
        yield from _candidates(child, join(path, key))


def join(path: str, step: str) -> str:
    """Return the path with one more step."""
    return f"{path}.{step}" if path and step else path or step


def merits(node: Node) -> tuple[bool, int]:
    """Return whether records have times, and how many of time, id and text they have."""
    samples = list(_samples(node))
    has_time = any(_words(name) & _TIME_WORDS and _is_time(sample) for name, sample, _ in samples)
    has_id = any(_words(name) & _ID_WORDS for name, sample, _ in samples if sample is not None)
    has_text = any(_words(name) & _TEXT_WORDS for name, sample, is_array in samples if is_array or sample is not None)
    return has_time, has_time + has_id + has_text


def _samples(node: Node) -> Iterator[tuple[str, object, bool]]:
    for key, child in node.keys.items():
        yield key, child.sample, child.is_array
        yield from _samples(child)


@lru_cache(maxsize=10_000)
def _words(name: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(name))


def _is_time(sample: object) -> bool:
    if isinstance(sample, str):
        return len(sample) >= len("1/1/24") and any(map(str.isdigit, sample))
    return isinstance(sample, int | Decimal) and not isinstance(sample, bool) and sample >= _LEAST_TIME


def getter(path: str) -> Callable[[dict[str, object]], object]:
    """Return a function from a record to the value at a dotted path; None if there is none."""
    steps = path.split(".")

    def follow(record: dict[str, object]) -> object:
        if path in record:  # a name may have dots
            return record[path]
        value: object = record
        for step in steps:
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and step.isdecimal() and len(step) < 10 and int(step) < len(value):  # noqa: PLR2004
                value = value[int(step)]
            else:
                return None
        return value

    return follow


def find_records(value: object, path: str) -> Iterator[object]:
    """Yield the records at a path in a value; arrays on the way need no step."""
    if isinstance(value, list):
        for element in value:
            if isinstance(element, list) or path:
                yield from find_records(element, path)
            else:
                yield element
    elif not path:
        yield value
    elif isinstance(value, dict):
        add_id = path == "*" and are_ids(next(iter(value), ""))
        for key, below in value.items():
            rest = step_into(path, key)
            if rest is not None:
                yield from find_records(with_id(key, below) if add_id else below, rest)


def with_id(key: str, record: Any) -> Any:
    """Return a record that stands below a key, which is its id unless it has one."""
    if not isinstance(record, dict) or any(_words(name) & _ID_WORDS for name in record):
        return record
    return {**record, ID: key}


def are_ids(first_key: str) -> bool:
    """Whether the keys of an object that stands for an array are ids, not the numbers of its records."""
    return first_key != "0"


def is_inside(path: str, other: str) -> bool:
    """Whether what stands at a path stands inside what is at another."""
    return path != other and (not other or path.startswith(f"{other}."))


def step_into(path: str, key: str) -> str | None:
    """Return what is left of a path below a key; None if it does not lead there."""
    if path.startswith("*"):
        return path[2:]
    if path == key:
        return ""
    return path[len(key) + 1 :] if path.startswith(f"{key}.") else None
