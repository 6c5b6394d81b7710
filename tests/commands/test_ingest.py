"""A good bundle goes through, whatever its form, and what is stored is what was sent."""

import hashlib
import json
import os
import stat
import tarfile
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.services.embedded.layout import id_to_path

from ..support.bundles import FILES, document_for, file_record, member, transaction, write_bundle, write_tar
from ..support.command import Command
from ..support.site import Site


def test_the_archive_holds_the_bundle_byte_by_byte(site: Site, tmp_path: Path) -> None:
    job = site.ingest(write_bundle(tmp_path / "b.tar"))
    assert job.is_done
    assert job.stored == len(FILES)
    assert site.contents() == FILES
    assert set(site.archived()) == {row["id"] for row in site.rows("Files")}


def test_the_catalogue_holds_the_document(site: Site, tmp_path: Path) -> None:
    job = site.ingest(write_bundle(tmp_path / "b.tar"))
    (recorded,) = site.rows("Transactions")
    assert (recorded["id"], recorded["submitter"], recorded["project"], recorded["instrument"]) == (
        job.job_id,
        10,
        "1234a",
        54,
    )
    expected = {
        (record["name"], record["size"], record["hashtype"], record["hashsum"], record["mimetype"], record["mtime"])
        for record in document_for(FILES)
        if record["destinationTable"] == "Files"
    }
    columns = ("name", "size", "hashtype", "hashsum", "mimetype", "mtime")
    assert {tuple(row[column] for column in columns) for row in site.rows("Files")} == expected
    assert {row["subdir"] for row in site.rows("Files")} == {"", "sub"}
    assert site.rows("TransactionKeyValue") == [
        {"transaction": job.job_id, "key": "Taxonomic Family", "value": "bacteria"}
    ]


def test_stored_files_are_read_only_with_the_time_of_the_bundle(site: Site, tmp_path: Path) -> None:
    site.ingest(write_bundle(tmp_path / "b.tar"))
    for row in site.rows("Files"):
        found = site.file(row["id"]).stat()
        assert stat.S_IMODE(found.st_mode) == 0o444
        assert found.st_mtime == 1480428545


def test_times_before_1970_and_parts_of_a_second_are_kept(site: Site, tmp_path: Path) -> None:
    times = {"data/early": -5.0, "data/exact": 1480428545.25}
    files = {name: name.encode() for name in times}
    members = [member(name, content, mtime=times[name]) for name, content in files.items()]
    members.append(member("metadata.txt", json.dumps(document_for(files)).encode()))
    site.ingest(write_tar(tmp_path / "b.tar", members, tar_format=tarfile.PAX_FORMAT))
    found = {f"data/{row['name']}": site.file(row["id"]).stat().st_mtime for row in site.rows("Files")}
    assert found == times


def test_the_stages_come_by_pacificas_names(site: Site, tmp_path: Path) -> None:
    site.ingest(write_bundle(tmp_path / "b.tar"))
    assert site.witness.stages == [
        "UPLOADING",
        "open tar",
        "load metadata",
        "Policy Validation",
        "ingest files",
        "ingest metadata",
    ]


@pytest.mark.parametrize(
    ("file_id", "place"), [(1, "file.1"), (18, "file.12"), (255, "file.ff"), (256, "00/100"), (12345, "39/3039"),
                           (0x123456, "56/34/123456")]
)  # fmt: skip
def test_files_lie_where_pacificas_archive_would_put_them(file_id: int, place: str) -> None:
    assert id_to_path(file_id) == place


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_compression_is_told_by_content_not_by_name(site: Site, tmp_path: Path, mode: str) -> None:
    site.ingest(write_bundle(tmp_path / "bundle.dat", mode=mode))
    assert site.contents() == FILES
    assert not list(site.settings.spool.glob("*"))


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("metadata_first", [True, False])
def test_long_and_foreign_names(site: Site, tmp_path: Path, tar_format: int, metadata_first: bool) -> None:
    files = {
        "data/" + "x" * 120: b"long",
        "data/" + "/".join(["y" * 100] * 4) + "/z": b"longer",
        "data/測定［一］/データ.txt": "ヘ".encode(),  # noqa: RUF001
        "data/ü.txt": b"umlaut",
    }
    site.ingest(write_bundle(tmp_path / "b.tar", files, tar_format=tar_format, metadata_first=metadata_first))
    assert site.contents() == files


def test_ustar_prefixes(site: Site, tmp_path: Path) -> None:
    files = {"data/" + "d" * 90 + "/" + "f" * 60: b"split between prefix and name"}
    site.ingest(write_bundle(tmp_path / "b.tar", files, tar_format=tarfile.USTAR_FORMAT))
    assert site.contents() == files


@pytest.mark.parametrize(("packed", "listed"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_match_in_another_unicode_form(site: Site, tmp_path: Path, packed: Any, listed: Any) -> None:
    there, told = (unicodedata.normalize(form, "data/é.txt") for form in (packed, listed))
    site.ingest(write_bundle(tmp_path / "b.tar", {there: b"e"}, document_for({told: b"e"})))
    assert site.contents() == {told: b"e"}


def test_names_that_differ_in_unicode_form_alone_are_two_files(site: Site, tmp_path: Path) -> None:
    files = {unicodedata.normalize(form, "data/é.txt"): form.encode() for form in ("NFC", "NFD")}
    site.ingest(write_bundle(tmp_path / "b.tar", files))
    assert site.contents() == files


def test_a_bundle_without_files_is_a_transaction(site: Site, tmp_path: Path) -> None:
    job = site.ingest(write_bundle(tmp_path / "b.tar", {}))
    assert (job.is_done, job.stored) == (True, 0)
    assert not site.archived()
    assert [row["id"] for row in site.rows("Transactions")] == [job.job_id]


def test_what_follows_the_end_of_the_tar_is_no_part_of_it(site: Site, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    with bundle.open("ab") as file:
        file.write(b"padding of a tape" * 100)
    site.ingest(bundle)
    assert site.contents() == FILES


def test_folders_and_dots_before_names(site: Site, tmp_path: Path) -> None:
    members = [
        member("./data", b"", type=tarfile.DIRTYPE),
        *(member(f"./{name}", content) for name, content in FILES.items()),
        member("./metadata.txt", json.dumps(document_for(FILES)).encode()),
    ]
    site.ingest(write_tar(tmp_path / "b.tar", members))
    assert site.contents() == FILES


@pytest.mark.parametrize("subdir", ["data/a/b/", "data//a/b", "a/b", "./data/a/b", "/data/a/b"])
def test_subdirs_are_spelled_in_many_ways(site: Site, tmp_path: Path, subdir: str) -> None:
    files = {"data/a/b/c": b"c"}
    record = file_record("c", b"c", subdir=subdir)
    site.ingest(write_bundle(tmp_path / "b.tar", files, [*transaction(), record]))
    assert site.contents() == files


@pytest.mark.parametrize("subdir", ["", "data", "data/", "/", "."])
def test_files_right_under_data(site: Site, tmp_path: Path, subdir: str) -> None:
    record = file_record("c", b"c", subdir=subdir)
    site.ingest(write_bundle(tmp_path / "b.tar", {"data/c": b"c"}, [*transaction(), record]))
    assert site.contents() == {"data/c": b"c"}
    assert [row["subdir"] for row in site.rows("Files")] == [""]


@pytest.mark.parametrize(
    "changes",
    [
        {"hashsum": hashlib.sha1(b"x").hexdigest().upper()},
        {"hashsum": "sha1:" + hashlib.sha1(b"x").hexdigest()},
        {"hashtype": "sha256", "hashsum": "sha256:" + hashlib.sha256(b"x").hexdigest().upper()},
        {"hashtype": "MD5", "hashsum": hashlib.md5(b"x").hexdigest()},
        {"hashtype": "blake2b", "hashsum": hashlib.blake2b(b"x").hexdigest()},
    ],
)
def test_hashes_are_written_in_many_ways(site: Site, tmp_path: Path, changes: dict[str, Any]) -> None:
    record = file_record("data/x", b"x", **changes)
    site.ingest(write_bundle(tmp_path / "b.tar", {"data/x": b"x"}, [*transaction(), record]))
    (row,) = site.rows("Files")
    assert row["hashsum"] == changes["hashsum"].rpartition(":")[2].lower()


def test_a_large_file_is_stored_whole(site: Site, tmp_path: Path) -> None:
    files = {"data/large": os.urandom(20 << 20)}
    site.ingest(write_bundle(tmp_path / "b.tar", files))
    assert site.contents() == files
    assert site.witness.bytes_checked == site.witness.bytes_stored == site.witness.planned == 20 << 20
    assert (site.witness.files_checked, site.witness.files_stored) == (1, 1)


def test_what_is_not_listed_is_warned_of_and_not_archived(site: Site, tmp_path: Path) -> None:
    site.ingest(write_bundle(tmp_path / "b.tar", {**FILES, "data/extra": b"?"}, document_for(FILES)))
    assert site.contents() == FILES
    assert len(site.witness.warnings) == 1
    assert "data/extra" in site.witness.warnings[0]


def test_the_job_id_wins_over_a_transaction_id_of_the_client(site: Site, tmp_path: Path) -> None:
    own = {"destinationTable": "Transactions._id", "value": 4711}
    job = site.ingest(write_bundle(tmp_path / "b.tar", document=[own, *document_for(FILES)]))
    assert [row["id"] for row in site.rows("Transactions")] == [job.job_id] != [4711]


def test_file_key_values_follow_their_file(site: Site, tmp_path: Path) -> None:
    site.ingest(write_bundle(tmp_path / "first.tar"))
    document = [
        *transaction(),
        file_record("data/x", b"x", _id=7),
        file_record("data/y", b"y", _id=8),
        {"destinationTable": "FileKeyValue", "key": "k", "value": "v", "file_id": 8},
    ]
    site.ingest(write_bundle(tmp_path / "b.tar", {"data/x": b"x", "data/y": b"y"}, document))
    (row,) = site.rows("FileKeyValue")
    assert site.archived()[row["file"]] == b"y"


def test_the_same_bundle_is_stored_once(site: Site, tmp_path: Path) -> None:
    first = site.ingest(write_bundle(tmp_path / "b.tar"))
    second = site.ingest(write_bundle(tmp_path / "copy.tar.gz", mode="w:gz"))
    assert second.is_done
    assert second.duplicate_of == first.job_id
    assert len(site.archived()) == len(FILES)
    assert len(site.rows("Transactions")) == 1


def test_the_same_bundle_is_stored_again_when_asked(site: Site, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    site.ingest(bundle)
    assert site.ingest(bundle, again=True).duplicate_of is None
    assert len(site.archived()) == 2 * len(FILES)
    assert len(site.rows("Transactions")) == 2


def test_the_bundle_is_left_as_it_was(site: Site, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    before, found = bundle.read_bytes(), bundle.stat()
    site.ingest(bundle)
    assert bundle.read_bytes() == before
    assert (bundle.stat().st_mtime_ns, bundle.stat().st_ino) == (found.st_mtime_ns, found.st_ino)


def test_standard_input_and_several_bundles(command: Command, site: Site, tmp_path: Path) -> None:
    one = write_bundle(tmp_path / "one.tar", {"data/1": b"1"})
    two = write_bundle(tmp_path / "two.tar", {"data/2": b"2"})
    piped = write_bundle(tmp_path / "three.tar", {"data/3": b"3"}).read_bytes()
    done = command("--quiet", one, two, "-", stdin=piped)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert site.contents() == {"data/1": b"1", "data/2": b"2", "data/3": b"3"}
    assert not list(site.settings.spool.glob("*"))


def test_the_same_file_answers_with_its_earlier_job(command: Command, site: Site, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    command(bundle)
    done = command(bundle)
    assert (done.returncode, done.stdout) == (0, f"job 1: {bundle} was ingested before\n")
    assert len(site.jobs()) == 1


def test_ids_that_come_as_strings_are_numbers(site: Site, tmp_path: Path) -> None:
    """So pacifica-cli sends what it is given on its command line."""
    records = document_for(FILES)
    for record in records:
        if record["destinationTable"] in ("Transactions.submitter", "Transactions.instrument"):
            record["value"] = str(record["value"])
    site.ingest(write_bundle(tmp_path / "b.tar", FILES, records))
    (transaction,) = site.rows("Transactions")
    assert (transaction["submitter"], transaction["instrument"]) == (10, 54)
