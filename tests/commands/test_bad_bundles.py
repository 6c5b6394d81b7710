"""Bad input is the normal case: a clear error under the stage that owns it, and nothing stored."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest_cli.bundle.header import is_header
from ingest_cli.bundle.reader import Bundle
from ingest_cli.errors import BundleError, ExitCode, IngestError
from ingest_cli.settings.options import USUAL_DOCUMENT_MIB

from ..support.bundles import FILES, document_for, file_record, member, transaction, write_bundle, write_tar
from ..support.command import Command
from ..support.site import Site

METADATA = json.dumps(document_for(FILES)).encode()
GOOD = [*(member(name, content) for name, content in FILES.items()), member("metadata.txt", METADATA)]


def refused(site: Site, path: Path, stage: str, saying: str) -> None:
    with pytest.raises(IngestError) as caught:
        site.ingest(path)
    assert saying in str(caught.value)
    job = site.jobs()[0]
    assert (job.state, job.task) == ("failed", stage)
    assert saying in job.exception
    assert site.holds_nothing()


@pytest.mark.parametrize("content", [b"", b"not a tar", os.urandom(4096), bytes(10240)])
def test_what_is_no_tar(site: Site, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "b.tar"
    path.write_bytes(content)
    refused(site, path, "open tar", "is not a tar")


def test_a_tar_cut_short_anywhere(site: Site, tmp_path: Path) -> None:
    whole = write_bundle(tmp_path / "whole.tar").read_bytes()
    end = len(whole.rstrip(b"\0"))
    end += -end % 512 + 1024  # the two empty blocks that end a tar
    cut = tmp_path / "cut.tar"
    for length in [*range(512, end, 256), 513, 1023, end - 1]:
        cut.write_bytes(whole[:length])
        refused(site, cut, "load metadata", "truncated")
    cut.write_bytes(whole[: end - 1024])
    refused(site, cut, "load metadata", f"ends at byte {end - 1024} without the two empty blocks that end a tar")
    cut.write_bytes(whole[: end - 512])
    refused(site, cut, "load metadata", f"ends at byte {end - 512} with one empty block, where a tar ends with two")
    cut.write_bytes(whole[:end])
    assert site.ingest(cut).is_done


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_tar_cut_short_anywhere(site: Site, tmp_path: Path, mode: str) -> None:
    whole = write_bundle(tmp_path / "whole.tar", mode=mode).read_bytes()
    cut = tmp_path / "cut.tar"
    for length in range(10, len(whole) - 8, max(1, len(whole) // 20)):
        cut.write_bytes(whole[:length])
        with pytest.raises(IngestError):
            site.ingest(cut)
        assert site.holds_nothing()
    assert not list(site.settings.spool.glob("*"))


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_compressed_garbage(site: Site, tmp_path: Path, mode: str) -> None:
    whole = bytearray(write_bundle(tmp_path / "whole.tar", {"data/r": os.urandom(50_000)}, mode=mode).read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 64] = os.urandom(64)
    bad = tmp_path / "bad.tar"
    bad.write_bytes(whole)
    with pytest.raises(IngestError):
        site.ingest(bad)
    assert site.holds_nothing()


def test_a_checksum_of_gzip_that_differs(site: Site, tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(write_bundle(tmp_path / "b.tar").read_bytes()))
    packed[-6] ^= 0xFF
    (tmp_path / "b.tar").write_bytes(packed)
    refused(site, tmp_path / "b.tar", "open tar", "damaged")


@pytest.mark.parametrize(
    ("metadata", "saying"),
    [
        (b'[{"a": "\xff"}]', "not UTF-8 (byte 8)"),
        (b"\xff\xfe[\0]", "not UTF-16 (byte 4)"),
        (b"not json", "not JSON"),
        (b"", "not JSON"),
        (b'{"a": 1}', "a list of records"),
        (b"[[]]", "is not of type 'object'"),
        (b'[{"value": 1}]', "'destinationTable' is a required property"),
        (b'[{"destinationTable": 3}]', "is not of type 'string'"),
        (b'[{"destinationTable": "Files", "name": "x", "size": NaN, "hashsum": "0"}]', "NaN"),
        (b'[{"destinationTable": "Files", "name": "x", "size": Infinity, "hashsum": "0"}]', "Infinity"),
        (b'[{"destinationTable": "Files", "name": "x", "size": "nine", "hashsum": "0"}]', "is not of type 'integer'"),
        (b'[{"destinationTable": "Files", "name": "x", "size": 9.5, "hashsum": "0"}]', "9.5 is not of type 'integer'"),
        (b'[{"destinationTable": "Files", "name": "x", "size": 1e30, "hashsum": "0"}]', "greater than the maximum"),
        (b'[{"destinationTable": "Files", "name": "x", "size": -1, "hashsum": "0"}]', "less than the minimum"),
        (b'[{"destinationTable": "Files", "name": "x", "size": true, "hashsum": "0"}]', "is not of type 'integer'"),
        (b"[" * 10_000 + b"]" * 10_000, "nested too deep"),
        (b'[{"destinationTable": "x", "v": ' + b"9" * 5000 + b"}]", "a number of thousands of digits"),
        (b'[{"destinationTable": "x", "v": -1e400}]', "the number '-1e400', which is out of range"),
        (b'[{"destinationTable": "x", "v": 1, "v": 2}]', "an object with two values of 'v'"),
        (b'[{"destinationTable": "x\\ud800"}]', "surrogate"),
        (b'[{"destinationTable": "x\\u0000"}]', "NUL"),
        (b"[]", "0 'Transactions.submitter' records"),
        (json.dumps([*transaction(), *transaction()]).encode(), "2 'Transactions.submitter' records"),
    ],
)
def test_bad_metadata(site: Site, tmp_path: Path, metadata: bytes, saying: str) -> None:
    refused(site, write_bundle(tmp_path / "b.tar", metadata=metadata), "load metadata", saying)


def test_no_metadata(site: Site, tmp_path: Path) -> None:
    refused(site, write_tar(tmp_path / "b.tar", GOOD[:-1]), "load metadata", "contains no metadata.txt")


def test_metadata_of_two_gigabytes_is_refused_before_it_is_read(site: Site, tmp_path: Path) -> None:
    length = 2 << 30
    assert length > USUAL_DOCUMENT_MIB << 20
    info = tarfile.TarInfo("metadata.txt")
    info.size = length
    with (tmp_path / "b.tar").open("wb") as file:
        file.write(info.tobuf())
        file.seek(length, io.SEEK_CUR)
        file.write(bytes(1024))
    refused(site, tmp_path / "b.tar", "load metadata", "the limit is 1.1 GB, the document_limit of the configuration")


def test_the_longest_document_can_be_set(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"destinationTable": "NothingReally", "value": "x" * (1 << 20)}
    bundle = write_bundle(tmp_path / "b.tar", document=[*document_for(FILES), other])
    monkeypatch.setenv("INGEST_DOCUMENT_LIMIT", "1")
    for words in ([bundle], ["check", bundle]):
        done = command(*words)
        assert done.returncode == ExitCode.FAILED, done
        assert "metadata.txt is 1.0 MB long; the limit is 1.0 MB" in done.stdout + done.stderr
    monkeypatch.setenv("INGEST_DOCUMENT_LIMIT", "2")
    assert command(bundle).returncode == 0


@pytest.mark.parametrize("again", [member("metadata.txt", METADATA), member("./data/a.txt", b"alpha\n")])
def test_a_name_twice_in_the_tar(site: Site, tmp_path: Path, again: Any) -> None:
    refused(site, write_tar(tmp_path / "b.tar", [*GOOD, again]), "open tar", "twice in the tar")


def test_a_file_listed_twice(site: Site, tmp_path: Path) -> None:
    document = [*document_for(FILES), file_record("/data//a.txt", FILES["data/a.txt"])]
    refused(site, write_bundle(tmp_path / "b.tar", document=document), "load metadata", "lists 'data/a.txt' twice")


def with_file(**changes: Any) -> list[dict[str, Any]]:
    return [*document_for(FILES), file_record("data/x", b"x", **changes)]


@pytest.mark.parametrize(
    ("changes", "stage", "saying"),
    [
        ({"name": "absent"}, "ingest files", "it is not in the bundle"),
        ({"size": 2}, "ingest files", "is 1 byte long, but the metadata says 2"),
        ({"hashsum": hashlib.sha1(b"y").hexdigest()}, "ingest files", "hashes to sha1"),
        ({"hashtype": "rot13"}, "ingest files", "'rot13'"),
        ({"hashtype": "shake_128", "hashsum": "00"}, "ingest files", "'shake_128'"),
        ({"hashtype": ""}, "ingest files", "a hash of type ''"),
        ({"hashsum": "md5:00"}, "ingest files", "40 hex digits, not 'md5:00'"),
        ({"hashsum": "deadbeef"}, "ingest files", "40 hex digits, not 'deadbeef'"),
        ({"hashsum": "z" * 40}, "ingest files", "40 hex digits"),
        ({"hashsum": ""}, "ingest files", "has no hashsum"),
        ({"hashsum": 12}, "ingest files", "40 hex digits, not '12'"),
        ({"hashsum": None}, "ingest files", "has no hashsum"),
        ({"mimetype": "spreadsheet"}, "ingest metadata", "not a MIME type"),
        ({"subdir": "data/../.."}, "load metadata", "points outside the bundle"),
        ({"name": ".."}, "load metadata", "points outside the bundle"),
        ({"name": "../x"}, "load metadata", "points outside the bundle"),
    ],
)
def test_a_file_that_is_not_as_recorded(
    site: Site, tmp_path: Path, changes: dict[str, Any], stage: str, saying: str
) -> None:
    bundle = write_bundle(tmp_path / "b.tar", {**FILES, "data/x": b"x"}, with_file(**changes))
    refused(site, bundle, stage, saying)


@pytest.mark.parametrize(
    ("record", "saying"),
    [
        (transaction()[-1], "given twice"),
        ({"destinationTable": "FileKeyValue", "key": "k", "value": "v", "file_id": 3}, "is not the '_id' of a file"),
    ],
)
def test_the_catalogues_own_rules(site: Site, tmp_path: Path, record: dict[str, Any], saying: str) -> None:
    bundle = write_bundle(tmp_path / "b.tar", document=[*document_for(FILES), record])
    refused(site, bundle, "ingest metadata", saying)


@pytest.mark.parametrize(
    ("kind", "saying"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a character device"),
        (tarfile.BLKTYPE, "a block device"),
        (tarfile.FIFOTYPE, "a FIFO"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (b"Z", "of the unknown type"),
    ],
)
def test_members_that_are_no_plain_files(site: Site, tmp_path: Path, kind: bytes, saying: str) -> None:
    bad = member("data/bad", b"", type=kind, linkname="/etc/passwd")
    refused(site, write_tar(tmp_path / "b.tar", [bad, *GOOD]), "open tar", saying)


def test_pax_sparse_members(site: Site, tmp_path: Path) -> None:
    bad = member("data/bad", b"", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.realsize": "99"})
    bundle = write_tar(tmp_path / "b.tar", [bad, *GOOD], tar_format=tarfile.PAX_FORMAT)
    refused(site, bundle, "open tar", "a sparse file")


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "data/../../x"])
def test_names_that_lead_out_of_the_bundle(site: Site, tmp_path: Path, name: str) -> None:
    refused(site, write_tar(tmp_path / "b.tar", [member(name, b""), *GOOD]), "open tar", "points outside the bundle")


def test_a_header_that_claims_a_gigabyte_of_extension(site: Site, tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    (tmp_path / "b.tar").write_bytes(info.tobuf() + bytes(2048))
    refused(site, tmp_path / "b.tar", "open tar", "is 1.1 GB long")


def test_a_member_that_claims_more_than_there_is(site: Site, tmp_path: Path) -> None:
    info = tarfile.TarInfo("data/huge")
    info.size = 1 << 60  # written in base 256
    (tmp_path / "b.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    refused(site, tmp_path / "b.tar", "load metadata", "truncated")


ODD_TIMES = ["nan", "inf", "-inf", "1e300", "soon", "", "9" * 40, str(2**62), "253402300800"]


@pytest.mark.parametrize("mtime", ODD_TIMES)
def test_a_time_in_an_extended_header_that_no_clock_shows(site: Site, tmp_path: Path, mtime: str) -> None:
    odd = member("data/x", b"x", pax_headers={"mtime": mtime})
    document = member("metadata.txt", json.dumps(document_for({"data/x": b"x"})).encode())
    assert site.ingest(write_tar(tmp_path / "b.tar", [odd, document], tar_format=tarfile.PAX_FORMAT)).is_done
    assert len(site.witness.warnings) == 1
    assert site.witness.warnings[0].startswith("'data/x' has no usable modification time in the tar (")
    assert site.witness.warnings[0].endswith("it is stored as of 2016-11-29")  # which the member's own header has
    assert site.file(1).stat().st_mtime == 1480428545


@pytest.mark.parametrize("mtime", [2**70, 2**62, 253402300800, -62135596801])
def test_a_time_in_a_header_that_no_clock_shows(site: Site, tmp_path: Path, mtime: int) -> None:
    odd = member("data/x", b"x", mtime=mtime)
    document = member("metadata.txt", json.dumps(document_for({"data/x": b"x"})).encode())
    assert site.ingest(write_tar(tmp_path / "b.tar", [odd, document])).is_done
    assert site.witness.warnings == [
        f"'data/x' has no usable modification time in the tar ('{mtime}' is not one): it is stored as of 1970-01-01"
    ]
    assert site.file(1).stat().st_mtime == 0


@pytest.mark.parametrize("mtime", [253402300799, -62135596800, -1])
def test_the_first_and_the_last_time_of_all(site: Site, tmp_path: Path, mtime: int) -> None:
    files = [member("data/x", b"x", mtime=mtime)]
    document = member("metadata.txt", json.dumps(document_for({"data/x": b"x"})).encode())
    assert site.ingest(write_tar(tmp_path / "b.tar", [*files, document])).is_done
    assert site.witness.warnings == []
    again = site.database.parent / "same"
    again.touch()
    os.utime(again, (mtime, mtime))  # not every file system keeps every time
    assert site.file(1).stat().st_mtime == again.stat().st_mtime


@pytest.mark.parametrize("field", [b"\xff" * 12, b"notoctal\0\0\0\0", b"-0000000007\0"])
def test_sizes_that_are_no_number(site: Site, tmp_path: Path, field: bytes) -> None:
    header = bytearray(tarfile.TarInfo("data/x").tobuf())
    header[124:136] = field
    (tmp_path / "b.tar").write_bytes(signed(header) + bytes(1024))
    refused(site, tmp_path / "b.tar", "open tar", "is not a number")


def signed(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    edits=st.lists(st.tuples(st.integers(0, 511), st.integers(0, 255)), min_size=1, max_size=12),
    member_number=st.integers(0, 8),
    tar_format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_a_bundle_with_a_mangled_header_is_read_or_refused(
    tmp_path: Path, edits: list[tuple[int, int]], member_number: int, tar_format: int
) -> None:
    files = {"data/" + "x" * 120: b"x", "data/é": b"e", "data/a": b"a" * 600}
    raw = bytearray(write_bundle(tmp_path / "whole.tar", files, tar_format=tar_format).read_bytes())
    headers = [start for start in range(0, len(raw), 512) if is_header(bytes(raw[start : start + 512]))]
    start = headers[member_number % len(headers)]
    header = raw[start : start + 512]
    for position, value in edits:
        header[position] = value
    raw[start : start + 512] = signed(header)
    mangled = tmp_path / "mangled.tar"
    mangled.write_bytes(raw)
    try:
        with Bundle(mangled, tmp_path) as bundle:
            for name, found in bundle.members.items():
                assert not name.startswith("/")
                assert ".." not in name.split("/")
                assert found.offset + found.size <= len(raw)
    except BundleError:
        pass


def test_names_that_are_not_utf8(site: Site, tmp_path: Path) -> None:
    bundle = write_tar(tmp_path / "b.tar", [member("data/\udcff", b""), *GOOD])
    refused(site, bundle, "open tar", "not UTF-8")


def test_an_archive_that_is_no_folder(site: Site, tmp_path: Path) -> None:
    site.archive.parent.mkdir(parents=True)
    site.archive.write_text("in the way")
    with pytest.raises(IngestError, match="cannot prepare the archive"):
        site.ingest(write_bundle(tmp_path / "b.tar"))
    assert site.jobs()[0].task == "ingest files"
    assert not site.rows("Files")


def test_a_disk_that_fills_up_midway_fails_no_bundle(command: Command, site: Site, tmp_path: Path) -> None:
    files = {"data/small": b"s", "data/large": os.urandom(3 << 20)}
    bundle = write_bundle(tmp_path / "b.tar", files)
    limited = command.line(bundle)
    line = ["sh", "-c", 'ulimit -f 2048; exec "$@"', "sh", *limited]  # files of more than 1 MiB cannot be written
    done = subprocess.run(line, capture_output=True, cwd=tmp_path, text=True)
    assert done.returncode == 4
    assert "File too large" in done.stderr
    (job,) = site.jobs()
    assert (job.task, job.is_deferred, list(site.archived().values())) == ("ingest files", True, [b"s"])
    assert command("-q", bundle).returncode == 0
    assert site.contents() == files


def test_a_file_of_another_job_is_never_overwritten(site: Site, tmp_path: Path) -> None:
    site.file(2).parent.mkdir(parents=True)
    site.file(2).write_bytes(b"of another job")
    with pytest.raises(IngestError, match="already holds file 2"):
        site.ingest(write_bundle(tmp_path / "b.tar"))
    assert site.archived() == {2: b"of another job"}


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_a_bundle_that_may_not_be_read(command: Command, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    bundle.chmod(0)
    done = command(bundle)
    assert done.returncode == 1
    assert f"cannot read {bundle}: Permission denied" in done.stderr


def test_no_document_makes_a_job_wait_for_room(command: Command, site: Site, tmp_path: Path) -> None:
    document = [*transaction(), file_record("data/a", b"a", size=10**18)]
    done = command(write_bundle(tmp_path / "b.tar", {"data/a": b"a"}, document))
    assert done.returncode == ExitCode.FAILED
    assert "'data/a' is 1 byte long, but the metadata says 1,000,000,000,000,000,000" in done.stderr


def test_one_bad_bundle_does_not_end_the_run(command: Command, site: Site, tmp_path: Path) -> None:
    bad = write_tar(tmp_path / "bad.tar", [member("data/../../x", b""), *GOOD])
    done = command("-q", bad, write_bundle(tmp_path / "good.tar"))
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert site.contents() == FILES


def test_an_unreadable_bundle(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "missing.tar"
    done = command(path)
    assert done.returncode == 1
    assert str(path) in done.stderr
    assert len(done.stderr.splitlines()) == 1


MISTAKEN = {
    "a text": b"hello\n" * 1000,
    "an empty file": b"",
    "zeros": bytes(10240),
    "another format": b"PK\3\4" + bytes(2000),
    "a packed text": gzip.compress(b"hello\n" * 1000),
    "a packed nothing": gzip.compress(b""),
}


@pytest.mark.sweep
@pytest.mark.parametrize("words", [(), ("--queue",), ("move",)], ids=["ingest", "queue", "move"])
@pytest.mark.parametrize("what", MISTAKEN)
def test_what_is_no_bundle_makes_no_job(
    command: Command, site: Site, tmp_path: Path, what: str, words: tuple[str, ...]
) -> None:
    mistaken = tmp_path / "run7"
    mistaken.write_bytes(MISTAKEN[what])
    if words == ("move",) and what.startswith("a packed"):
        mistaken.write_bytes(b'{"not": "a list"}')
    done = command("-q", *words, mistaken)
    what = "a list in JSON" if words == ("move",) else "a tar"
    assert (done.returncode, done.stderr) == (1, f"ingest: {mistaken} is not {what}, or is empty\n")
    assert site.jobs() == []


def test_exit_codes_of_one_and_of_several(command: Command, tmp_path: Path) -> None:
    good, bad = write_bundle(tmp_path / "good.tar"), tmp_path / "bad.tar"
    bad.write_bytes(b"bad")
    done = command(bad)
    assert done.returncode == 1
    assert done.stderr == f"ingest: {bad} is not a tar, or is empty\n"
    assert command(good, bad).returncode == 3
    assert command(bad, bad).returncode == 1
    assert command("--no-such-option").returncode == 2
    assert "Traceback" in command("--debug", bad).stderr
