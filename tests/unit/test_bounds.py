"""A document of too many values, or too deep, is refused by its bytes; strings do not count, whatever they hold."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_cli.bundle.bounds import MAX_DEPTH, MAX_OBJECTS, MAX_VALUES, require_bounded
from ingest_cli.errors import MetadataError

# Strings that look like structure to one who does not tell them apart.
TRICKY = st.text(st.sampled_from('[]{}",:\\ u005b\n é測😀'), max_size=12)
SHALLOW = st.lists(TRICKY | st.dictionaries(TRICKY, TRICKY | st.none(), max_size=2), max_size=4)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
MIB = 1 << 20


def nested(levels: int, around: list[Any]) -> list[Any]:
    """Lists and objects in one another, so many levels deep, each with shallow values around it."""
    value: list[Any] = []
    for level in range(levels - 1):
        value = [*around, {"k": value, "].": "]"} if level % 2 else value, *around]
    return value


def depth(value: Any) -> int:
    inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@given(st.integers(MAX_DEPTH // 2, MAX_DEPTH), SHALLOW, ENCODINGS, st.booleans(), st.sampled_from([None, 1]))
def test_the_depth_is_told_exactly(
    levels: int, around: list[Any], encoding: str, ensure_ascii: bool, indent: int | None
) -> None:
    value = nested(levels, around)
    raw = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent).encode(encoding)
    if depth(value) > MAX_DEPTH:
        with pytest.raises(MetadataError, match="nested too deeply"):
            require_bounded(raw)
    else:
        require_bounded(raw)


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("value", "limit", "saying"),
    [
        (b"{}", MAX_OBJECTS - 1, "objects and lists"),  # the list that they stand in is one too
        (b'{"[": "}\\"{"}', MAX_OBJECTS - 1, "objects and lists"),
        (b"0", MAX_VALUES + 1, "values"),
        (b'","', MAX_VALUES + 1, "values"),
    ],
)
def test_the_count_is_told_exactly(value: bytes, limit: int, saying: str) -> None:
    require_bounded(b"[" + (value + b",") * (limit - 1) + value + b"]")
    with pytest.raises(MetadataError, match=saying):
        require_bounded(b"[" + (value + b",") * limit + value + b"]")


@pytest.mark.sweep
@pytest.mark.parametrize(
    "make",
    [
        lambda: b"[" + b"{}," * (16 * MIB),
        lambda: b"[" * (48 * MIB),
        lambda: b"[" * (24 * MIB) + b"]" * (24 * MIB),
        lambda: b"[" + b'"[",' * (12 * MIB),
        lambda: b'["' + b'\\"' * (24 * MIB),
        lambda: b'["' + b"\\" * (48 * MIB),
        lambda: b'"' * (48 * MIB),
        lambda: b'"[' * (24 * MIB),
        lambda: (b"[" * 30 + b"]" * 30 + b",") * 60_000,
    ],
)
def test_whatever_it_is_it_takes_no_time(make: Callable[[], bytes]) -> None:
    raw = make()
    began = time.process_time()
    with suppress(MetadataError):
        require_bounded(raw)
    assert time.process_time() - began < 3  # it is 0.2 s


@given(st.binary(max_size=40) | st.text(st.sampled_from('[]{}",:\\ 0\x00\ufeff'), max_size=40).map(str.encode))
def test_any_bytes_are_bounded_or_refused(raw: bytes) -> None:
    with suppress(MetadataError):
        require_bounded(raw)


def test_what_is_not_the_encoding_that_it_begins_with() -> None:
    with pytest.raises(MetadataError, match=r"is not UTF-16 \(byte 4\)"):
        require_bounded(b"\xff\xfe[\x00]")
