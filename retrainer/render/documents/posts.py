"""The documents of posts."""

from typing import TYPE_CHECKING

from retrainer.render.documents.base import Document, Timestamp

if TYPE_CHECKING:
    from retrainer.posts.importer import ImportResult


class PostsCount(Document):
    """How many posts there are."""

    count: int
    with_content: int
    first: Timestamp | None
    last: Timestamp | None


class RejectedRow(Document):
    """A row of a file that was left out."""

    line: int
    reason: str


class Import(Document):
    """The result of an import."""

    mapping: dict[str, str]
    rows: int
    added: int
    already_there: int
    repeated: int
    rejected: list[RejectedRow]

    @classmethod
    def from_result(cls, result: "ImportResult") -> "Import":
        file = result.file
        return cls(
            mapping=file.mapping,
            rows=file.rows,
            added=result.added,
            already_there=len(file.posts) - result.added,
            repeated=file.repeated,
            rejected=RejectedRow.list_of(file.rejected),
        )
