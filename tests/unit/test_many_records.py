"""What is kept of very many records and members, in little memory, is what was put in; wherever a document is cut, the
same is read of it as if it were parsed at once."""

import hashlib
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest_cli.bundle.bounds import as_utf8, require_bounded
from ingest_cli.bundle.compact import MOST_LOOSE, VALUES_A_BLOCK, CompactList
from ingest_cli.bundle.entries import Entries
from ingest_cli.bundle.fingerprint import Found
from ingest_cli.bundle.json_list import JsonList
from ingest_cli.bundle.members import Members
from ingest_cli.bundle.metadata import Document
from ingest_cli.bundle.pack_rules import Reason
from ingest_cli.bundle.tar import Member
from ingest_cli.bundle.tree import Entry
from ingest_cli.errors import IngestError, MetadataError

from ..support.bundles import file_record, transaction
from ..support.documents import mangled_documents, odd_documents

# Strings that end where they do not seem to, or begin what goes on behind a cut.
TEXTS = st.text(st.sampled_from('}]{[",\\u0d8a/ é測😀\n'), max_size=6)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.just(10**40) | st.booleans() | st.none()
VALUES = st.recursive(TEXTS | NUMBERS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner))
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
# Where two things are wrong, either may be said.
SAID_LATER = ("(byte", "NUL", "surrogate", "two values", "out of range", "is not a JSON number", "digits")


@st.composite
def lists(draw: st.DrawFn) -> bytes:
    """A list in JSON, as one or the other client may write it."""
    values = draw(st.lists(VALUES, max_size=4))
    text = json.dumps(values, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
    return (draw(st.sampled_from(["", " \n", "\t"])) + text).encode(draw(st.sampled_from(ENCODINGS)))


@st.composite
def broken_lists(draw: st.DrawFn) -> bytes:
    """What may have been such a list."""
    raw = draw(lists())
    start, end = sorted((draw(st.integers(0, len(raw))), draw(st.integers(0, len(raw)))))
    return raw[:start] + draw(st.sampled_from([b"", b",", b"]", b"}", b'"', b"\xff", b"1e999", b"\\u0000"])) + raw[end:]


def whole(raw: bytes) -> list[Any]:
    """What a document lists, parsed at once."""
    text = as_utf8(raw)
    require_bounded(text)
    try:
        values = json.loads(text.decode("utf-8-sig"), object_pairs_hook=_object, parse_float=_finite)
    except UnicodeDecodeError as error:
        start = error.start + (3 if text.startswith(b"\xef\xbb\xbf") else 0)
        raise MetadataError(f"the metadata is not UTF-8 (byte {start})") from None
    except json.JSONDecodeError as error:
        raise MetadataError(f"the metadata is not JSON: {error}") from None
    except ValueError as error:
        raise MetadataError(f"{error}: two values, out of range or digits") from None
    if not isinstance(values, list):
        raise MetadataError("the metadata is not a list of records")
    return values


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError(pairs)
    return dict(pairs)


def _finite(text: str) -> float:
    if float(text) in (float("inf"), float("-inf")):
        raise ValueError(text)
    return float(text)


def read(pieces: list[bytes], characters: int) -> list[Any] | str:
    try:
        return list(JsonList(iter(pieces), characters=characters))
    except MetadataError as error:
        return str(error)


@pytest.mark.parametrize("examples", [25, pytest.param(1000, marks=pytest.mark.sweep)])
def test_wherever_it_is_cut_the_same_is_read(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(lists() | broken_lists(), st.integers(1, 9))
    @example(b'[{"a": "}"}, "}", {"b": "\\\\}"}, 12]', 1)
    @example(b'[{"a": {}} ,\n {"a": []}]\n ', 1)
    @example(b'[{"a": 1}, {"a": }]', 1)
    @example("\ufeff[{}]".encode("utf-16-le"), 1)
    def holds(raw: bytes, characters: int) -> None:
        require_read_alike(raw, characters)

    holds()
    require_read_alike(b"[" + b"1" * 400 + b".5e-399, {}]", 40)


def require_read_alike(raw: bytes, characters: int) -> None:
    try:
        expected: list[Any] | str = whole(raw)
    except MetadataError as error:
        expected = str(error)
    for cut in range(0, len(raw) + 1, 1 + len(raw) // 60):
        require_alike(read([raw[:cut], raw[cut:]], characters), expected)
    require_alike(read([raw[at : at + 1] for at in range(len(raw))], 1), expected)


def require_alike(found: list[Any] | str, expected: list[Any] | str) -> None:
    if isinstance(found, str) and any(said in found or said in expected for said in SAID_LATER):
        assert isinstance(expected, str) or "NUL" in found or "surrogate" in found
    elif isinstance(found, str) and isinstance(expected, str) and "trailing comma" in expected:
        assert found.startswith("the metadata is not JSON")  # as newer versions of Python say of it
    else:
        assert json.dumps(found) == json.dumps(expected)


def read_document(document: Document, problems: list[IngestError]) -> tuple[Any, ...]:
    """All that can be seen of it."""
    return (
        *(list(document.records), list(document.given), list(document.files), list(map(str, problems))),
        *(document.total_bytes, document.is_plain, list(document.numbered(7, 70))),
        *(list(document.key_values()), list(document.file_key_values(5))),
    )


@settings(max_examples=60, deadline=None)
@given(odd_documents() | mangled_documents(), st.integers(1, 400))
def test_a_document_in_pieces_is_that_of_its_records(raw: bytes, length: int) -> None:
    problems: list[IngestError] = []
    pieces = [raw[at : at + length] for at in range(0, len(raw), length)]
    try:
        listed = list(JsonList([raw]))
    except MetadataError:
        with pytest.raises(MetadataError):
            Document.parse(pieces, problems.append)
        return
    document = Document.parse(pieces, problems.append)
    assert document.digest == hashlib.sha256(raw).hexdigest()
    found = read_document(document, problems)
    problems = []
    assert found == read_document(Document.of(listed, problems.append), problems)


def test_an_object_that_never_ends_is_given_up() -> None:
    def pieces() -> Iterator[bytes]:
        yield b'[{"a": "'
        while True:
            yield b"x" * (1 << 20)

    with pytest.raises(MetadataError, match=r"metadata record 0 is longer than 67.1 MB, or is no JSON object"):
        list(JsonList(pieces()))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(VALUES, max_size=5),
    st.integers(0, 3 * VALUES_A_BLOCK) | st.just(MOST_LOOSE + 1),
    st.sets(st.integers(0, 1500)),
)
def test_what_was_compressed_is_got_back(values: list[Any], count: int, ends: set[int]) -> None:
    compact, expected = CompactList[Any](), [*values, *range(count)]
    for number, value in enumerate(expected):
        compact.append(value)
        if number in ends:
            compact.compress()
    assert (list(compact), len(compact)) == (expected, len(expected))
    for position in {0, 1, len(expected) // 2, len(expected) - 1} & set(range(len(expected))):
        number, place = compact.place(position)
        assert compact.block(number)[place] == expected[position]


REASONS = st.none() | st.sampled_from(Reason)
NAMES = st.text(st.sampled_from("ab/é測"), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(NAMES, max_size=120), NAMES)
def test_members_are_found_by_name_and_by_position(names: list[str], other: str) -> None:
    members, expected = Members(), dict[str, Member]()
    for number, name in enumerate(names):
        member = Member(name, number, 2 * number, number / 2, "odd" if number % 3 == 0 else None)
        assert members.add(member) == (name not in expected)
        expected.setdefault(name, member)
    assert dict(members.items()) == expected
    assert list(members) == list(expected)
    assert members.get(other) == expected.get(other)
    assert (other in members) == (other in expected)
    for position, name in enumerate(expected):
        assert members.position(name) == position
        assert members.at(position) == expected[name]
        assert members.has_odd_time(position) == (expected[name].odd_time is not None)


def many_files(count: int) -> Iterator[bytes]:
    yield json.dumps(transaction())[:-1].encode()
    for number in range(count):
        digits = hashlib.sha1(b"%d" % number).hexdigest()
        record = file_record(f"data/folder{number // 1000}/file{number:07}", b"", hashsum=digits)
        yield f", {json.dumps(record)}".encode()
    yield b"]"


def test_files_are_seen_by_position_in_slices_and_in_order() -> None:
    count = 3 * VALUES_A_BLOCK
    files = Document.parse(many_files(count)).files
    names = [f"file{number:07}" for number in range(count)]
    assert [entry.name for entry in files] == names
    assert [files[position].name for position in range(count)] == names
    assert [entry.name for entry in files[499:1001]] == names[499:1001]
    assert (files[-1].name, files[5:][2].name, len(files[:-1])) == (names[-1], names[7], count - 1)
    with pytest.raises(IndexError):
        files[count]


@settings(max_examples=40, deadline=None)
@given(st.lists(NAMES, unique=True, max_size=30), st.data())
def test_entries_are_those_that_were_added(names: list[str], data: st.DataObject) -> None:
    added = [
        Entry(f"/a/\udcff{name}", name, Found(1, 2, 3, 4, 5, 6, -(10**18), at / 3), data.draw(REASONS))
        for at, name in enumerate(names)
    ]
    entries = Entries()
    for entry in added:
        entries.add(entry)
    assert (list(entries), len(entries)) == (added, len(added))
    in_order = sorted(added, key=lambda entry: entry.name)
    assert list(entries.sorted_by_name()) == in_order
    chosen = data.draw(st.lists(st.sampled_from(range(len(added))))) if added else []
    found = entries.sorted_by_name().chosen(chosen)
    assert [found[at] for at in range(len(found))] == [in_order[position] for position in chosen]
    assert list(found[1:]) == [in_order[position] for position in chosen[1:]]


@pytest.mark.sweep
def test_a_file_takes_little_memory() -> None:
    count = MOST_LOOSE + 5 * VALUES_A_BLOCK
    tracemalloc.start()
    try:
        document = Document.parse(many_files(count))
        members = Members()
        for number, entry in enumerate(document.files):
            members.add(Member(entry.path, 512 * number, 0, 0.0))
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken / count < 250  # it is 150, of which the members take 100 and grow in steps
