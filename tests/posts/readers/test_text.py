"""Text of any encoding, found by its beginning or its bytes."""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING

import pytest

from retrainer.errors import UsageError
from tests.posts.readers.reading import error_of, ids, posts, read

if TYPE_CHECKING:
    from pathlib import Path

TABLE = "id,text\n" + "".join(f"{number},plain\n" for number in range(9)) + "9,one “two” 😀 é\n"


@pytest.mark.parametrize(
    ("encoding", "mark", "detected"),
    [
        ("utf-8", b"", ()),
        ("utf-8", codecs.BOM_UTF8, ()),
        ("utf-16-le", codecs.BOM_UTF16_LE, ("encoding UTF-16",)),
        ("utf-16-be", codecs.BOM_UTF16_BE, ("encoding UTF-16",)),
        ("utf-16-le", b"", ("encoding UTF-16",)),
        ("utf-16-be", b"", ("encoding UTF-16",)),
        ("utf-32-le", codecs.BOM_UTF32_LE, ("encoding UTF-32",)),
        ("utf-32-be", codecs.BOM_UTF32_BE, ("encoding UTF-32",)),
    ],
)
def test_unicode_is_recognised_with_or_without_a_mark(
    tmp_path: Path, encoding: str, mark: bytes, detected: tuple[str, ...]
) -> None:
    content = read(tmp_path / "posts.csv", mark + TABLE.encode(encoding))
    assert (content.columns, content.rows[-1]["text"], content.detected) == (["id", "text"], "one “two” 😀 é", detected)
    records = [{"id": 1, "text": "😀 é"}, {"id": 2, "text": "x"}]
    for name, text in (
        ("posts.json", json.dumps(records, ensure_ascii=False)),
        ("posts.jsonl", "\n".join(json.dumps(record, ensure_ascii=False) for record in records)),
    ):
        content = read(tmp_path / name, mark + text.encode(encoding))
        assert (content.rows, content.detected) == (records, detected)


@pytest.mark.parametrize("text", ["Café", "“so” – and…", "Schöne Grüße aus Köln", "El niño comió. ¿Qué?", "50 €", "é"])
@pytest.mark.parametrize("before", [0, 10_000])
def test_western_text_that_is_not_utf_8_is_windows_1252(tmp_path: Path, text: str, before: int) -> None:
    table = "id,text\n" + "0,plain\n" * before + f"1,{text}\n2,plain\n"
    content = read(tmp_path / "posts.csv", table.encode("cp1252"))
    assert (content.rows[before]["text"], content.detected) == (text, ("encoding Windows-1252",))


@pytest.mark.parametrize(
    ("text", "encoding", "name"),
    [
        ("“Don't” – it's fine… café", "mac_roman", "Mac Roman"),
        ("A população não gostou da eleição", "mac_roman", "Mac Roman"),
        ("A população não gostou da eleição", "cp1252", "Windows-1252"),
        ("Był bardzo mały ale dziś świeci słońce", "cp1250", "Windows-1250"),
    ],
)
def test_latin_text_is_read_in_the_encoding_that_makes_words(
    tmp_path: Path, text: str, encoding: str, name: str
) -> None:
    content = read(tmp_path / "posts.csv", ("id,text\n" + f"1,{text}\n" * 5).encode(encoding))
    assert (content.rows[0]["text"], content.detected) == (text, (f"encoding {name}",))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("Привет как дела? Это проверка текста", "cp1251"), ("こんにちは世界、これはテストです", "cp932")],
)
def test_text_in_other_letters_is_found_by_its_statistics(tmp_path: Path, text: str, encoding: str) -> None:
    content = read(tmp_path / "posts.csv", ("id,text\n" + f"1,{text}\n" * 5).encode(encoding))
    assert (content.rows[0]["text"], content.detected) == (text, (f"encoding {encoding}",))


def test_a_given_encoding_overrules(tmp_path: Path) -> None:
    content = read(tmp_path / "posts.csv", "id,text\n1,Zażółć\n".encode("cp1250"), encoding="windows-1250")
    assert (content.rows[0]["text"], content.detected) == ("Zażółć", ())
    content = read(tmp_path / "posts.csv", codecs.BOM_UTF8 + b"id\n1\n", encoding="UTF8")
    assert content.columns == ["id"]
    for encoding in ("utf-9", "hex", "\0"):
        with pytest.raises(UsageError, match=r"^unknown encoding '.*'\. Examples: utf-8, utf-16, cp1252$"):
            read(tmp_path / "posts.csv", encoding=encoding)


@pytest.mark.parametrize("name", ["posts.csv", "posts.jsonl", "posts.json"])
def test_damaged_utf_8_is_an_error_that_names_the_line(tmp_path: Path, name: str) -> None:
    lines = [b'"\xc3\xa9\xc3\xa9"', *[b'"plain"'] * 20_000, b'"\xe9"', b'"\xc3\xa9"']
    said = f"'{name}' is not UTF-8 text: line 20002 cannot be decoded."
    assert error_of(tmp_path / name, b"\n".join(lines)).startswith(said)
    assert error_of(tmp_path / name, b"\r\n".join(lines)).startswith(said)
    cut = b"\n".join([*lines[:-2], b'"\xc3'])
    assert error_of(tmp_path / name, cut).startswith(said)


def test_a_wrong_encoding_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    said = error_of(tmp_path / "posts.csv", "id\n1\né\n", encoding="ascii")
    assert said.startswith("'posts.csv' is not ascii text: line 3 cannot be decoded. Save it as UTF-8, or name its")


def test_other_line_separators_of_unicode_do_not_end_a_line(tmp_path: Path) -> None:
    text = "a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g"
    content = read(tmp_path / "posts.csv", f"id,text\n1,{text}\n2,x\n")
    assert (content.rows[0]["text"], content.lines) == (text, [2, 3])
    lines = "\n".join(json.dumps({**post, "text": text}, ensure_ascii=False) for post in posts(1, 2))
    assert ids(read(tmp_path / "posts.jsonl", lines)) == [1, 2]


@pytest.mark.parametrize("name", ["posts.csv", "posts.tsv", "posts.json", "posts.jsonl", "posts"])
@pytest.mark.parametrize("content", ["", "\ufeff", "\n\n", " "])
def test_a_file_without_content_is_an_error(tmp_path: Path, name: str, content: str) -> None:
    if (content == " " and "." not in name) or (content == " " and "sv" in name):
        return
    said = f"'{name}' is empty. Choose a file with at least a header or a record"
    assert error_of(tmp_path / name, content) == said
