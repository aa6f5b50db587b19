"""The metadata of a Parquet file, which may be wrong."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
import pytest

from retrainer.posts.readers.parquet_pages import read_pages, read_row_groups

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_chunks_and_pages_are_as_arrow_wrote_them(
    tmp_path: Path, version: str, compression: str, dictionary: bool
) -> None:
    columns = {f"column {number}": [f"{number} {row % 50}" * 20 for row in range(3_000)] for number in range(20)}
    options = {"data_page_version": version, "compression": compression, "use_dictionary": dictionary}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=1_000, data_page_size=2_000, **options)
    metadata = pq.ParquetFile(tmp_path / "a.parquet").metadata
    with (tmp_path / "a.parquet").open("rb") as binary:
        groups = list(read_row_groups(binary))
        assert len(groups) == metadata.num_row_groups == 3
        for index, group in enumerate(groups):
            for number, chunk in enumerate(group):
                expected = metadata.row_group(index).column(number)
                assert (chunk.column, chunk.values) == (expected.path_in_schema, expected.num_values)
                pages = list(read_pages(binary, chunk))
                # Arrow counts the headers of pages too.
                assert 0 < expected.total_uncompressed_size - sum(page.size for page in pages) < 200 * len(pages)


def test_encodings_that_repeat_the_beginnings_of_texts_are_found_in_the_pages(tmp_path: Path) -> None:
    table = pa.table({"a": ["x"] * 9, "b": ["x"] * 9})
    encoding = {"a": "DELTA_BYTE_ARRAY", "b": "PLAIN"}
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False, column_encoding=encoding)
    with (tmp_path / "a.parquet").open("rb") as binary:
        [[first, second]] = read_row_groups(binary)
        assert [page.repeats for chunk in (first, second) for page in read_pages(binary, chunk)] == [True, False]


DAMAGE = """
import sys
from pathlib import Path
from retrainer.config import PostsLimits
from retrainer.errors import PostsError
from retrainer.posts.readers import find_posts_files

path = Path(sys.argv[1])
whole = path.read_bytes()
refused = 0
for position in range(len(whole) - int(sys.argv[2]), len(whole)):
    for bit in (1, 64):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :])
        try:
            for file in find_posts_files([path], PostsLimits()):
                with file.open() as table:
                    list(table.rows(table.columns))
        except PostsError:
            refused += 1
print(refused)
"""


@pytest.mark.slow
def test_a_damaged_footer_never_ends_the_process(tmp_path: Path) -> None:
    table = pa.table({"id": [1, None], "date": ["2024-01-01", None], "text": ["a", None]})
    pq.write_table(table, tmp_path / "a", write_page_index=True)
    size = (tmp_path / "a").stat().st_size
    command = [sys.executable, "-c", DAMAGE, str(tmp_path / "a"), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > size // 4
