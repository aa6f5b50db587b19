"""Sample posts: reproducible, and similar to a real account."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from retrainer.errors import RetrainerError
from retrainer.posts.sample import sample_posts, write_sample_csv
from tests.conftest import no_room_for_files
from tests.posts.reading import read_posts_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Runner

END = datetime(2024, 10, 31, tzinfo=UTC)


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    return sample_posts(count=20_000)


def hours_between(posts: pd.DataFrame) -> pd.Series[float]:
    hours: pd.Series[float] = posts["created_at"].diff().dropna().dt.total_seconds() / 3600
    return hours


def test_the_same_seed_gives_the_same_posts_on_every_platform(tmp_path: Path) -> None:
    write_sample_csv(tmp_path / "posts.csv", sample_posts())
    digest = hashlib.sha256((tmp_path / "posts.csv").read_bytes()).hexdigest()
    assert digest == "ca75e03b29042922d9fe037003f82385e96ad160f43919ee0b30926c47ae28df"
    write_sample_csv(tmp_path / "week.csv", sample_posts(working_week=True))
    digest = hashlib.sha256((tmp_path / "week.csv").read_bytes()).hexdigest()
    assert digest == "9d5d0186732e04a08fc8078055dbbf592d42baaab762fb061298c0250f467115"


def test_another_seed_gives_other_posts() -> None:
    assert not sample_posts(seed=1).equals(sample_posts(seed=2))
    assert sample_posts(seed=1).equals(sample_posts(seed=1))


def test_the_table_equals_an_imported_one(tmp_path: Path) -> None:
    posts = sample_posts()
    write_sample_csv(tmp_path / "posts.csv", posts)
    file = read_posts_file(tmp_path / "posts.csv", columns={}, now=END)
    assert (file.rows, file.rejected, file.repeated) == (400, [], 0)
    pd.testing.assert_frame_equal(file.posts, posts)


def test_the_csv_has_the_documented_columns(tmp_path: Path) -> None:
    write_sample_csv(tmp_path / "posts.csv", sample_posts(count=1))
    header, first = (tmp_path / "posts.csv").read_text(encoding="utf-8").splitlines()[:2]
    assert header == "id,created_at,text,replies_count,reblogs_count,favourites_count"
    assert first.startswith("sample-000001,20")


def test_posts_are_in_time_order_within_the_period() -> None:
    posts = sample_posts(count=300, days=30, end=END)
    assert len(posts) == 300
    assert posts["created_at"].is_monotonic_increasing
    assert posts["created_at"].min() >= END - timedelta(days=30)
    assert posts["created_at"].max() < END
    assert list(posts["post_id"][[0, 299]]) == ["sample-000001", "sample-000300"]


@pytest.mark.parametrize("days", [985, 1, 0.01])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_any_number_of_posts_fits_any_span(count: int, days: float) -> None:
    posts = sample_posts(count=count, days=days)
    assert len(posts) == count
    assert list(posts.dtypes) == list(sample_posts(count=3).dtypes)


def test_the_day_and_the_week_have_a_rhythm(many: pd.DataFrame) -> None:
    by_hour = many["created_at"].dt.hour.value_counts()
    assert by_hour[[20, 21, 22]].sum() > 5 * by_hour[[3, 4, 5]].sum()
    by_day = many["created_at"].dt.day_of_week.value_counts()
    assert by_day[5] > 1.5 * by_day[0]


def test_there_are_bursts_and_silences(many: pd.DataFrame) -> None:
    assert hours_between(many).max() > 48  # at over 800 posts a month, only a silence is that long
    waits = hours_between(sample_posts())
    assert (waits < 0.75).mean() > 0.2  # at one post in two days, only a burst is that close
    assert waits.median() < waits.mean() / 2


def test_posts_of_a_working_week_come_at_noon_and_in_the_evening() -> None:
    posts = sample_posts(count=2_000, working_week=True)
    assert len(posts) == 2_000
    assert posts["created_at"].is_monotonic_increasing
    assert posts["created_at"].max() < END
    assert posts["created_at"].dt.hour.isin([11, 12, 13, 18, 19, 20]).mean() > 0.9
    assert (posts["created_at"].dt.day_of_week < 5).mean() > 0.9
    waits = hours_between(posts)
    assert 0.15 < (waits < 0.5).mean() < 0.4, "threads"
    assert waits.max() > 5 * 24, "holidays"
    assert sample_posts(count=50, working_week=True).equals(sample_posts(count=50, working_week=True))


def test_texts_vary_and_some_are_missing(many: pd.DataFrame) -> None:
    texts = many["content"].dropna()
    assert 0.03 < many["content"].isna().mean() < 0.08
    assert texts.nunique() > len(texts) / 2
    assert texts.str.len().quantile(0.9) > 3 * texts.str.len().quantile(0.1)
    for part in ("https://example.org/", " #", '"', ",", "\n"):
        assert 0.05 < texts.str.contains(part, regex=False).mean() < 0.95, part
    assert texts.str.count("://").equals(texts.str.count("://example.org/"))


def test_texts_follow_the_seasons(many: pd.DataFrame) -> None:
    posts = many.dropna(subset=["content"])
    about = posts["content"].str.contains("Orion", regex=False)
    assert set(posts["created_at"].dt.month[about]) == {12, 1, 2}


def test_invalid_arguments_are_refused() -> None:
    for wrong in ({"count": -1}, {"days": 0}, {"end": datetime(2024, 1, 1)}):  # noqa: DTZ001  the point
        with pytest.raises(ValueError, match="sample_posts needs"):
            sample_posts(**wrong)


def test_an_unwritable_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RetrainerError, match=r"cannot write '.*posts\.csv'"):
        write_sample_csv(tmp_path / "none" / "posts.csv", sample_posts(count=1))


def test_a_full_disk_leaves_no_part_of_a_sample(tmp_path: Path) -> None:
    with no_room_for_files(), pytest.raises(RetrainerError, match=r"cannot write '.*posts\.csv'"):
        write_sample_csv(tmp_path / "posts.csv", sample_posts())
    assert not list(tmp_path.iterdir())


def test_a_sample_overwrites_no_file(tmp_path: Path, retrainer: Runner) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("mine")
    done = retrainer("posts", "sample", str(file), cwd=tmp_path)
    assert (done.code, file.read_text()) == (2, "mine")
    assert "exists" in done.err
