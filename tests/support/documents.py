"""Documents that no client writes, made from a good one by hypothesis."""

import copy
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from ingest_cli.bundle.metadata import MAX_ID

from .bundles import FILES, document_for, file_record

# Stands for a number that only text can hold.
BEYOND = 987654321
ODD: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([None, True, False, 0, -1, 10, 12.0, 1.5, BEYOND, [], {}, [[]], {"a": [None]}]),
    st.sampled_from([2**31, MAX_ID, MAX_ID + 1, -MAX_ID - 2, 10**400, 1e30, 253402300800, -62135596801]),
    st.sampled_from(
        ["", "10", "9" * 40, "..", "a/b", "../b", "sha1:", "md5", "text/plain", "\0", "\ud800", "\ud83d\ude00"]
    ),
    st.sampled_from(["é" * 5000, "/" * 5000, "../" * 5000, "x" * 50_000]),
    st.integers() | st.floats() | st.text(max_size=5),
)
GOOD = [
    *document_for(FILES),
    file_record("data/numbered", b"n", _id=1),
    {"destinationTable": "FileKeyValue", "key": "k", "value": "v", "file_id": 1},
    {"destinationTable": "Transactions._id", "value": 1},
]
GOOD_RAW = json.dumps(GOOD).encode()
Place = tuple[int, str]
PLACES = [(number, key) for number, record in enumerate(GOOD) for key in [*record, "_id", "source", "other"]]


@st.composite
def odd_documents(draw: st.DrawFn, places: Sequence[Place] = PLACES) -> bytes:
    """A good document with odd values in some of the places."""
    records = copy.deepcopy(GOOD)
    for (number, key), value in draw(st.lists(st.tuples(st.sampled_from(places), ODD), min_size=1, max_size=3)):
        records[number][key] = value
    return json.dumps(records).replace(str(BEYOND), "1e400").encode()


@st.composite
def mangled_documents(draw: st.DrawFn) -> bytes:
    """The bytes of a good document, changed, repeated and cut."""
    raw = bytearray(GOOD_RAW)
    edits = st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255), st.integers(0, 40))
    for position, value, repeated in draw(st.lists(edits, max_size=6)):
        raw[position] = value
        raw[position:position] = raw[position - repeated : position]
    return bytes(raw[: draw(st.integers(0, 2 * len(GOOD_RAW)))])
