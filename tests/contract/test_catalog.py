"""What every catalogue promises: one suite, inherited for each."""

import json
import random
import sqlite3
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.bundle.metadata import Document
from ingest_cli.errors import CatalogRefused, NotFindable
from ingest_cli.jobs.dialect import SqliteDialect
from ingest_cli.services.base import Catalog, StoredFile
from ingest_cli.services.embedded.catalog import SELECT_FILE, EmbeddedCatalog
from ingest_cli.services.embedded.search import search
from ingest_cli.services.pacifica import search as pacifica_search
from ingest_cli.services.pacifica.catalog import PacificaCatalog
from ingest_cli.services.query import FileQuery
from ingest_cli.settings import Endpoint, PostgresUrl

from ..support.bundles import FILES, Record, document_for, file_record, transaction
from ..support.pacifica_double import PacificaSite

NewIds = Callable[[str, int], int]


def document(*extra: Record, files: dict[str, bytes] = FILES, **changes: Any) -> Document:
    """A document of ``files``, each with a number as ``_id``, from 100 on."""
    records = [
        file_record(path, content, _id=number, **changes) for number, (path, content) in enumerate(files.items(), 100)
    ]
    return Document.parse(json.dumps([*transaction(), *records, *extra]).encode())


# What one language of globs or another takes for a sign, and what Unicode can write in two ways.
DECOMPOSED = "e\N{COMBINING ACUTE ACCENT}"
ODD_NAMES = [
    *("a", "A", "aa", "a%", "a_b", "a\\b", "[", "]", "[a]", "!", "^", "-", "a]", "测定 1", "a\nb", "?*"),
    *("é", DECOMPOSED, "xés", f"x{DECOMPOSED}s"),
]
GLOBS = [
    *("a", "a*", "?", "a?b", "a%", "a_b", "a\\b", "a\\*", "[a]", "[[]", "[]]", "[]a]", "[!a]", "[!]a]*", "[^a]", "[a"),
    *("[", "[]", "[!", "[!]", "[[]a]", "*]", "[a-z]*", "[!a-z]", "[A-Z]", "?[*]", "[?][*]", "测*", "a*b", "a[\n]b"),
    *("é", DECOMPOSED, "e*", "x?s", "x[é]s", "xés", "xe*", f"x{DECOMPOSED}*"),
]

nfc = partial(unicodedata.normalize, "NFC")


def pair(key: Any, value: Any) -> Record:
    return {"destinationTable": "TransactionKeyValue", "key": key, "value": value}


class CatalogContract:
    """To be inherited, with fixtures ``catalog`` and ``new_ids``, which gives so many unused ids of a mode."""

    @pytest.fixture
    def catalog(self) -> Iterator[Catalog]:
        raise NotImplementedError

    @pytest.fixture
    def new_ids(self) -> NewIds:
        raise NotImplementedError

    @pytest.fixture
    def transaction_id(self, new_ids: NewIds) -> int:
        return new_ids("upload_job", 1)

    @pytest.fixture
    def ids(self, new_ids: NewIds) -> range:
        first = new_ids("file", 10)
        return range(first, first + len(FILES))

    def test_it_answers(self, catalog: Catalog, transaction_id: int, ids: range) -> None:
        assert catalog.ping()
        catalog.record(document(), transaction_id, ids.start, fence=1)
        assert catalog.ping()

    def test_what_is_recorded_is_there(self, catalog: Catalog, transaction_id: int, ids: range) -> None:
        assert not catalog.contains(transaction_id)
        assert not any(catalog.find_file(file_id) for file_id in ids)
        catalog.check(document())
        catalog.record(document(), transaction_id, ids.start, fence=1)
        assert catalog.contains(transaction_id)
        assert catalog.contains(transaction_id, ids)
        assert [catalog.find_file(file_id) for file_id in ids] == [
            (transaction_id, file) for file in catalog.files(transaction_id)
        ]
        assert catalog.find_file(ids.stop) is None
        assert catalog.known_files([ids.stop, *ids, ids.stop + 1]) == set(ids)
        assert catalog.known_files([]) == set()

    def test_a_transaction_of_other_files_is_another_one(
        self, catalog: Catalog, transaction_id: int, ids: range
    ) -> None:
        catalog.record(document(), transaction_id, ids.start, fence=1)
        for others in (ids[:-1], ids[1:], range(ids.start + 1, ids.stop + 1), range(0)):
            assert not catalog.contains(transaction_id, others)
        assert not catalog.contains(transaction_id + 1, ids)

    def test_a_transaction_without_files(self, catalog: Catalog, transaction_id: int, ids: range) -> None:
        catalog.record(document(files={}), transaction_id, 0, fence=1)
        assert catalog.contains(transaction_id, range(0))
        assert not catalog.contains(transaction_id, ids)
        assert list(catalog.files(transaction_id)) == []

    def test_files_are_as_the_document_has_them(self, catalog: Catalog, transaction_id: int, ids: range) -> None:
        files = {"data/a.txt": b"alpha", "data/tiefer/größe, 測定.bin": b"", "data/it's": bytes(70_000)}
        catalog.record(document(files=files, mimetype="application/x-tar"), transaction_id, ids.start, fence=1)
        assert list(catalog.files(transaction_id)) == [
            StoredFile(
                file_id=file_id,
                name=record["name"],
                subdir=record["subdir"].removeprefix("data").removeprefix("/"),
                size=record["size"],
                hashtype="sha1",
                hashsum=record["hashsum"],
                mimetype="application/x-tar",
                ctime="2016-11-29T14:09:05",
                mtime="2016-11-29T14:09:05",
            )
            for file_id, record in zip(ids, (file_record(*file) for file in files.items()), strict=True)
        ]
        assert [file.path for file in catalog.files(transaction_id)] == list(files)

    def test_a_transaction_that_is_not_there_has_no_files(self, catalog: Catalog, transaction_id: int) -> None:
        assert list(catalog.files(transaction_id)) == []

    def test_metadata_is_as_the_document_has_it(self, catalog: Catalog, transaction_id: int, ids: range) -> None:
        extra = [
            pair("Größe", "10 µm"),
            pair("Größe", "it's 20 µm"),
            {"destinationTable": "FileKeyValue", "file_id": 101, "key": "phase", "value": "solid"},
            {"destinationTable": "FileKeyValue", "file_id": 102, "key": "phase", "value": "liquid"},
        ]
        catalog.record(document(*extra), transaction_id, ids.start, fence=1)
        expected = [
            *transaction(),
            *extra[:2],
            *({**record, "file_id": ids[at]} for at, record in ((1, extra[2]), (2, extra[3]))),
        ]
        assert _sorted(catalog.metadata(transaction_id)) == _sorted(expected)

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            (10, "10"),
            (-5, "-5"),
            (10**30, f"{10**30}"),
            (1.5, "1.5"),
            (12.0, "12.0"),
            (1e22, "1e+22"),
            (True, "True"),
            (False, "False"),
            ({"a": [1.0, None]}, "{'a': [1.0, None]}"),
            ("", ""),
            (" 10 ", " 10 "),
        ],
    )
    def test_keys_and_values_are_kept_as_text(
        self, catalog: Catalog, transaction_id: int, ids: range, given: Any, kept: str
    ) -> None:
        of_file = {"destinationTable": "FileKeyValue", "file_id": 101, "key": "k", "value": given}
        written = document(pair("k", given), pair(given, "v"), of_file, {**of_file, "key": given})
        catalog.check(written)
        catalog.record(written, transaction_id, ids.start, fence=1)
        found = catalog.metadata(transaction_id)
        assert pair("k", kept) in found
        assert pair(kept, "v") in found
        assert sorted((record["key"], record["value"]) for record in found if "file_id" in record) == sorted(
            [("k", kept), (kept, kept)]
        )

    def test_a_project_is_kept_as_text(self, catalog: Catalog, transaction_id: int, ids: range) -> None:
        records = transaction()
        records[1]["value"] = 1235
        catalog.record(Document.of(records), transaction_id, ids.start, fence=1)
        assert {"destinationTable": "Transactions.project", "value": "1235"} in catalog.metadata(transaction_id)

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ({"size": "12"}, {"size": 12}),
            ({"size": 12.0}, {"size": 12}),
            ({"size": 2**63 - 1}, {"size": 2**63 - 1}),
            ({"ctime": 0, "mtime": 1480428545}, {"ctime": "1970-01-01T00:00:00", "mtime": "2016-11-29T14:09:05"}),
            ({"mtime": -1}, {"mtime": "1969-12-31T23:59:59"}),
            ({"mtime": 253402300799}, {"mtime": "9999-12-31T23:59:59"}),
            ({"mtime": "0001-01-01T00:00:00"}, {"mtime": "0001-01-01T00:00:00"}),
            ({"mimetype": "text/"}, {"mimetype": "text/"}),
            ({"name": "x" * 255, "subdir": "y" * 255}, {"name": "x" * 255, "subdir": "y" * 255}),
        ],
    )
    def test_a_file_is_kept_as_it_is_read(
        self, catalog: Catalog, transaction_id: int, ids: range, given: Record, kept: Record
    ) -> None:
        written = document(files={"data/x": b""}, **given)
        catalog.check(written)
        catalog.record(written, transaction_id, ids.start, fence=1)
        (file,) = catalog.files(transaction_id)
        assert {key: getattr(file, key) for key in kept} == kept

    def test_of_a_usual_document_nothing_is_kept_twice(self, catalog: Catalog, transaction_id: int, ids: range) -> None:
        catalog.record(document(), transaction_id, ids.start, fence=1)
        assert catalog.given(transaction_id) is None

    def test_transactions_do_not_get_in_each_others_way(
        self, catalog: Catalog, new_ids: NewIds, transaction_id: int, ids: range
    ) -> None:
        other, first = new_ids("upload_job", 1), new_ids("file", 10)
        about = {"destinationTable": "FileKeyValue", "file_id": 100, "key": "phase", "value": "solid"}
        catalog.record(document(pair("of", "one")), transaction_id, ids.start, fence=1)
        catalog.record(document(pair("of", "other"), about, files={"data/b": b"b"}), other, first, fence=1)
        assert [file.file_id for file in catalog.files(transaction_id)] == list(ids)
        assert [file.file_id for file in catalog.files(other)] == [first]
        assert pair("of", "one") in catalog.metadata(transaction_id)
        assert pair("of", "one") not in catalog.metadata(other)
        assert {**about, "file_id": first} in catalog.metadata(other)
        assert not [record for record in catalog.metadata(transaction_id) if "file_id" in record]

    @pytest.mark.parametrize(
        "wrong",
        [
            document(mimetype="nonsense"),
            document(pair("twice", "the same"), pair("twice", "the same")),
            document(pair("twice", 10), pair("twice", "10")),
            document(pair("twice", True), pair("twice", "True")),
            document({"destinationTable": "FileKeyValue", "file_id": 9, "key": "phase", "value": "solid"}),
        ],
        ids=["mimetype", "repeated", "repeated as a number", "repeated as a truth", "file"],
    )
    def test_what_would_be_refused_is_known_beforehand(self, catalog: Catalog, wrong: Document) -> None:
        with pytest.raises(CatalogRefused):
            catalog.check(wrong)

    def test_a_transaction_is_never_replaced(self, catalog: Catalog, transaction_id: int, ids: range) -> None:
        catalog.record(document(), transaction_id, ids.start, fence=1)
        with pytest.raises(CatalogRefused):
            catalog.record(document(files={"data/b": b"b"}), transaction_id, ids.stop, fence=2)
        assert catalog.contains(transaction_id, ids)
        assert [file.path for file in catalog.files(transaction_id)] == list(FILES)

    def test_of_a_document_with_a_file_of_another_nothing_is_recorded(
        self, catalog: Catalog, new_ids: NewIds, transaction_id: int, ids: range
    ) -> None:
        catalog.record(document(), transaction_id, ids.start, fence=1)
        other = new_ids("upload_job", 1)
        with pytest.raises(CatalogRefused):
            catalog.record(document(pair("of", "other")), other, ids.stop - 1, fence=1)
        assert not catalog.contains(other)
        assert list(catalog.files(other)) == []
        assert catalog.find_file(ids.stop) is None
        assert [file.path for file in catalog.files(transaction_id)] == list(FILES)

    def test_files_are_found_by_what_is_known_of_them(
        self, catalog: Catalog, new_ids: NewIds, transaction_id: int, ids: range
    ) -> None:
        """Those of other tests may be there too: each name and each value is this one's own."""
        own = f"{transaction_id}-{ids.start}"
        other, first = new_ids("upload_job", 1), new_ids("file", 10)
        names = {f"data/{own}.raw": b"1", f"data/run/{own}_a.raw": b"", f"data/run/[{own}]%.RAW": b"3"}
        of_file = {"destinationTable": "FileKeyValue", "file_id": 101, "key": "phase", "value": own}
        begun = datetime.now(UTC).replace(microsecond=0)
        catalog.record(document(pair("of", own), of_file, files=names), transaction_id, ids.start, fence=1)
        catalog.record(document(pair("of", f"{own}'s"), files={f"data/{own}": b"1"}), other, first, fence=1)
        content = file_record("data/x", b"3")["hashsum"]
        for query, found in (
            (FileQuery(name=f"{own}.raw"), {transaction_id: [0]}),
            (FileQuery(name=f"{own}*"), {transaction_id: [0, 1], other: [0]}),
            (FileQuery(name=f"{own}?a.raw"), {transaction_id: [1]}),
            (FileQuery(name=f"{own}[!.]a.raw"), {transaction_id: [1]}),
            (FileQuery(name=f"[[]{own}]*.RAW"), {transaction_id: [2]}),
            (FileQuery(name=f"[[]{own}]_.RAW"), {}),
            (FileQuery(name=f"{own}.RAW"), {}),
            (FileQuery(name=f"*{own}*", path="data/run/*"), {transaction_id: [1, 2]}),
            (FileQuery(name=f"*{own}*", path="run/*.raw"), {transaction_id: [1]}),
            (FileQuery(name=f"*{own}*", path="*/*.raw"), {transaction_id: [0, 1]}),
            (FileQuery(name=f"*{own}*", hashsum=content, hashtypes=("sha1",)), {transaction_id: [2]}),
            (FileQuery(name=f"*{own}*", hashsum=content, hashtypes=("sha256",)), {}),
            (FileQuery(pairs=(("of", own),)), {transaction_id: [0, 1, 2]}),
            (FileQuery(pairs=(("of", own), ("phase", own))), {transaction_id: [1]}),
            (FileQuery(pairs=(("phase", own),)), {transaction_id: [1]}),
            (FileQuery(pairs=(("of", f"{own}'s"),)), {other: [0]}),
            (FileQuery(pairs=((own, "of"),)), {}),
            (FileQuery(name=f"*{own}*", project="1234a", instrument=54, submitter=10, since=begun), None),
            (FileQuery(name=f"*{own}*", until=begun + timedelta(days=1)), None),
            (FileQuery(name=f"*{own}*", since=begun.astimezone(timezone(timedelta(hours=5)))), None),
            (FileQuery(pairs=(("of", own),), until=begun.astimezone(timezone(timedelta(hours=5)))), {}),
            (FileQuery(pairs=(("of", own),), until=begun.replace(tzinfo=None)), {}),
            (FileQuery(pairs=(("of", own),), until=begun), {}),
            (FileQuery(name=f"*{own}*", since=begun + timedelta(days=1)), {}),
            (FileQuery(name=f"*{own}*", project="1234b"), {}),
            (FileQuery(name=f"*{own}*", instrument=2**40), {}),
            (FileQuery(pairs=(("of", own),), submitter=11), {}),
        ):
            expected = {transaction_id: [0, 1, 2], other: [0]} if found is None else found
            files = {
                number: [file for at, file in enumerate(catalog.files(number)) if at in expected[number]]
                for number in expected
            }
            assert list(catalog.find(query)) == [(number, file) for number in files for file in files[number]], query

    def test_a_glob_finds_what_it_matches(self, catalog: Catalog, new_ids: NewIds, transaction_id: int) -> None:
        first = new_ids("file", len(ODD_NAMES))
        own = f"{transaction_id}-{first}"
        files = {f"data/{own}/{name}": b"" for name in ODD_NAMES}
        catalog.record(document(files=files), transaction_id, first, fence=1)
        for glob in GLOBS:
            found = [file.name for _, file in catalog.find(FileQuery(name=glob, path=f"{own}/*"))]
            assert found == [name for name in ODD_NAMES if fnmatchcase(nfc(name), nfc(glob))], glob

    def test_it_knows_which_hashes_there_are(self, catalog: Catalog, transaction_id: int, ids: range) -> None:
        catalog.record(document(hashtype="sha256", hashsum="ab" * 32), transaction_id, ids.start, fence=1)
        assert "sha256" in catalog.hashtypes()

    def test_what_is_recorded_is_not_barred(self, catalog: Catalog, transaction_id: int, ids: range) -> None:
        assert not catalog.bar(transaction_id, ids, 1)
        catalog.record(document(), transaction_id, ids.start, fence=2)
        assert catalog.bar(transaction_id, ids, 2)
        assert not catalog.bar(transaction_id, ids[:-1], 2)
        assert catalog.contains(transaction_id, ids)


def _sorted(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: json.dumps(record, sort_keys=True))


def counting() -> NewIds:
    given = {"upload_job": 1, "file": 1}

    def new_ids(mode: str, count: int) -> int:
        given[mode] += count
        return given[mode] - count

    return new_ids


class OwnCatalogContract(CatalogContract):
    """Of a catalogue that is this program's own, in whatever database."""

    @pytest.fixture
    def new_ids(self) -> NewIds:
        return counting()

    @pytest.mark.parametrize(
        "odd",
        [
            pair("User of Record", 10),
            {**pair("k", "v"), "comment": None},
            {"destinationTable": "Other"},
            {"destinationTable": "FileKeyValue", "file_id": 100, "key": "k", "value": 1.5},
        ],
        ids=str,
    )
    def test_what_its_tables_do_not_hold_is_kept(
        self, catalog: Catalog, transaction_id: int, ids: range, odd: Record
    ) -> None:
        odd_one = document(odd)
        assert not odd_one.is_plain
        catalog.record(odd_one, transaction_id, ids.start, fence=1)
        assert catalog.given(transaction_id) == list(odd_one.numbered(transaction_id, ids.start))

    def test_whatever_is_asked_for_is_found(self, catalog: Catalog, transaction_id: int, ids: range) -> None:
        catalog.record(document(), transaction_id, ids.start, fence=1)
        for query in (FileQuery(), FileQuery(name="*"), FileQuery(path="data/*")):
            catalog.require_findable(query)
            assert [file.file_id for _, file in catalog.find(query)] == list(ids)

    def test_a_million_files_are_not_held_at_once(self, catalog: Catalog, transaction_id: int, ids: range) -> None:
        catalog.record(document(), transaction_id, ids.start, fence=1)
        found = catalog.find(FileQuery())
        assert next(found)[1].file_id == ids.start
        catalog.record(document(files={"data/x": b""}), transaction_id + 1, ids.stop, fence=1)
        assert [file.file_id for _, file in found][: len(ids) - 1] == list(ids)[1:]

    def test_a_run_that_is_barred_records_nothing(self, catalog: Catalog, transaction_id: int, ids: range) -> None:
        assert not catalog.bar(transaction_id, ids, 2)
        assert not catalog.bar(transaction_id, ids, 1)
        for fence in (1, 2):
            with pytest.raises(CatalogRefused, match="rolled back by another run"):
                catalog.record(document(), transaction_id, ids.start, fence=fence)
        assert not catalog.contains(transaction_id)
        catalog.record(document(), transaction_id, ids.start, fence=3)
        assert catalog.contains(transaction_id, ids)


class TestEmbedded(OwnCatalogContract):
    @pytest.fixture
    def catalog(self, tmp_path: Path) -> Iterator[Catalog]:
        with closing(EmbeddedCatalog(tmp_path / "catalogue.sqlite3")) as catalog:
            yield catalog

    @pytest.mark.parametrize(
        ("query", "index"),
        [
            (FileQuery(hashsum="ab" * 20, hashtypes=("sha1",)), "Files_hash"),
            (FileQuery(hashsum="ab" * 32, hashtypes=("blake2s", "sha256")), "Files_hash"),
            (FileQuery(name="a.raw", project="1234a"), "Files_name"),
            (FileQuery(name="a*.raw"), "Files_name"),
            (FileQuery(pairs=(("k", "v"),)), "Files_transaction"),
            (FileQuery(name="*.raw", project="1234a"), "Files_transaction"),
            (FileQuery(path="data/*", since=datetime(2026, 1, 1, tzinfo=UTC)), "Files_transaction"),
        ],
        ids=str,
    )
    def test_what_it_need_not_look_at_it_leaves(
        self, tmp_path: Path, catalog: Catalog, query: FileQuery, index: str
    ) -> None:
        with closing(sqlite3.connect(tmp_path / "catalogue.sqlite3")) as connection:
            sql, values = search(query, SELECT_FILE, SqliteDialect())
            steps = [step[3] for step in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
        assert any(step.startswith("SEARCH Files USING INDEX") and f" {index} " in step for step in steps), steps


@pytest.mark.cluster
class TestPostgres(OwnCatalogContract):
    @pytest.fixture
    def catalog(self, postgres: PostgresUrl) -> Iterator[Catalog]:
        from ingest_cli.jobs.postgres_connections import PostgresConnections
        from ingest_cli.services.postgres.catalog import PostgresCatalog

        with closing(PostgresCatalog(PostgresConnections(postgres))) as catalog:
            yield catalog

    def test_keys_and_values_of_any_length_are_taken(self, catalog: Catalog, transaction_id: int, ids: range) -> None:
        noise = "".join(chr(random.randrange(0x100, 0xD000)) for _ in range(20_000))
        catalog.record(document(pair(noise[:5000], noise)), transaction_id, ids.start, fence=1)
        assert pair(noise[:5000], noise) in catalog.metadata(transaction_id)


class TestPacifica(CatalogContract):
    @pytest.fixture
    def catalog(self, pacific: PacificaSite) -> Iterator[Catalog]:
        with closing(PacificaCatalog(Endpoint(url=f"{pacific.url}/ingest"))) as catalog:
            yield catalog

    @pytest.fixture
    def new_ids(self) -> NewIds:
        return counting()

    @pytest.mark.parametrize(
        "wrong",
        [
            document(name="x" * 256, files={"data/x": b""}),
            document(subdir="x" * 256, files={"data/x": b""}),
            document(mimetype="text/" + "x" * 251),
            document(pair("x" * 256, "v")),
            document(pair("k", "é" * 256)),
            document({"destinationTable": "FileKeyValue", "file_id": 101, "key": "k", "value": 10**255}),
        ],
        ids=["name", "folder", "mimetype", "key", "value", "value of a file"],
    )
    def test_what_its_columns_cannot_hold_is_refused_beforehand(self, catalog: Catalog, wrong: Document) -> None:
        with pytest.raises(CatalogRefused, match="takes 255 characters"):
            catalog.check(wrong)

    @pytest.mark.parametrize("needed", ["ctime", "mtime"])
    def test_a_file_without_a_time_is_refused_beforehand(self, catalog: Catalog, needed: str) -> None:
        records = document_for(FILES)
        del records[-1][needed]
        with pytest.raises(CatalogRefused, match=f"has no {needed}"):
            catalog.check(Document.of(records))

    @pytest.mark.parametrize("query", [FileQuery(), FileQuery(name="**"), FileQuery(path="data/*")], ids=str)
    def test_it_is_not_asked_for_all_its_files(self, catalog: Catalog, pacific: PacificaSite, query: FileQuery) -> None:
        with pytest.raises(NotFindable, match="without listing all its files"):
            catalog.require_findable(query)
        with pytest.raises(NotFindable):
            catalog.find(query)
        assert pacific.requests == []

    def test_many_files_come_a_page_at_a_time(
        self, catalog: Catalog, pacific: PacificaSite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pacifica_search, "PAGE_ROWS", 2)
        catalog.record(document(files={f"data/{number}.raw": b"" for number in range(4)}), 1, 1, fence=1)
        found = catalog.find(FileQuery(name="*.raw"))
        asked = len(pacific.requests)
        assert [next(found)[1].file_id for _ in range(2)] == [1, 2]
        assert len(pacific.requests) == asked + 1
        assert [file.file_id for _, file in found] == [3, 4]

    def test_it_gets_keys_and_values_as_they_were_given(self, catalog: Catalog, pacific: PacificaSite) -> None:
        of_file = {"destinationTable": "FileKeyValue", "file_id": 101, "key": 1.5, "value": {"a": None}}
        catalog.record(document(pair("User of Record", 10), of_file), 1, 1, fence=1)
        assert pair("User of Record", 10) in pacific.rows("TransactionKeyValue")
        assert pacific.rows("FileKeyValue") == [{**of_file, "file_id": 2}]
