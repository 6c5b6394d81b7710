"""What is printed commands nothing of what shows it, whatever the stream's encoding."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_cli.streams import Guarded, unguarded

ENCODINGS = ("utf-8", "ascii", "latin-1")


def written(encoding: str, *texts: str) -> str:
    binary = io.BytesIO()
    stream = Guarded(binary, encoding, line_buffering=False)
    for text in texts:
        print(text, file=stream)
    stream.flush()
    return binary.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(text=st.text(st.characters(exclude_characters="\n\t")))
def test_a_line_is_a_printable_line(encoding: str, text: str) -> None:
    line = written(encoding, text)
    assert line.endswith("\n")
    assert line[:-1].isprintable()


def test_what_can_be_shown_is_shown() -> None:
    assert written("utf-8", "é 日本 \u0301") == "é 日本 \u0301\n"
    assert written("latin-1", "é 日本") == "é \\u65e5\\u672c\n"
    assert written("ascii", "é 日本") == "\\xe9 \\u65e5\\u672c\n"
    assert written("utf-8", "a\tb\nc") == "a\tb\nc\n"


def test_a_display_draws_on_the_same_stream() -> None:
    binary = io.BytesIO()
    stream = Guarded(binary, "ascii", line_buffering=True)
    display = unguarded(stream)
    print("\x1b[1mbold\x1b[0m é", file=display)
    print("\x1b[1mno\x1b[0m", file=stream)
    assert binary.getvalue() == b"\x1b[1mbold\x1b[0m \\xe9\n\\x1b[1mno\\x1b[0m\n"
    assert display.encoding == "ascii"
