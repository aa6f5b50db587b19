"""What a user says about the files to read, where the reader should not detect it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReadOptions:
    r"""How to read a file of posts. What is None is detected.

    Attributes:
        delimiter: the character between the fields of a row.
        encoding: the encoding of text, by any name that Python knows: `utf-16`, `cp1252`.
        records: the path of the records in a JSON document: `data.posts`. `*` stands for every key of an object, as
            in `channels.*.messages`; arrays on the way need no step of their own.
    """

    delimiter: str | None = None
    encoding: str | None = None
    records: str | None = None
