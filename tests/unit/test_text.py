"""How numbers, times and names from outside are put into words."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_cli.text import (
    MOST_KEPT,
    MOST_SHOWN,
    as_json,
    counted,
    duration,
    listed,
    number_of,
    one_line,
    printable,
    quoted,
    story,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("data/plain name.txt", "data/plain name.txt"),
        ("data/日本語「」.txt", "data/日本語「」.txt"),
        ("\x1b]0;a title\x07", "\\x1b]0;a title\\x07"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("gnp.\u202etxt", "gnp.\\u202etxt"),
        ("latin-\udce9", "latin-\\xe9"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).isprintable()


def test_a_long_name_is_quoted_by_its_two_ends() -> None:
    assert quoted("data/a'b") == '''"data/a'b"'''
    assert quoted("a" * 10_000_000 + "z", most=10) == "'aaaaa'...'aaaaz' (10,000,001 characters)"
    assert quoted(b"\x00" * 500, most=4) == r"b'\x00\x00'...b'\x00\x00' (500 bytes)"
    assert len(quoted(list(range(100_000)), most=50)) < 60


def test_a_long_list_says_how_many_more_there_are() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(number) for number in range(100_000)], most=2) == "0, 1, and 99,998 more"


@given(st.text() | st.text("a\n\x1b", min_size=1).map(lambda text: text * MOST_SHOWN))
def test_a_line_is_printable_and_short_and_shown_as_it_is_from_then_on(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= MOST_SHOWN
    assert one_line(line) == line


def test_a_very_long_line_is_shown_by_its_two_ends() -> None:
    line = one_line(f"cannot read {'a' * 10_000_000}: no such file")
    assert line.startswith("cannot read aaa")
    assert line.endswith("a: no such file (10,000,026 characters)")
    assert len(one_line("\x1b" * 10_000_000)) <= MOST_SHOWN


def test_a_story_keeps_its_lines_and_is_bounded() -> None:
    assert story("why\nand \x1b what") == "why\nand \\x1b what"
    told = story("\n".join(f"line {number}" for number in range(100_000)))
    assert len(told) <= MOST_KEPT
    assert told.startswith("line 0\nline 1\n")


def test_json_is_printable_too() -> None:
    assert as_json({"a": "é\x7f\x1b\udce9"}) == '{"a": "\\u00e9\\u007f\\u001b\\udce9"}'
    assert json.loads(as_json("\x7f")) == "\x7f"


def test_numbers_and_times() -> None:
    assert (counted(1, "file"), counted(20_000, "entry", "entries")) == ("1 file", "20,000 entries")
    assert (duration(0.44), duration(185), duration(7800)) == ("0.4 s", "3 min 5 s", "2 h 10 min")


def test_a_number_is_of_plain_digits() -> None:
    assert [number_of(text) for text in ("0", "007", "9" * 18)] == [0, 7, 10**18 - 1]
    assert {number_of(text) for text in ("", "-1", "+1", " 1", "1.0", "1_0", "²", "٣", "9" * 19)} == {None}
