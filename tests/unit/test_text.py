"""How numbers, times and names from outside are put into words."""

import pytest

from ingest_cli.text import counted, duration, listed, printable, quoted


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


def test_numbers_and_times() -> None:
    assert (counted(1, "file"), counted(20_000, "entry", "entries")) == ("1 file", "20,000 entries")
    assert (duration(0.44), duration(185), duration(7800)) == ("0.4 s", "3 min 5 s", "2 h 10 min")
