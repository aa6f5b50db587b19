"""The documents of single posts."""

from typing import TYPE_CHECKING, Self

from retrainer.render.documents.base import Document, Timestamp, VersionId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retrainer.registry.tables import ModelVersion, Post


class PostDocument(Document):
    """One post."""

    stream: str
    post_id: str
    created_at: Timestamp
    content: str | None
    replies_count: int | None
    reblogs_count: int | None
    favourites_count: int | None
    imported_at: Timestamp | None
    moved_from: Timestamp | None
    moved_at: Timestamp | None


class PostsDocument(Document):
    """The latest posts of a period, newest last, and the number of posts in it."""

    posts: list[PostDocument]
    count: int
    total: int

    @classmethod
    def from_rows(cls, rows: "Sequence[Post]", total: int) -> Self:
        return cls.model_validate({"posts": rows, "count": len(rows), "total": total})


class ShownPostDocument(PostDocument):
    """One post, and the versions that were trained on it."""

    trained_versions: list[VersionId]

    @classmethod
    def from_rows(cls, post: "Post", versions: "Sequence[ModelVersion]") -> Self:
        return cls.build(post, trained_versions=[version.version_id for version in versions])


class DeletedPostDocument(Document):
    """A post that was deleted, and the versions that were trained on it."""

    post_id: str
    trained_versions: list[VersionId]


class DeletedPostsDocument(Document):
    """The posts that were deleted."""

    deleted: list[DeletedPostDocument]
    count: int

    @classmethod
    def from_versions(cls, trained: "Mapping[str, Sequence[ModelVersion]]") -> Self:
        deleted = [
            {"post_id": post_id, "trained_versions": [version.version_id for version in versions]}
            for post_id, versions in trained.items()
        ]
        return cls.model_validate({"deleted": deleted, "count": len(deleted)})
