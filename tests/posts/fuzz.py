"""Import mutated files; run by test_fuzz.py as a process: fuzz.py SEED NUMBER_OF_FILES FOLDER.

Each file follows from the seed and its number alone. The process ends with 1 and keeps the file in FOLDER if an import
ends in an exception that is not ours, does not count every row once, takes too much memory, or hangs.
"""

from __future__ import annotations

import bz2
import faulthandler
import gzip
import io
import logging
import lzma
import random
import resource
import sys
import traceback
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer import errors
from retrainer.posts.conversion import ConversionOptions
from retrainer.posts.importer import ImportOptions, ImportResult, import_posts
from retrainer.posts.readers import ReadOptions
from tests.conftest import NOW, open_project
from tests.posts.test_kinds_of_files import CASES, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrainer.project import Project

HANG_SECONDS = 120  # an import takes some milliseconds; this is a hang, even on a busy machine
MEGABYTES = 1000  # of memory at most; an import of one of these files takes a fraction of it
TOKENS = [
    *(
        b'"',
        b"'",
        b",",
        b";",
        b"\t",
        b"\n",
        b"\r",
        b"\r\n",
        b"\0",
        b"\xff",
        b"\xfe",
        b"\xef\xbb\xbf",
        b"\x1a",
        b"\\",
        b"|",
    ),
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b"null",
        b"true",
        b"NaN",
        b"1e999",
        b"-0",
        b"1" * 5000,
        b"0.",
        b"\\ud800",
        b"\\u0000",
    ),
    *(b"<p>", b"<div>", b"</", b"<![CDATA[", b"<!--", b"&amp;", b"&#0;", b"&#x110000;", b"&", b"<?xml version='1.1'?>"),
    *(
        b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
        b"sep=;",
        b"=1+1",
        b"id",
        b"created_at",
        b"text",
        b"tweet",
        b"messages",
        b"*",
        b".",
    ),
    *(
        b"2024-01-05",
        b"13/13/2024",
        b"01/02/2003",
        b"20240105100000",
        b"99999999999999999999",
        b"2024-01-05T10:00:00+99:99",
    ),
    *(
        b"45296.5",
        b" UTC",
        b"[Europe/Paris]",
        b"AM",
        b"\xc3\xa9",
        "Ã©Â".encode(),
        b"\xf0\x9f\x91\x8d",
        "\u202e\u2028".encode(),
    ),
    *(
        b"PK\x03\x04",
        b"PAR1",
        b"\x1f\x8b\x08",
        b"BZh9",
        b"\xfd7zXZ\0",
        b"\x28\xb5\x2f\xfd",
        b"window.YTD.tweets.part0 = ",
    ),
]
OPTIONS = {
    "delimiter": [None] * 8 + [",", ";", "\t", "|", "x", "", "ab", '"', "\n", "\0", "é"],
    "encoding": [None] * 8
    + ["utf-8", "utf-16", "cp1252", "utf-7", "idna", "base64", "nonsense", "", "utf_8_sig", "punycode"],
    "records": [None] * 8 + [".", "*", "messages", "orderedItems", "a.b", "", "..", "0", "*.*"],
    "time_format": [None] * 8 + ["DMY", "MDY", "YMD", "%Y-%m-%d", "%d/%m/%Y %H:%M", "%c", "%Y%m%d"],
    "timezone": [None] * 8 + ["Europe/Berlin", "America/New_York", "+05:30", "UTC"],
}
COLUMNS: list[dict[str, str]] = [{}] * 8 + [
    {"content": "body.text"},
    {"created_at": "date + time"},
    {"post_id": "id | text"},
    {"content": "text.0"},
]
NAMES = [
    "a.csv",
    "a.tsv",
    "a.txt",
    "a",
    "a.json",
    "a.jsonl",
    "a.js",
    "a.parquet",
    "a.xlsx",
    "a.xml",
    "a.zip",
    "a.csv.gz",
    "a.zst",
]
FEED = """<?xml version="1.0"?><rss version="2.0"><channel><title>t</title><item><guid>1</guid><title>one</title>
<pubDate>Fri, 05 Jan 2024 10:00:00 GMT</pubDate><description>&lt;p&gt;a</description></item></channel></rss>"""
LOG = f"commit {'0123456789' * 4}\nAuthor: A <a@b.example>\nDate:   Fri Jan 5 10:00:00 2024 +0100\n\n    one\n"


def table_files() -> list[tuple[str, bytes]]:
    """Return files of kinds that are no text."""
    import openpyxl
    import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

    parquet, workbook = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.table({"id": ["1", "2"], "created_at": pa.array([NOW, NOW]), "text": ["a", None]}), parquet)
    book = openpyxl.Workbook()
    sheet = book.create_sheet("posts", 0)
    for row in (["id", "created_at", "text"], [1, NOW.replace(tzinfo=None), "a"], [2, 45296.5, "=1+1"]):
        sheet.append(row)
    book.save(workbook)
    return [("a.parquet", parquet.getvalue()), ("a.xlsx", workbook.getvalue())]


SEEDS = [
    *((case.name, encode(case.content)) for case in CASES),
    *table_files(),
    ("a.xml", FEED.encode()),
    ("a.log", LOG.encode()),
]
PACKERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    (".gz", gzip.compress),
    (".bz2", bz2.compress),
    (".xz", lzma.compress),
]
REENCODINGS = ["utf-16", "utf-16-be", "utf-32", "utf-8-sig", "cp1252", "latin-1", "utf-7"]


def mutate(draw: random.Random, content: bytes) -> bytes:
    """Return the bytes with one change."""
    start = draw.randrange(len(content) + 1)
    end = min(len(content), start + draw.choice([1, 2, 8, 64, 1000]))
    token = draw.choice(TOKENS)
    old = draw.choice([known for known in TOKENS if known in content] or [b"\n"])
    other = draw.choice(SEEDS)[1]
    changes: list[Callable[[], bytes]] = [
        lambda: content[:start] + bytes([draw.randrange(256)]) + content[start + 1 :],
        lambda: content[:start] + content[end:],
        lambda: content[:end] + content[start:end] * draw.choice([1, 3, 50, 1000]) + content[end:],
        lambda: content[:start],
        lambda: content[:start] + other[draw.randrange(len(other)) :],
        lambda: content[:start] + token * draw.choice([1000, 30_000]) + content[start:],
        lambda: content.replace(old, token, draw.choice([1, -1])),
        *[lambda: content[:start] + token + content[start:]] * 3,
    ]
    return draw.choice(changes)()


def make_file(draw: random.Random) -> tuple[str, bytes]:
    """Return the name and the content of a mutated file."""
    name, content = draw.choice(SEEDS)
    for _ in range(draw.choice([0, 1, 1, 2, 3, 8])):
        content = mutate(draw, content)[:3_000_000]
    if draw.random() < 0.1:
        content = content.decode("utf-8", "replace").encode(draw.choice(REENCODINGS), "replace")
    if draw.random() < 0.1:
        suffix, pack = draw.choice(PACKERS)
        name, content = name + suffix, pack(content)
    elif draw.random() < 0.1:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as packed:
            for member in (name, *draw.sample(["data/tweets.js", "b.csv", "../c.csv", "README", "d/"], 2)):
                packed.writestr(member, content)
        name, content = "a.zip", archive.getvalue()
    if draw.random() < 0.1:
        content = mutate(draw, content)
    if draw.random() < 0.1:
        name = draw.choice(NAMES)
    return name, content


def make_options(draw: random.Random) -> ImportOptions:
    """Return options of the command."""
    reading = ReadOptions(
        delimiter=draw.choice(OPTIONS["delimiter"]),
        encoding=draw.choice(OPTIONS["encoding"]),
        records=draw.choice(OPTIONS["records"]),
    )
    columns = draw.choice(COLUMNS)
    conversion = ConversionOptions(columns, draw.choice(OPTIONS["time_format"]), draw.choice(OPTIONS["timezone"]))
    return ImportOptions(reading, conversion, update=draw.random() < 0.2, allow_rejects=draw.random() < 0.5)


def require_accounted(result: ImportResult) -> None:
    parts = (result.added, result.updated, result.unchanged, result.clashing, result.repeated, result.rejected)
    assert sum(parts) + result.excluded.total() == result.rows, f"{parts} of {result.rows} rows"


def import_one(project: Project, seed: str, number: int, folder: Path) -> None:
    draw = random.Random(f"{seed} {number}")  # noqa: S311  no secret
    name, content = make_file(draw)
    path = folder / name
    path.write_bytes(content)
    options = make_options(draw)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
    try:
        require_accounted(import_posts(project.posts, [path], options, NOW))
    except errors.RetrainerError as error:
        if "\n" in str(error):
            raise
    finally:
        faulthandler.cancel_dump_traceback_later()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if after > MEGABYTES * 1024 and after > before:
        raise MemoryError(f"{after // 1024} MB, {before // 1024} MB before")
    path.unlink()


def main(seed: str, num_files: int, folder: Path) -> int:
    logging.disable()
    project = open_project(folder)
    for number in range(num_files):
        print(number, file=sys.stderr, flush=True)  # noqa: T201  the last one is the one that hangs
        try:
            import_one(project, seed, number, folder)
        except Exception:  # noqa: BLE001  it is what we look for
            print(f"file {number} of seed {seed}:\n{traceback.format_exc()}")  # noqa: T201
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
