"""What an import stores, and how it counts: new posts, corrections, clashes, repetitions; on both databases."""

from __future__ import annotations

import itertools
import json
import secrets
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrainer.errors import DatabaseError, PostsError
from retrainer.export_format import ExportFormat
from retrainer.posts import staging
from retrainer.posts.exports import KnownExport
from retrainer.posts.importer import ImportOptions, ImportResult, import_posts, import_records
from retrainer.project import create_project
from retrainer.registry.tables import Post
from tests.conftest import administer, configure, open_project
from tests.faults.injection import terminate_connections

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from retrainer.project import Project

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
MONDAY, TUESDAY = "2024-01-01T10:00:00Z", "2024-01-02T10:00:00Z"

Record = dict[str, Any]
Stored = tuple[str, str | None, int | None]
STREAMS = map(str, itertools.count())


@dataclass
class Stream:
    """One stream of a project that the tests share."""

    project: Project
    name: str

    def imported(self, *files: Sequence[Record], **options: Any) -> ImportResult:
        """Import records, a file for each list of them."""
        folder = self.project.folder
        paths = [write(folder / f"{number}.json", records) for number, records in enumerate(files)]
        return import_posts(self.project.posts, paths, ImportOptions(**{"stream": self.name, **options}), NOW)

    def stored(self) -> dict[str, Stored]:
        """Return time, text and likes of the posts, by id."""
        columns = (Post.post_id, Post.created_at, Post.content, Post.favourites_count)
        with self.project.registry.database.read() as session:
            found = session.execute(sa.select(*columns).where(Post.stream == self.name))
            return {key: (f"{time:%Y-%m-%dT%H:%M:%SZ}", text, likes) for key, time, text, likes in found}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A project folder on each database."""
    folder = tmp_path_factory.mktemp("project")
    create_project(folder)
    if request.param == "sqlite":
        yield folder
        return
    server, name = request.getfixturevalue("postgresql_server"), f"test_{secrets.token_hex(6)}"
    with administer(server) as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
        configure(folder, url=f'"{server.format(name=name)}"')
        yield folder
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def stream(shared_folder: Path) -> Stream:
    """A stream without posts."""
    return Stream(open_project(shared_folder), next(STREAMS))


def write(path: Path, records: Sequence[Record]) -> Path:
    path.write_text(json.dumps(list(records)))
    return path


def post(post_id: str = "1", time: str = MONDAY, text: str | None = "a", likes: int | None = None) -> Record:
    return {"id": post_id, "created_at": time, "text": text, "likes": likes}


def counts(result: ImportResult) -> dict[str, int]:
    """Return the counts of a result that are not 0."""
    names = ("added", "updated", "unchanged", "clashing", "repeated", "rejected")
    found = {name: getattr(result, name) for name in names} | {"excluded": result.excluded.total()}
    assert sum(found.values()) == result.rows
    return {name: count for name, count in found.items() if count}


def test_the_same_posts_again_change_nothing(stream: Stream) -> None:
    records = [post("1"), post("2", text=None), post("3", TUESDAY, likes=5)]
    assert counts(stream.imported(records)) == {"added": 3}
    before = stream.stored()
    assert counts(stream.imported(records)) == {"unchanged": 3}
    assert counts(stream.imported(records, update=True)) == {"unchanged": 3}
    assert stream.stored() == before


def test_a_post_that_differs_is_kept_as_it_was_and_shown(stream: Stream) -> None:
    stream.imported([post("1"), post("2")])
    result = stream.imported([post("1", TUESDAY, "b"), post("2", text="c"), post("3")])
    assert counts(result) == {"added": 1, "clashing": 2}
    first, second = result.first_clashing
    assert (first.line, first.post_id, first.earlier) == (1, "1", None)
    assert first.before == {"created_at": datetime.fromisoformat(MONDAY), "content": "a"}
    assert first.after == {"created_at": datetime.fromisoformat(TUESDAY), "content": "b"}
    assert (second.before, second.after) == ({"content": "a"}, {"content": "c"})
    assert stream.stored() == dict.fromkeys("123", (MONDAY, "a", None))


def test_update_replaces_what_differs_and_shows_it(stream: Stream) -> None:
    stream.imported([post("1", likes=1), post("2")])
    result = stream.imported([post("1", TUESDAY, "b", likes=7), post("2")], update=True)
    assert counts(result) == {"updated": 1, "unchanged": 1}
    [change] = result.first_updated
    assert change.after == {"created_at": datetime.fromisoformat(TUESDAY), "content": "b", "favourites_count": 7}
    assert stream.stored() == {"1": (TUESDAY, "b", 7), "2": (MONDAY, "a", None)}


def test_a_missing_value_replaces_nothing(stream: Stream) -> None:
    stream.imported([post("1", likes=7)])
    for update in (False, True):
        assert counts(stream.imported([{"id": "1", "created_at": MONDAY}], update=update)) == {"unchanged": 1}
    assert stream.stored() == {"1": (MONDAY, "a", 7)}


def test_a_text_that_was_missing_is_filled_in_without_update(stream: Stream) -> None:
    stream.imported([post("1", text=None, likes=3), post("2", text=None)])
    result = stream.imported([post("1", text="late", likes=9), post("2", TUESDAY, "moved")])
    assert counts(result) == {"updated": 1, "clashing": 1}
    assert result.first_updated[0].after == {"content": "late"}
    assert stream.stored() == {"1": (MONDAY, "late", 3), "2": (MONDAY, None, None)}


def test_other_counts_alone_change_nothing_without_update(stream: Stream) -> None:
    stream.imported([post("1", likes=3)])
    assert counts(stream.imported([post("1", likes=4)])) == {"unchanged": 1}
    assert counts(stream.imported([post("1", likes=4)], update=True)) == {"updated": 1}
    assert stream.stored() == {"1": (MONDAY, "a", 4)}


def test_the_same_clash_within_the_files_is_reported_alike(stream: Stream) -> None:
    files = [[post("1"), post("1")], [post("2", text=None), post("1", text="b"), post("2", text="late")]]
    result = stream.imported(*files)
    assert counts(result) == {"added": 2, "repeated": 1, "clashing": 1, "updated": 1}
    [clash] = result.first_clashing
    assert (clash.file, clash.line, clash.earlier, clash.after) == (1, 2, (0, 1), {"content": "b"})
    assert stream.stored() == {"1": (MONDAY, "a", None), "2": (MONDAY, "late", None)}
    other = Stream(stream.project, next(STREAMS))
    assert counts(other.imported(*files, update=True)) == {"added": 2, "repeated": 1, "updated": 2}
    assert other.stored() == {"1": (MONDAY, "b", None), "2": (MONDAY, "late", None)}


def test_one_id_in_two_streams_is_two_posts(stream: Stream) -> None:
    other = Stream(stream.project, next(STREAMS))
    stream.imported([post("1")])
    assert counts(other.imported([post("1", text="b")])) == {"added": 1}
    assert (stream.stored(), other.stored()) == ({"1": (MONDAY, "a", None)}, {"1": (MONDAY, "b", None)})


def test_a_correction_remembers_the_earliest_time_of_the_post(stream: Stream) -> None:
    times = [TUESDAY, MONDAY, "2024-01-03T10:00:00Z", "2024-01-03T10:00:00Z"]
    for time in times:
        stream.imported([post("1", time)], update=True)
    with stream.project.registry.database.read() as session:
        query = sa.select(Post.moved_from, Post.moved_at).where(Post.stream == stream.name)
        moved = session.execute(query).one()
    assert moved == (datetime.fromisoformat(MONDAY), NOW)


def test_more_than_a_tenth_of_rejected_rows_stores_nothing(stream: Stream) -> None:
    good = [post(str(number)) for number in range(9)]
    bad = [post("a", "soon"), post("b", "later"), {"created_at": MONDAY}]
    assert counts(stream.imported([*good, bad[0]], stream=next(STREAMS))) == {"added": 9, "rejected": 1}
    with pytest.raises(PostsError) as error:
        stream.imported([*good, *bad])
    problem = "3 of 12 rows are rejected: 2 × record 10: the time 'soon' is not in a known format; "
    assert problem + "1 × record 12: the id is missing" in str(error.value)
    assert stream.stored() == {}
    assert counts(stream.imported([*good, *bad], allow_rejects=True)) == {"added": 9, "rejected": 3}


def test_the_share_of_rejected_rows_is_that_of_all_files(stream: Stream) -> None:
    files = [[post("a", "soon")], [post(str(number)) for number in range(9)]]
    result = stream.imported(*files)
    assert counts(result) == {"added": 9, "rejected": 1}
    assert [len(file.rejected) for file in result.files] == [1, 0]


def test_records_that_are_not_posts_of_their_own_are_left_out_and_counted(stream: Stream) -> None:
    form = ExportFormat.model_validate(
        {
            "requires": ["key"],
            "columns": {"post_id": "key", "created_at": "when", "content": "said.0 | said.1"},
            "kinds": {
                "reposts": {"type": "share"},
                "replies": {"type": "answer"},
                "service_messages": {"type": "join"},
            },
        }
    )
    kinds = ["own", "share", "answer", "join", "join"]
    records = [{"key": key, "when": MONDAY, "type": kind, "said": None} for key, kind in enumerate(kinds)]
    result = import_records(
        stream.project.posts, records, KnownExport("shares", form), name="here", stream=stream.name, now=NOW
    )
    assert counts(result) == {"added": 2, "excluded": 3}
    assert result.excluded == {"reposts": 1, "service_messages": 2}
    assert set(stream.stored()) == {"0", "2"}


def test_fetched_records_are_added_however_many_are_rejected(stream: Stream) -> None:
    records: list[Mapping[str, object]] = [{"id": 1, "date": MONDAY, "text": "a"}, {"id": 2, "date": "soon"}]
    result = import_records(stream.project.posts, records, None, name="here", stream=stream.name, now=NOW)
    assert counts(result) == {"added": 1, "rejected": 1}
    assert result.files[0].rejected[0].reason == "the time 'soon' is not in a known format"
    assert import_records(stream.project.posts, [], None, name="here", stream=stream.name, now=NOW).rows == 0


def test_posts_of_more_than_one_batch_are_merged_alike(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "BATCH_ROWS", 7)
    monkeypatch.setattr("retrainer.posts.conversion.BATCH_ROWS", 7)
    first = [post(str(number)) for number in range(40)]
    assert counts(stream.imported(first)) == {"added": 40}
    second = [post(str(number), text="b" if number % 2 else "a") for number in range(20, 60)]
    result = stream.imported([*second, *second], update=True)
    assert counts(result) == {"added": 20, "updated": 10, "unchanged": 10, "repeated": 40}
    assert [text for _, text, _ in stream.stored().values()].count("b") == 20


def test_a_connection_lost_in_the_middle_stores_nothing(stream: Stream) -> None:
    engine = stream.project.registry.database.engine
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no connections to lose")

    def batches() -> Iterator[list[staging.StagedPost]]:
        yield [(0, 1, stream.name, "1", 0, "a", None, None, None)]
        terminate_connections(engine.url)
        yield [(0, 2, stream.name, "2", 0, "b", None, None, None)]

    with pytest.raises(DatabaseError, match="terminat|lost|closed"):
        stream.project.posts.merge(batches(), NOW)
    assert stream.stored() == {}


# --- every row is counted once, and what is stored follows from the rows alone ---------------------

VALUES = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["1", "2", "3", " 1 ", None]),
        "created_at": st.sampled_from([MONDAY, TUESDAY, "soon"]),
        "text": st.sampled_from([None, "a", "b"]),
        "likes": st.sampled_from([None, 1, 2, -1]),
    }
)
IMPORTS = st.lists(st.tuples(st.lists(st.lists(VALUES, max_size=5), min_size=1, max_size=2), st.booleans()), max_size=3)


def apply(posts: dict[str, Stored], record: Record, *, update: bool) -> None:
    """Change the posts as an import of one record should."""
    if record["id"] is None or record["created_at"] == "soon":
        return
    likes = None if record["likes"] == -1 else record["likes"]
    new = (record["created_at"], record["text"], likes)
    time, text, count = posts.setdefault(record["id"].strip(), new)
    if update:
        posts[record["id"].strip()] = (new[0], new[1] or text, count if likes is None else likes)
    elif time == new[0] and text is None:
        posts[record["id"].strip()] = (time, new[1], count)


def check(stream: Stream, imports: Sequence[tuple[Sequence[Sequence[Record]], bool]]) -> None:
    stream = Stream(stream.project, next(STREAMS))
    expected: dict[str, Stored] = {}
    for files, update in imports:
        staged: dict[str, Stored] = {}  # the records of the files are settled first, then what comes of them
        for record in itertools.chain.from_iterable(files):
            apply(staged, record, update=update)
        for post_id, (time, text, likes) in staged.items():
            apply(expected, {"id": post_id, "created_at": time, "text": text, "likes": likes}, update=update)
        padding = [post(f"padding {number}") for number in range(sum(map(len, files)) * 10)]
        result = stream.imported(*files, padding, update=update)
        assert result.rows == sum(map(len, files)) + len(padding)
        counts(result)
    assert {key: values for key, values in stream.stored().items() if not key.startswith("padding")} == expected


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(imports=IMPORTS)
def test_every_row_is_counted_once(stream: Stream, imports: Any) -> None:
    check(stream, imports)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(imports=IMPORTS)
def test_every_row_is_counted_once_in_many_imports(stream: Stream, imports: Any) -> None:
    check(stream, imports)


@pytest.mark.soak
@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(imports=IMPORTS)
def test_every_row_is_counted_once_in_any_imports(stream: Stream, imports: Any) -> None:
    check(stream, imports)


# --- the staging place ----------------------------------------------------------------------------


def test_a_full_disk_is_one_line_that_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PostsError, match="database or disk is full. Free some space .* or set TMPDIR"):
        with staging.open_staging(update=False) as place:
            place._connection.execute("PRAGMA max_page_count = 3")
            place.add([(0, number, "a", f"{number:0100}", number, None, None, None, None) for number in range(1000)])


def test_nothing_is_left_behind_in_the_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    with staging.open_staging(update=False) as place:
        place._connection.execute("PRAGMA cache_size = 2")
        place.add([(0, number, "a", f"{number:0100}", number, "x" * 500, None, None, None) for number in range(1000)])
        assert list(tmp_path.iterdir()) == []  # its file is unlinked from the start, so that a kill leaves nothing
        assert len(place) == 1000
    with pytest.raises(sqlite3.ProgrammingError):
        len(place)
