"""Posts, as tables and lines for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer import console

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from retrainer.registry.tables import ModelVersion, Post

MAX_TEXT_SHOWN = 100
MAX_VERSIONS_SHOWN = 10


def show_post_list(posts: Sequence[Post], total: int) -> None:
    """Print the latest posts of a period."""
    if not posts:
        console.text("No posts")
        return
    columns = ["Post", "Time (UTC)", "Replies", "Reblogs", "Favourites", "Text"]
    rows = [
        (post.post_id, _format_second(post.created_at), *map(_format_count, _counts(post)), _first_words(post.content))
        for post in posts
    ]
    console.table(
        columns,
        rows,
        title=f"Posts ({len(posts)} of {total})",
        right=columns[2:5],
        optional=["Reblogs", "Replies", "Favourites"],
        cut=True,
    )


def show_post(post: Post, versions: Sequence[ModelVersion]) -> None:
    """Print everything about a post."""
    names = ("replies", "reblogs", "favourites")
    counts = [f"{count} {name}" for count, name in zip(_counts(post), names, strict=True) if count is not None]
    moved = f" (moved from {_format_second(post.moved_from)} at {_format_second(post.moved_at)})"
    for label, value in (
        ("Post", post.post_id),
        ("Stream", post.stream),
        ("Time", f"{_format_second(post.created_at)} UTC{moved if post.moved_at else ''}"),
        ("Imported", f"{_format_second(post.imported_at)} UTC" if post.imported_at else ""),
        ("Counts", ", ".join(counts)),
        ("Versions", _trained(versions)),
    ):
        if value:
            console.text(f"{label + ':':<10}{value}")
    lines = ("(no text)" if post.content is None else post.content).split("\n")
    console.text("", *(f"  {line}" for line in lines))


def show_trained_on(trained: Mapping[str, Sequence[ModelVersion]]) -> None:
    """Print which versions were trained on each of some posts."""
    for post_id, versions in trained.items():
        console.text(f"Post '{post_id}': {_trained(versions)}")


def _trained(versions: Sequence[ModelVersion]) -> str:
    if not versions:
        return "no version was trained on it"
    shown = ", ".join(version.version_id for version in versions[:MAX_VERSIONS_SHOWN])
    more = f" and {len(versions) - MAX_VERSIONS_SHOWN} more" if len(versions) > MAX_VERSIONS_SHOWN else ""
    return f"trained on it: {shown}{more}"


def _counts(post: Post) -> tuple[int | None, int | None, int | None]:
    return post.replies_count, post.reblogs_count, post.favourites_count


def _format_count(count: int | None) -> str:
    return "-" if count is None else str(count)


def _format_second(time: datetime | None) -> str:
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


def _first_words(content: str | None) -> str:
    text = " ".join((content or "").split())
    return text if len(text) <= MAX_TEXT_SHOWN else f"{text[: MAX_TEXT_SHOWN - 1]}…"
