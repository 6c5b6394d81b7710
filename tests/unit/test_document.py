"""How a document is read: what is taken as what, what is refused, and that nothing else ever comes of any bytes."""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_cli.bundle.catalog_rules import check_document
from ingest_cli.bundle.listed import MAX_PATH_BYTES
from ingest_cli.bundle.metadata import MAX_ID, RECORDS_AT_ONCE, Document, as_json
from ingest_cli.errors import FileRefused, IngestError, MetadataError
from ingest_cli.services.embedded.catalog import EmbeddedCatalog

from ..support.bundles import Record, document_for, file_record, transaction
from ..support.documents import mangled_documents, odd_documents

LONGEST_SAID = 1500
NAME = "x" * (10 << 20)


def parsed(*records: Any) -> Document:
    return Document.parse(json.dumps(records).encode())


def of_file(**changes: Any) -> Document:
    return parsed(*transaction(), {**file_record("data/x", b"x"), **changes})


def refused(document: Any, saying: str) -> None:
    with pytest.raises(MetadataError, match=saying) as caught:
        parsed(*document)
    assert len(str(caught.value)) < LONGEST_SAID


def transaction_of(name: str, value: Any) -> list[Record]:
    records = transaction()
    table = f"Transactions.{name}"
    return [{"destinationTable": table, "value": value} if r["destinationTable"] == table else r for r in records]


@pytest.mark.parametrize("name", ["submitter", "instrument"])
class TestIds:
    @pytest.mark.parametrize("given", [10, "10", " 10 ", "0010", 10.0])
    def test_what_is_a_number(self, name: str, given: Any) -> None:
        assert parsed(*transaction_of(name, given)).value(f"Transactions.{name}") == 10

    @pytest.mark.parametrize("given", [MAX_ID, str(MAX_ID)])
    def test_the_largest(self, name: str, given: Any) -> None:
        assert parsed(*transaction_of(name, given)).value(f"Transactions.{name}") == MAX_ID

    @pytest.mark.parametrize("given", [MAX_ID + 1, str(MAX_ID + 1), 1e30, 10**400])
    def test_what_is_too_large(self, name: str, given: Any) -> None:
        refused(transaction_of(name, given), "greater than the maximum of 9223372036854775807")

    @pytest.mark.parametrize(
        "given", [10.5, True, None, "", "abc", "+10", "1_0", "\uff11\uff10", "0x1", "1.0", [], {}, NAME]
    )
    def test_what_is_no_number(self, name: str, given: Any) -> None:
        refused(transaction_of(name, given), "is not of type 'integer'")


class TestProjects:
    @pytest.mark.parametrize(("given", "read"), [("1234a", "1234a"), (1234, "1234"), (1.5, "1.5"), (0, "0")])
    def test_what_is_text(self, given: Any, read: str) -> None:
        assert parsed(*transaction_of("project", given)).value("Transactions.project") == read

    @pytest.mark.parametrize(("given", "saying"), [("", "too short|non-empty"), (None, "type 'string'"), ([], "type")])
    def test_what_is_none(self, given: Any, saying: str) -> None:
        refused(transaction_of("project", given), saying)


class TestKeysAndValues:
    @pytest.mark.parametrize("given", [None, [], [1], ["a"]])
    @pytest.mark.parametrize("place", ["key", "value"])
    def test_what_the_metadata_service_makes_no_text_of(self, given: Any, place: str) -> None:
        pair = {"destinationTable": "TransactionKeyValue", "key": "k", "value": "v", place: given}
        refused([*transaction(), pair], f"record 4: \\['{place}'\\]: .* is not of type 'string'")
        refused([*transaction(), {**pair, "destinationTable": "FileKeyValue", "file_id": 1}], "is not of type 'string'")

    def test_policy_and_catalogue_see_text_and_services_see_what_was_given(self) -> None:
        number = {"destinationTable": "TransactionKeyValue", "key": "User of Record", "value": 10}
        document = parsed(*transaction_of("project", 7), number)
        assert {**number, "value": "10"} in document.records
        assert document.value("Transactions.project") == "7"
        for sent in (document.given, list(document.numbered(1, 1))):
            assert number in sent
            assert {"destinationTable": "Transactions.project", "value": 7} in sent

    def test_other_tables_are_passed_on_unchanged(self) -> None:
        other = {"destinationTable": "NothingReally", "value": [1.5, None], "key": True, "size": "7"}
        document = parsed(*transaction(), other)
        assert other in document.records
        assert other in document.numbered(1, 1)


class TestFiles:
    @pytest.mark.parametrize(("given", "read"), [(0, 0), ("12", 12), (" 12 ", 12), (12.0, 12), (MAX_ID, MAX_ID)])
    def test_sizes(self, given: Any, read: int) -> None:
        assert of_file(size=given).files[0].size == read

    @pytest.mark.parametrize(
        ("given", "saying"),
        [
            (-1, "less than the minimum"),
            (MAX_ID + 1, "greater than the maximum"),
            (1e30, "greater than the maximum"),
            (12.7, "type 'integer'"),
            (True, "type 'integer'"),
            (None, "type 'integer'"),
            ("12.0", "type 'integer'"),
            ("1e3", "type 'integer'"),
            ("1_2", "type 'integer'"),
        ],
    )
    def test_what_is_no_size(self, given: Any, saying: str) -> None:
        with pytest.raises(MetadataError, match=saying):
            of_file(size=given)

    def test_the_sum_of_sizes_has_a_limit(self) -> None:
        halves = [file_record(f"data/{number}", b"", size=2**62) for number in range(2)]
        refused([*transaction(), *halves], "lists 9,223,372,036,854,775,808 bytes in all")

    @pytest.mark.parametrize("given", [1, "1", 1.0])
    def test_a_file_is_found_by_its_number(self, given: Any) -> None:
        value = {"destinationTable": "FileKeyValue", "key": "k", "value": "v", "file_id": given}
        document = parsed(*transaction(), file_record("data/x", b"x", _id="1"), value)
        check_document(document)
        assert list(document.file_key_values(50)) == [(50, "k", "v")]

    def test_without_a_folder(self) -> None:
        record = file_record("data/x", b"x")
        del record["subdir"]
        assert parsed(*transaction(), record).files[0].path == "data/x"

    @pytest.mark.parametrize(
        ("changes", "saying"),
        [
            ({"name": 5}, "5 is not of type 'string'"),
            ({"name": None}, "None is not of type 'string'"),
            ({"subdir": None}, "None is not of type 'string'"),
            ({"mimetype": None}, "None is not of type 'string'"),
            ({"mtime": None}, "None is not of type 'string'"),
            ({"mtime": 1.5}, "1.5 is not of type 'string'"),
            ({"mtime": True}, "True is not of type 'string'"),
            ({"mtime": 10**12}, "the time 1000000000000 is not within the years 1 to 9999"),
            ({"ctime": -(10**4000)}, "is not within the years 1 to 9999"),
            ({"name": NAME}, "longer than 4,096 bytes"),
            ({"subdir": "a/" * (5 << 20)}, "longer than 4,096 bytes"),
            ({"source": f"/{NAME}"}, "longer than 4,096 bytes"),
            ({"name": "é" * 2047}, "longer than 4,096 bytes"),
            ({"name": f"{NAME}/"}, "points outside"),
            ({"subdir": f"../{NAME}"}, "points outside"),
        ],
    )
    def test_what_is_refused(self, changes: Record, saying: str) -> None:
        with pytest.raises(MetadataError, match=saying) as caught:
            of_file(**changes)
        assert len(str(caught.value)) < LONGEST_SAID

    def test_a_path_may_be_as_long_as_in_a_tar(self) -> None:
        assert len(of_file(subdir="", name="é" * 2045).files[0].path.encode()) == MAX_PATH_BYTES - 1


NO_DIGITS: list[Any] = ["deadbeef", "", None, 12, [], {}, "0x" + "0" * 38, "+" + "0" * 39, "md5:" + "0" * 32, NAME]
NO_TYPES: list[Any] = ["", None, 1, "rot13", "shake_128", "sha-1", "sha512_256", "md5", NAME]


class TestHashes:
    DIGITS = hashlib.sha1(b"x").hexdigest()

    @pytest.mark.parametrize(
        "changes",
        [
            {"hashsum": DIGITS.upper()},
            {"hashsum": f"sha1:{DIGITS}"},
            {"hashsum": f" SHA1:{DIGITS}\n"},
            {"hashtype": "SHA1"},
        ],
    )
    def test_what_is_one(self, changes: Record) -> None:
        (entry,) = of_file(**changes).files
        entry.require_usable_hash()
        assert (entry.hashtype, entry.hashsum) == ("sha1", self.DIGITS)

    def test_a_prefix_stands_for_a_type(self) -> None:
        record = file_record("data/x", b"x", hashsum=f"md5:{hashlib.md5(b'x').hexdigest()}")
        del record["hashtype"]
        (entry,) = parsed(*transaction(), record).files
        entry.require_usable_hash()
        assert entry.hashtype == "md5"

    @pytest.mark.parametrize(
        "changes",
        [
            *({"hashsum": digits} for digits in NO_DIGITS),
            *({"hashtype": name} for name in NO_TYPES),
        ],
    )
    def test_what_is_none_is_refused_with_the_file(self, changes: dict[str, object]) -> None:
        (entry,) = of_file(**changes).files
        with pytest.raises(FileRefused, match=r"hex digits, not|no hashsum|a hash of type") as caught:
            entry.require_usable_hash()
        assert len(str(caught.value)) < LONGEST_SAID

    def test_a_missing_one(self) -> None:
        record = file_record("data/x", b"x")
        del record["hashsum"], record["hashtype"]
        (entry,) = parsed(*transaction(), record).files
        with pytest.raises(FileRefused, match="'data/x' has no hashsum"):
            entry.require_usable_hash()


class TestText:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    def test_the_encodings_of_json(self, encoding: str) -> None:
        raw = json.dumps(document_for({"data/測定": b""}), ensure_ascii=False).encode(encoding)
        document = Document.parse(raw)
        assert [entry.name for entry in document.files] == ["測定"]
        assert document.digest == hashlib.sha256(raw).hexdigest()

    @pytest.mark.parametrize("text", ["\ud83d", "\ude00\ud83d", "\ud83d \ude00"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    def test_half_a_pair_of_surrogates(self, text: str, encoding: str) -> None:
        for records in (
            [*transaction(), {"destinationTable": text}],
            [*transaction(), {"destinationTable": "x", text: 1}],
        ):
            with pytest.raises(MetadataError, match="record 4 contains half of a surrogate pair"):
                Document.parse(json.dumps(records).encode(encoding))

    def test_whole_pairs_and_what_only_looks_like_half_of_one(self) -> None:
        of_file(name="😀", subdir="\\ud800\\u0000")

    @pytest.mark.parametrize("text", [r"\u0000", r"\\\u0000"])
    def test_nul(self, text: str) -> None:
        with pytest.raises(MetadataError, match="NUL"):
            Document.parse(b'[{"destinationTable": "%s"}]' % text.encode())

    @pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400 + ".0", "NaN", "Infinity", "-Infinity"])
    def test_what_is_no_number(self, number: str) -> None:
        with pytest.raises(MetadataError, match=r"out of range|is not a JSON number"):
            Document.parse(b'[{"destinationTable": "x", "v": [%s]}]' % number.encode())

    @pytest.mark.parametrize("document", ['[{"a": 1, "b": 2, "a": 1}]', '[{"x": [{"a": {}, "a": 1}]}]'])
    def test_two_values_of_a_key(self, document: str) -> None:
        with pytest.raises(MetadataError, match="an object with two values of 'a'"):
            Document.parse(document.encode())


def test_very_many_bad_records_are_counted_in_no_time() -> None:
    records = b"[" + b'{"destinationTable": "Files"},' * 200_000 + b"{}]"
    count, began = 0, time.process_time()

    def note(problem: IngestError) -> None:
        nonlocal count
        count += 1

    Document.parse(records, note)
    assert count == 200_001 + 3
    assert time.process_time() - began < 4  # it is 1.2 s


class Interruption(Exception):
    pass


@pytest.mark.parametrize("after", [0, 3])
def test_reading_a_long_document_can_be_interrupted(after: int) -> None:
    asked = 0

    def require() -> None:
        nonlocal asked
        if asked == after:
            raise Interruption
        asked += 1

    records = [*transaction(), *({"destinationTable": "other"} for _ in range(4 * RECORDS_AT_ONCE))]
    with pytest.raises(Interruption):
        Document.parse(json.dumps(records).encode(), require=require)
    asked = after + 1
    assert len(Document.parse(json.dumps(records).encode(), require=require).records) == len(records)
    assert asked == after + 6


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCatalog]:
    with closing(EmbeddedCatalog(tmp_path_factory.mktemp("catalogue") / "catalogue.sqlite3")) as catalog:
        yield catalog


NUMBERS = count(1)


def take_to_the_end(raw: bytes, catalog: EmbeddedCatalog) -> None:
    """Do what a run does with a document: check it, send it, record it; then restore it from the catalogue."""
    document = Document.parse(raw)
    for entry in document.files:
        entry.require_usable_hash()
    check_document(document)
    for sent in (document.given, document.numbered(7, 70)):
        json.loads(b"".join(as_json(sent)), parse_constant=pytest.fail)
    number = next(NUMBERS)
    catalog.record(document, number, 100 * number, fence=1)
    restored = Document.of([*catalog.metadata(number), *(file.as_record() for file in catalog.files(number))])
    check_document(restored)
    assert sorted(restored.key_values()) == sorted(document.key_values())
    assert sorted(restored.file_key_values(0)) == sorted(document.file_key_values(0))
    assert [(entry.path, entry.size) for entry in restored.files] == [
        (entry.path, entry.size) for entry in document.files
    ]


def problems_of(raw: bytes, catalog: EmbeddedCatalog) -> list[IngestError]:
    """Why the document is refused, by a run and by a check: nothing but an IngestError may come of any bytes."""
    problems: list[IngestError] = []
    try:
        take_to_the_end(raw, catalog)
    except IngestError as error:
        problems.append(error)
    try:
        check_document(Document.parse(raw, problems.append), problems.append)
    except MetadataError as error:
        problems.append(error)
    return problems


def is_fit_to_be_shown(problem: IngestError) -> bool:
    return not problem.transient and len(str(problem)) < LONGEST_SAID


@pytest.mark.parametrize("documents", [odd_documents(), mangled_documents()], ids=["odd", "mangled"])
@pytest.mark.parametrize("examples", [200, pytest.param(5_000, marks=pytest.mark.sweep)])
def test_whatever_it_is_it_is_taken_or_refused(
    catalog: EmbeddedCatalog, documents: st.SearchStrategy[bytes], examples: int
) -> None:
    @given(documents)
    @settings(max_examples=examples, deadline=None)
    def holds(raw: bytes) -> None:
        assert all(map(is_fit_to_be_shown, problems_of(raw, catalog)))

    holds()
