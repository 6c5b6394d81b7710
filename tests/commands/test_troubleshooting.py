"""Every message of ingest-troubleshooting(7) is one that the program prints, for the cause that is given there."""

import json
import os
import select
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest
import requests

from ingest_cli.api import ingest_folder
from ingest_cli.errors import FilesChanged
from ingest_cli.jobs.job import JobKind
from ingest_cli.jobs.moved import mark_filled
from ingest_cli.jobs.process import Life, Process, this_process
from ingest_cli.jobs.stages import INGEST_FILES
from ingest_cli.jobs.store import open_store
from ingest_cli.pipeline.observer import Observer
from ingest_cli.pipeline.submission import submit
from ingest_cli.server.admission import MAX_RECEPTIONS
from ingest_cli.server.streams import MAX_STREAMS
from ingest_cli.services.embedded.mark import MARK_NAME
from ingest_cli.services.factory import connect
from ingest_cli.watch.lock import LOCK_NAME, FolderLock

from ..support.bundles import (
    FILES,
    OF_FOLDERS,
    document_for,
    file_record,
    member,
    transaction,
    write_bundle,
    write_folder,
    write_tar,
)
from ..support.command import Command
from ..support.ingest_double import Handler as IngestHandler
from ..support.ingest_double import ReleasedIngest
from ..support.ingeststate import row, write_rows
from ..support.key_givers import KeyGiver
from ..support.loopback import LoopbackServer, QuietHandler
from ..support.messages import OF_ONE_HOST, Scene, is_said, messages_of
from ..support.pacifica_double import Fault, Handler, PacificaSite
from ..support.receiver import Receiver
from ..support.serving import OCTETS, Server, read_answer
from ..support.site import Site
from ..support.surroundings import Surroundings
from ..support.tar_forms import END, header, long_name, pax
from ..support.uploader_json import UPLOADER
from ..support.waiting import until
from ..support.watching import make_folder, without_inotify

TLS = Path(__file__).parents[1] / "data" / "tls"
# Nothing listens there.
NOWHERE = "http://127.0.0.1:1"
MESSAGES = messages_of(OF_ONE_HOST)
Provocation = Callable[[Scene], str]
PROVOCATIONS: dict[str, Provocation] = {}


def provokes(message: str) -> Callable[[Provocation], Provocation]:
    def note(provocation: Provocation) -> Provocation:
        assert message not in PROVOCATIONS
        PROVOCATIONS[message] = provocation
        return provocation

    return note


@pytest.fixture
def scene(command: Command, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(command, site, tmp_path, monkeypatch)


def test_every_message_is_provoked_and_no_other() -> None:
    assert list(PROVOCATIONS) == MESSAGES


@pytest.mark.sweep
@pytest.mark.parametrize("message", MESSAGES)
def test_the_program_says_it(scene: Scene, message: str) -> None:
    said = PROVOCATIONS[message](scene)
    assert is_said(message, said), said


@provokes("there is no configuration file *FILE*")
def no_configuration_file(scene: Scene) -> str:
    return scene.says("config", "--config", scene.folder / "none.ini", code=2)


@provokes("*FILE* is there already: change it with an editor, or replace it with --force")
def a_configuration_that_is_there(scene: Scene) -> str:
    (scene.folder / "config.ini").write_text("")
    return scene.says("config", "init", "--yes", "--config", scene.folder / "config.ini", code=2)


@provokes("there is no folder to watch: give one, or set [watch] folders in the configuration")
def nothing_to_watch(scene: Scene) -> str:
    return scene.says("watch", "--once", code=2)


@provokes("there is no home folder: set HOME, or XDG_DATA_HOME, or each of *KEYS*")
def no_home(scene: Scene) -> str:
    scene.environment.delenv("XDG_DATA_HOME")
    scene.environment.setenv("HOME", "relative")
    return scene.says("state", code=2)


@provokes("*PLACE*: [*SECTION*] *KEY*: write *VALUE* without its quotes")
def a_value_in_quotes(scene: Scene) -> str:
    (scene.folder / "config.ini").write_text('[database]\npath = "/srv/jobs"\n')
    return scene.says("config", "--config", scene.folder / "config.ini", code=2)


@provokes("s3:// needs [s3] *KEY*, or *VARIABLE*")
def no_access_key(scene: Scene) -> str:
    scene.environment.setenv("ARCHIVEINTERFACE_URL", "s3://data/x")
    return scene.under(AWS_ACCESS_KEY_ID="key")


@provokes("*PLACE*: [*SECTION*] *KEY* needs a job store on PostgreSQL: set [database] url (INGEST_DATABASE_URL)")
def a_shared_spool_of_one_host(scene: Scene) -> str:
    return scene.under(INGEST_SHARED_SPOOL="s3://uploads")


@provokes("*PLACE*: [*SECTION*] *KEY* is not postgresql://USER@HOST/DATABASE")
def a_database_without_a_name(scene: Scene) -> str:
    return scene.under(INGEST_DATABASE_URL="postgresql://ingest@db.example.org")


@provokes("*PLACE*: [*SECTION*] *KEY* is a file: give a URL as url (INGEST_DATABASE_URL)")
def a_database_in_place_of_a_file(scene: Scene) -> str:
    return scene.under(INGEST_DB="postgresql://ingest@db.example.org/ingest")


@provokes("PostgreSQL needs: pip install 'pacifica-ingest-cli[cluster]'")
def no_library_for_postgresql(scene: Scene) -> str:
    (scene.folder / "psycopg.py").write_text("raise ImportError")
    scene.environment.setenv("PYTHONPATH", f"{scene.folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return scene.under(INGEST_DATABASE_URL="postgresql://ingest@db.example.org/ingest")


@provokes("*FILE* is UTF-16: save it as UTF-8")
def a_file_of_utf_16(scene: Scene) -> str:
    (scene.folder / "config.ini").write_text("[database]\n", "utf-16")
    return scene.says("config", "--config", scene.folder / "config.ini", code=2)


@provokes("*FILE*: unknown key *KEY* in [*SECTION*]; did you mean *KEY*?")
def unknown_key(scene: Scene) -> str:
    (scene.folder / "config.ini").write_text("[uniqueid]\nurl_ = http://127.0.0.1:8051\n")
    return scene.says("config", "--config", scene.folder / "config.ini", code=2)


@provokes("*PLACE*: [*SECTION*] *KEY*: *URL* is neither file:///absolute/path nor an http(s) URL")
def a_path_for_a_url(scene: Scene) -> str:
    scene.environment.setenv("ARCHIVEINTERFACE_URL", "/srv/archive")
    return scene.says("config", code=2)


@provokes(
    "*FOLDER*: *NAMES* not given: give *FLAGS*, set *VARIABLES* or [defaults] in the configuration file,"
    " or write *FILE*"
)
def a_folder_of_nobody(scene: Scene) -> str:
    (scene.folder / "run").mkdir()
    return scene.says(scene.folder / "run", "--project", "1234a", code=2)


@provokes("there is no *STORE* *FILE* (*PLACE*: [*SECTION*] *KEY*)")
def no_store(scene: Scene) -> str:
    return scene.says("state", code=2)


@provokes("*STORE* *FILE* was written by a newer version of ingest; please upgrade")
def a_newer_store(scene: Scene) -> str:
    scene.ingest(code=0)
    with closing(sqlite3.connect(scene.site.database)) as connection:
        connection.execute("PRAGMA user_version = 1000")
    return scene.says("state")


@provokes("the *STORE* *FILE* has moved to *PLACE*: have the configuration name that")
def a_store_that_has_moved(scene: Scene) -> str:
    scene.ingest(code=0)
    assert scene.command("migrate-store", scene.site.database, "new").returncode == 0
    return scene.says("state")


@provokes("the *STORE* *FILE* is not complete: it is being filled from *PLACE*; 'ingest migrate-store' resumes that")
def a_store_that_is_not_complete(scene: Scene) -> str:
    scene.ingest(code=0)
    with closing(sqlite3.connect(scene.site.database)) as connection, connection:
        mark_filled(connection, "elsewhere")
    return scene.says("state")


@provokes("the *STORE* *FILE* is in use by *PROCESSES*: end what uses it first")
def a_store_in_use(scene: Scene) -> str:
    scene.ingest(code=0)
    with open_store(scene.site.settings):
        return scene.says("migrate-store", scene.site.database, "new", code=4)


@provokes("cannot use *STORE* *FILE*: file is not a database")
def no_database(scene: Scene) -> str:
    (scene.folder / "jobs").write_text("no database, but long enough to be looked at as one\n" * 20)
    return scene.says("state", "--db", scene.folder / "jobs")


@provokes("cannot read *FILE*: No such file or directory")
def no_bundle(scene: Scene) -> str:
    return scene.says("none.tar")


@provokes("no file and no command *WORD*; did you mean *COMMAND*?")
def a_mistyped_command(scene: Scene) -> str:
    return scene.says("sate", code=2)


@provokes("cannot read *FILE*: it is not a regular file")
def a_folder_for_a_document(scene: Scene) -> str:
    return scene.says("verify", "--receipt", scene.folder)


@provokes("*FILE* is not a tar, or is empty")
def no_tar(scene: Scene) -> str:
    (scene.folder / "b.zip").write_bytes(b"PK\3\4" + bytes(2000))
    return scene.says(scene.folder / "b.zip")


@provokes("this Python cannot unpack zstd: install backports.zstd for it, or pack the bundle with gzip")
def zstd_without_its_package(scene: Scene) -> str:
    if sys.version_info >= (3, 14):
        pytest.skip("this Python can unpack zstd")
    (scene.folder / "backports").mkdir()
    (scene.folder / "backports" / "__init__.py").write_text("# a package without zstd, found before the one with it\n")
    scene.environment.setenv("PYTHONPATH", f"{scene.folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    (scene.folder / "b.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    return scene.says(scene.folder / "b.tar.zst")


@provokes("the tar is truncated: it ends at byte *NUMBER*, inside a member")
def cut_short(scene: Scene) -> str:
    bundle = write_bundle(scene.folder / "b.tar")
    bundle.write_bytes(bundle.read_bytes()[:2000])
    return scene.says(bundle)


@provokes("the tar is truncated: it ends at byte *NUMBER* without the two empty blocks that end a tar")
def without_an_end(scene: Scene) -> str:
    bundle = write_bundle(scene.folder / "b.tar")
    whole = bundle.read_bytes()
    end = len(whole.rstrip(b"\0"))
    bundle.write_bytes(whole[: end + -end % 512])
    said = scene.says(bundle)
    with bundle.open("ab") as file:  # as is advised
        file.write(bytes(1024))
    scene.says(bundle, code=0)
    return said


@provokes("damaged tar: *REASON*")
def a_header_that_is_none(scene: Scene) -> str:
    bundle = write_bundle(scene.folder / "b.tar")
    bundle.write_bytes(bundle.read_bytes()[:1024] + b"x" * 512 + bytes(1024))
    return scene.says(bundle)


@provokes("a member has two names, *NAME* and *NAME*: readers of tars differ there")
def two_names(scene: Scene) -> str:
    (scene.folder / "b.tar").write_bytes(long_name(b"data/a") + pax(("path", "data/b")) + header(b"x") + END)
    return scene.says(scene.folder / "b.tar")


@provokes("*NAME* is *KIND*; a bundle holds regular files and folders only")
def a_link(scene: Scene) -> str:
    link = member("data/link", b"", type=b"2", linkname="a.txt")
    return scene.says(write_tar(scene.folder / "b.tar", [link]))


def packing(scene: Scene, code: int) -> str:
    (scene.folder / "run" / "a.txt").touch()
    return scene.says("pack", "run", "--submitter", 10, "--project", "1234a", "--instrument", 54, code=code)


@provokes("cannot be packed: *FILE* is a symbolic link")
def a_link_in_a_folder(scene: Scene) -> str:
    (scene.folder / "run").mkdir()
    (scene.folder / "run" / "link").symlink_to("a.txt")
    return packing(scene, code=1)


@provokes("warning: *NUMBER* empty folders left out: *NAMES*")
def empty_folders(scene: Scene) -> str:
    for name in ("a", "b"):
        (scene.folder / "run" / name).mkdir(parents=True)
    return packing(scene, code=0)


@provokes("*NAME* is a sparse file; pack it without tar's --sparse, or with bsdtar's --no-read-sparse")
def a_sparse_file(scene: Scene) -> str:
    (scene.folder / "b.tar").write_bytes(pax(("GNU.sparse.name", "data/a")) + header(b"x") + END)
    return scene.says(scene.folder / "b.tar")


@provokes("*FILE* contains no metadata.txt")
def no_document(scene: Scene) -> str:
    return scene.says(write_tar(scene.folder / "b.tar", [member("run/metadata.txt", b"[]"), member("data/a", b"a")]))


@provokes("the metadata is not JSON: *REASON*")
def no_json(scene: Scene) -> str:
    said = scene.ingest(metadata=b'[\n{"destinationTable": "Files",}]')
    assert "line 2 column" in said
    return said


@provokes("the metadata holds more than *NUMBER* values")
def too_many_values(scene: Scene) -> str:
    return scene.ingest(metadata=b"[" + b"0," * 8_000_001 + b"0]")


@provokes("the metadata has an object with two values of *KEY*")
def one_key_twice(scene: Scene) -> str:
    return scene.ingest(metadata=b'[{"destinationTable": "TransactionKeyValue", "key": "a", "key": "b"}]')


@provokes("metadata record *NUMBER*: *PROBLEM*")
def a_record_without_a_size(scene: Scene) -> str:
    record = file_record("data/a", b"a")
    del record["size"]
    said = scene.ingest({"data/a": b"a"}, [record, *transaction()])
    assert "metadata record 0: " in said
    return said


@provokes("the metadata has *NUMBER* *TABLE* records, but needs exactly one")
def no_project(scene: Scene) -> str:
    return scene.ingest(
        document=[record for record in document_for(FILES) if record["destinationTable"] != "Transactions.project"]
    )


@provokes("the metadata lists *FILE*, but it is not in the bundle")
def a_missing_file(scene: Scene) -> str:
    return scene.ingest({}, document_for(FILES))


@provokes("*FILE* is *SIZE* long, but the metadata says *NUMBER*")
def another_size(scene: Scene) -> str:
    return scene.of_a_file(size=2)


@provokes("*FILE* hashes to *TYPE* *HASH*, but the metadata says *HASH*")
def another_hash(scene: Scene) -> str:
    return scene.of_a_file(hashsum="0" * 40)


@provokes("*FILE*: a *TYPE* hashsum is *NUMBER* hex digits, not *HASH*")
def no_hash(scene: Scene) -> str:
    return scene.of_a_file(hashsum="deadbeef")


@provokes("warning: *FILE* is in the bundle but not in the metadata: it is not archived")
def an_unlisted_file(scene: Scene) -> str:
    return scene.ingest({**FILES, "data/stray": b""}, document_for(FILES), code=0)


@provokes("warning: *NAME* has no usable modification time in the tar (*WHAT*): it is stored as of *DATE*")
def an_odd_time(scene: Scene) -> str:
    document = member("metadata.txt", json.dumps(document_for({"data/a": b"a"})).encode())
    bundle = write_tar(scene.folder / "b.tar", [member("data/a", b"a", mtime=2**62), document])
    return scene.says(bundle, code=0)


@provokes("*FILE*: *TYPE* is not a MIME type such as 'text/plain'")
def no_mimetype(scene: Scene) -> str:
    return scene.of_a_file(mimetype="csv")


@provokes("cannot read the source *FILE* of *NAME*: No such file or directory")
def no_source(scene: Scene) -> str:
    return scene.move(scene.folder / "none")


@provokes("the source *FILE* was changed after it was hashed")
def a_source_that_is_written_to(scene: Scene) -> str:
    source = scene.folder / "a"
    source.write_bytes(b"a")

    def write(handler: Handler) -> bool:
        source.write_bytes(b"b")
        return False

    with PacificaSite() as server:
        scene.at(server, "UNIQUEID_URL")
        # Ids of files are asked for when all are hashed; the first one is the job's.
        server.fail("GET", 2, write)
        said = scene.move(source)
    assert source.read_bytes() == b"b"
    return said


@provokes("the source *FILE* is a file of this program's own, and is not moved")
def a_source_that_is_a_database(scene: Scene) -> str:
    return scene.move(scene.site.database)


@provokes("cannot read *DATABASE* now: *REASON*")
def a_database_that_is_away(scene: Scene) -> str:
    pytest.importorskip("psycopg")
    scene.environment.setenv("INGEST_DATABASE_URL", "postgresql://ingest@127.0.0.1:1/ingest")
    return scene.ingest(code=4)


@provokes("cannot read *DATABASE*: *REASON*")
def a_database_that_cannot_be_reached_as_it_is_set(scene: Scene) -> str:
    pytest.importorskip("psycopg")
    scene.environment.setenv("INGEST_DATABASE_URL", "postgresql://ingest@127.0.0.1:1/ingest?sslmode=of-no-kind")
    return scene.ingest()


@provokes("the site's policy refuses this bundle: *REASON*")
def a_schema_that_does_not_hold(scene: Scene) -> str:
    (scene.folder / "policy.json").write_text('{"maxItems": 1}')
    scene.environment.setenv("POLICY_INGEST_URL", (scene.folder / "policy.json").as_uri())
    return scene.ingest()


@provokes("the policy refuses this bundle: *REASON*")
def a_policy_service_that_refuses(scene: Scene) -> str:
    return with_fault(scene, "POST", 412, "Precondition Failed: Invalid values for project")


@provokes("*SERVICE* at *URL* does not answer: *REASON*")
def a_service_that_is_down(scene: Scene) -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    scene.environment.setenv("UNIQUEID_URL", f"http://127.0.0.1:{port}")
    return scene.ingest(code=4)


def without(scene: Scene, package: str) -> None:
    """A package that cannot be imported is found before the one that can."""
    scene.environment.setenv("PYTHONPATH", str(scene.folder), prepend=os.pathsep)
    missing = f"No module named {package}"
    (scene.folder / f"{package}.py").write_text(f"raise ModuleNotFoundError({missing!r})\n")


@provokes("cannot use Kerberos for *URL*: *REASON*; install the extra pacifica-ingest-cli[kerberos]")
def kerberos_without_its_package(scene: Scene) -> str:
    scene.environment.setenv("UNIQUEID_URL", "http://127.0.0.1:1")
    scene.environment.setenv("UNIQUEID_AUTH", "negotiate")
    without(scene, "requests_gssapi")
    return scene.ingest(code=2)


@provokes("the proxy that the environment sets for *URL* needs SOCKS: install the extra pacifica-ingest-cli[socks]")
def socks_without_its_package(scene: Scene) -> str:
    scene.environment.setenv("UNIQUEID_URL", "http://127.0.0.1:1")
    scene.environment.setenv("all_proxy", "socks5h://127.0.0.1:1")
    without(scene, "socks")
    return scene.ingest(code=2)


@provokes("the archive at *URL* does not store *FILE*: *REASON*")
def an_archive_that_lets_no_one_in(scene: Scene) -> str:
    return with_fault(scene, "PUT", 403, "Forbidden", code=4)


class Storage(QuietHandler):
    """Speaks S3, as far as it knows one answer, and that nothing else is there."""

    status, code = 404, "NoSuchKey"
    mark: bytes | None = None

    def do_GET(self) -> None:
        if self.mark is not None and "ARCHIVE-ID" in self.path:
            self._say(200, self.mark)
        elif "list-type=2" in self.path and self.code == "NoSuchKey":
            self._say(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        else:
            self._say(self.status, f"<Error><Code>{self.code}</Code></Error>".encode())

    do_PUT = do_HEAD = do_GET

    def _say(self, status: int, body: bytes) -> None:
        self.send_response_only(status)
        for name, text in {
            "Content-Length": len(body),
            "ETag": '"x"',
            "Last-Modified": formatdate(usegmt=True),
        }.items():
            self.send_header(name, str(text))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def in_storage(scene: Scene, url: str) -> str:
    """What is said of a bundle whose archive is to be in storage."""
    pytest.importorskip("obstore")
    variables = {"ARCHIVEINTERFACE_URL": "s3://data/x", "AWS_ENDPOINT_URL": url, "INGEST_SERVICE_TIMEOUT": "0.2"}
    for name, text in {**variables, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}.items():
        scene.environment.setenv(name, text)
    return scene.ingest({"data/new": b"new"}, code=4)


def with_storage(scene: Scene, **answers: object) -> str:
    with LoopbackServer(type("Answering", (Storage,), answers)) as server:
        return in_storage(scene, server.url)


@provokes("cannot *DO* in *BUCKET* at *URL*: *REASON*")
def storage_that_is_down(scene: Scene) -> str:
    return in_storage(scene, NOWHERE)


@provokes(
    "no access key for *URL*: *REASON*; see [s3] access_key_id and secret_access_key,"
    " or the other places that ingest-config(5) names"
)
def no_access_key_anywhere(scene: Scene) -> str:
    pytest.importorskip("obstore")
    for name, text in {
        "ARCHIVEINTERFACE_URL": "s3://data/x",
        "AWS_ENDPOINT_URL": NOWHERE,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": NOWHERE,
        "AWS_EC2_METADATA_DISABLED": "false",
    }.items():
        scene.environment.setenv(name, text)
    return scene.ingest({"data/new": b"new"}, code=4)


@provokes("cannot *DO* in *BUCKET* at *URL*: its access key has ended, and there is another one by now")
def an_access_key_that_has_ended(scene: Scene) -> str:
    pytest.importorskip("obstore")
    answers = {"status": 400, "code": "ExpiredToken"}
    with (
        KeyGiver(lambda number: (f"key{number}", "secret")) as giver,
        LoopbackServer(type("Answering", (Storage,), answers)) as server,
    ):
        variables = {"ARCHIVEINTERFACE_URL": "s3://data/x", "AWS_ENDPOINT_URL": server.url}
        service = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": giver.url, "AWS_EC2_METADATA_DISABLED": "false"}
        for name, text in {**variables, **service}.items():
            scene.environment.setenv(name, text)
        return scene.ingest({"data/new": b"new"}, code=4)


@provokes("cannot *DO* in *BUCKET* at *URL*: there is no such bucket: see [archiveinterface] url")
def no_such_bucket(scene: Scene) -> str:
    return with_storage(scene, code="NoSuchBucket")


@provokes(
    "cannot *DO* in *BUCKET* at *URL*: the access key may not do that:"
    " see [s3] access_key_id and secret_access_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)
def an_access_key_that_may_not(scene: Scene) -> str:
    return with_storage(scene, status=403, code="AccessDenied")


@provokes(
    "the archive is not in *BUCKET*: there is no *OBJECT*. Is it the right bucket?"
    " If it is to be the archive, make an empty object of this name"
)
def a_bucket_without_the_mark(scene: Scene) -> str:
    scene.ingest(code=0)
    return with_storage(scene)


@provokes(
    "the archive in *BUCKET* is not the one that this site has stored files in. Is it the right bucket?"
    " To use this archive all the same, add the line *ID* to *OBJECT*"
)
def another_bucket(scene: Scene) -> str:
    scene.ingest(code=0)
    return with_storage(scene, mark=b"another\n")


@provokes("*TEXT* is too long: the metadata service takes *NUMBER* characters")
def too_long_a_value(scene: Scene) -> str:
    with PacificaSite() as server:
        scene.at(server, "METADATA_INGEST_URL")
        pair = {"destinationTable": "TransactionKeyValue", "key": "Abstract", "value": "long " * 100}
        return scene.ingest(document=[*document_for(FILES), pair])


@provokes("*FILE* has no *KEY*, which the metadata service needs")
def a_file_without_a_time(scene: Scene) -> str:
    record = file_record("data/a", b"a")
    del record["mtime"]
    with PacificaSite() as server:
        scene.at(server, "METADATA_INGEST_URL")
        return scene.ingest({"data/a": b"a"}, [*transaction(), record])


@provokes("the metadata service refuses transaction *ID*: *REASON*")
def a_metadata_service_that_refuses(scene: Scene) -> str:
    with PacificaSite() as server:
        scene.at(server)
        # The document comes after its files, and is sent again once.
        for number in (1, 2):
            server.fail("PUT", len(FILES) + number, refusing(500, "unknown project"))
        return scene.ingest()


@contextmanager
def small_disk(scene: Scene) -> Iterator[Path]:
    disk = scene.folder / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True).returncode != 0:
        pytest.skip("a disk cannot be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@provokes("not enough space in the archive *FOLDER*: *SIZE* free, *SIZE* to store, *SIZE* in reserve")
def no_room(scene: Scene) -> str:
    with small_disk(scene) as disk:
        scene.environment.setenv("ARCHIVEINTERFACE_URL", (disk / "archive").as_uri())
        return scene.ingest(code=4)


@provokes("cannot open *STORE* *FILE* now: *REASON*")
def a_store_that_cannot_be_written(scene: Scene) -> str:
    return scene.command(write_bundle(scene.folder / "b.tar"), file_limit=0).stderr


@provokes(
    "the *STORE* *FILE* is not there, though *FILE* was used with it: is its disk mounted?"
    " An empty file in its place begins a new one"
)
def a_catalogue_that_is_away(scene: Scene) -> str:
    scene.ingest(code=0)
    scene.site.catalog.unlink()
    return scene.says("verify", 1, code=4)


@provokes(
    "the archive is not in *FOLDER*: *FILE* is missing. Is its disk mounted?"
    " If the folder is to be the archive, make an empty file of this name"
)
def an_archive_that_is_away(scene: Scene) -> str:
    scene.ingest(code=0)
    scene.site.archive.rename(scene.folder / "away")
    return scene.says("verify", 1, code=4)


@provokes(
    "the archive in *FOLDER* is not the one that this site has stored files in. Is the right disk mounted?"
    " To use this archive all the same, add the line *ID* to *FILE*"
)
def another_archive(scene: Scene) -> str:
    scene.ingest(code=0)
    (scene.site.archive / MARK_NAME).write_text("another\n")
    return scene.says("verify", 1, code=4)


@provokes("nothing is mounted at *FOLDER*, where files of *FILE* lay")
def a_bundle_whose_disk_is_away(scene: Scene) -> str:
    return of_a_job_without_its_file(scene, spooled=False, mounts=[scene.folder / "mnt"])


@provokes("*FILE* is not there: is the disk of the spool folder mounted? 'ingest discard *ID*' abandons the job")
def an_upload_whose_disk_is_away(scene: Scene) -> str:
    return of_a_job_without_its_file(scene, spooled=True, mounts=[])


@provokes("*URL* lies in a shared spool, but *PLACE* names none")
def an_upload_in_a_spool_that_is_not_known_here(scene: Scene) -> str:
    return of_a_job_without_its_file(scene, "s3://uploads/received-1.tar", spooled=True, mounts=[])


@provokes("cannot unpack *FILE* into *FOLDER*: *SIZE* free, *SIZE* in reserve")
def no_room_to_unpack(scene: Scene) -> str:
    with small_disk(scene) as disk:
        scene.environment.setenv("VOLUME_PATH", str(disk / "spool"))
        return scene.ingest(mode="w:gz", code=4)


@provokes(
    "could not be rolled back: file *ID* (the archive still holds *FILE*: another file is at *FILE* now)",
)
def another_file_in_the_place_of_a_moved_one(scene: Scene) -> str:
    source = scene.folder / "a"
    source.write_bytes(b"a")

    def replace(handler: Handler) -> bool:
        source.unlink()
        source.write_bytes(b"another")
        return refusing(400, "unknown project")(handler)

    with PacificaSite() as server:
        scene.at(server, "METADATA_INGEST_URL")
        server.fail("PUT", 1, replace)
        said = scene.move(source)
    assert source.read_bytes() == b"another"
    return said


@provokes(
    "the archive already holds file *ID* (*FILE*), which belongs to another job:"
    " does the id store belong to this archive?"
)
def ids_behind_the_archive(scene: Scene) -> str:
    scene.site.archive.mkdir(parents=True)
    scene.site.file(1).write_text("another job's")
    said = scene.ingest()
    assert scene.site.file(1).read_text() == "another job's"
    return said


@provokes("warning: events wait: *REASON*")
def an_event_that_nobody_takes(scene: Scene) -> str:
    with Receiver(503) as server:
        scene.environment.setenv("NOTIFICATIONS_URL", server.url)
        return scene.ingest(code=0)


@provokes(
    "warning: the event *KIND* of job *ID* is given up: *REASON*; 'ingest events --resend *NUMBER*' sends it again"
)
def an_event_that_is_given_up(scene: Scene) -> str:
    with Receiver(410) as server:
        scene.environment.setenv("NOTIFICATIONS_URL", server.url)
        return scene.ingest(code=0)


@provokes("standard input is closed: there is nothing to read from it")
def no_standard_input(scene: Scene) -> str:
    said = Surroundings(folder=scene.folder, environment=dict(os.environ), closed=frozenset([0])).run("-")
    assert said.status == 2
    return said.err.decode()


@provokes("cannot write standard output: *REASON*")
def a_full_disk_behind_standard_output(scene: Scene) -> str:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(scene.command.line("config"), stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    return done.stderr


@provokes("the working directory is gone: give absolute paths")
def no_working_directory(scene: Scene) -> str:
    said = Surroundings(folder=scene.folder, environment=dict(os.environ), gone=True).run("watch", "--once", "drop")
    assert said.status == 1
    return said.err.decode()


@provokes("warning: and *NUMBER* more files in the bundle but not in the metadata")
def many_unlisted_files(scene: Scene) -> str:
    return scene.ingest({**FILES, **{f"data/{number}": b"" for number in range(30)}}, document_for(FILES), code=0)


@provokes("there is no job *ID* in *FILE*")
def no_job(scene: Scene) -> str:
    scene.ingest(code=0)
    return scene.says("state", 7)


@provokes("*FILE* already holds a job *ID*; do its ids come from another id store?")
def ids_behind_the_job_store(scene: Scene) -> str:
    scene.ingest(code=0)
    scene.environment.setenv("UNIQUEID_URL", (scene.folder / "new-ids").as_uri())
    return scene.says("--again", write_bundle(scene.folder / "c.tar"))


@provokes("it will be tried again at *TIME*; do not send it again")
def a_job_that_is_deferred(scene: Scene) -> str:
    assert scene.command(write_bundle(scene.folder / "a.tar")).returncode == 0
    scene.site.archive.rename(scene.folder / "away")
    scene.ingest({"data/b": b"b"}, code=4)
    return exception_of(scene, 2)


@provokes("the same bundle was ingested before as job *ID*")
def a_duplicate(scene: Scene) -> str:
    for name in ("a.tar", "b.tar"):
        assert scene.command(write_bundle(scene.folder / name)).returncode == 0
    return exception_of(scene, 2)


@provokes("all that is in the folder was ingested before, the last of it as job *ID*")
def a_folder_of_which_nothing_is_new(scene: Scene) -> str:
    run = write_folder(scene.folder / "run")
    assert scene.command(run, *OF_FOLDERS).returncode == 0
    os.utime(run / "a.txt")
    assert scene.command(run, *OF_FOLDERS).returncode == 0
    return exception_of(scene, 2)


@provokes("the same document was ingested before as job *ID*; its sources are left where they are")
def a_move_of_what_was_moved_before(scene: Scene) -> str:
    for name in ("a.json", "b.json"):
        source, document = scene.folder / "source", scene.folder / name
        source.write_bytes(b"a")
        document.write_text(json.dumps([*transaction(), file_record("data/a", b"a", source=str(source))]))
        assert scene.command("move", document).returncode == 0
    return exception_of(scene, 2)


def exception_of(scene: Scene, job_id: int) -> str:
    """What a client is told of a job."""
    return str(json.loads(scene.command("state", job_id, "--json").stdout)["exception"])


@provokes("job *ID* was imported: only its state is known here")
def an_imported_job(scene: Scene) -> str:
    scene.says("import-jobs", write_rows(scene.folder / "db.sqlite3", [row(1016)]), code=0)
    return scene.says("retry", 1016)


@provokes("warning: job *ID* is not imported: it is a job of this store")
def a_job_of_both(scene: Scene) -> str:
    scene.ingest(code=0)
    return scene.says("import-jobs", write_rows(scene.folder / "db.sqlite3", [row(1)]), code=0)


@provokes("cannot read *FILE*: no such table: ingeststate")
def a_database_of_something_else(scene: Scene) -> str:
    scene.ingest(code=0)
    return scene.says("import-jobs", scene.site.database)


@provokes("job *ID* is being worked on by *PROCESS*")
def a_job_of_another_process(scene: Scene) -> str:
    return of_a_job_held_by(scene, this_process())


@provokes("job *ID* is being worked on by *PROCESS*, which is stopped")
def a_job_of_a_stopped_process(scene: Scene) -> str:
    with stopped_process() as process:
        return of_a_job_held_by(scene, process)


@provokes("the lease of job *ID* was lost to *PROCESS* while this process was silent: this process stops")
def a_job_that_another_process_took_over(scene: Scene) -> str:
    def take_over(handler: Handler) -> bool:
        # As a host does that has not seen the other's heartbeat for long.
        with scene.environment.context() as here, open_store(scene.site.settings) as store:
            here.setattr(Process, "life", lambda process: Life.GONE)
            store.lease(1)
        return False

    with PacificaSite() as server:
        scene.at(server, "METADATA_INGEST_URL", "ARCHIVEINTERFACE_URL")
        server.fail("PUT", len(FILES), take_over)
        said = scene.ingest(code=4)
        assert not server.transactions
    return said


@provokes("*FILE* was replaced after job *ID* was submitted: ingest it as a new job")
def a_changed_bundle(scene: Scene) -> str:
    scene.ingest({}, document_for(FILES))
    write_bundle(scene.folder / "b.tar")
    return scene.says("retry", 1)


@provokes("*FOLDER* was changed after job *ID* was submitted (*FILES*): ingest it as a new job")
def a_changed_folder(scene: Scene) -> str:
    run = write_folder(scene.folder / "run")
    scene.says("--queue", run, *OF_FOLDERS, code=0)
    (run / "new").write_text("x")
    return scene.says("retry", 1)


@provokes("*FILE* was modified while it was ingested")
def a_file_that_is_written_to(scene: Scene) -> str:
    path = write_folder(scene.folder / "run") / "sub" / "b.bin"

    class Writing(Observer):
        def stage(self, task: str) -> None:
            if task == INGEST_FILES:
                path.write_bytes(b"x")

    with pytest.raises(FilesChanged) as failed:
        ingest_folder(scene.folder / "run", submitter=10, project="1234a", instrument=54, observer=Writing())
    return f"ingest: {failed.value}"


@provokes("job *ID* cannot be retried: it is discarded; ingest its bundle as a new job")
def a_discarded_job(scene: Scene) -> str:
    scene.ingest({}, document_for(FILES))
    scene.says("discard", 1, code=0)
    return scene.says("retry", 1)


@provokes("job *ID* cannot be discarded: it is recorded in the catalogue")
def a_complete_job(scene: Scene) -> str:
    scene.ingest(code=0)
    return scene.says("discard", 1)


@provokes("job *ID* cannot be cancelled: it *STATE*")
def a_job_that_has_ended(scene: Scene) -> str:
    scene.ingest(code=0)
    return scene.says("cancel", 1)


@provokes("*NUMBER* jobs would be *CHANGED*: --yes does it, --dry-run lists them")
def jobs_that_may_not_be_meant(scene: Scene) -> str:
    for number in range(2):
        scene.says("--queue", write_bundle(scene.folder / f"{number}.tar", {f"data/{number}": b"x"}), code=0)
    return scene.says("cancel", "--waiting", code=2)


@provokes("job *ID* cannot be set to complete: the catalogue has no record of it")
def a_job_that_is_called_complete(scene: Scene) -> str:
    scene.ingest({}, document_for(FILES))
    return scene.says("job", "--job-id", 1, "--state", "OK", "--task", "ingest metadata", "--task-percent", 100)


@provokes("the catalogue has no record of job *ID*")
def nothing_to_verify(scene: Scene) -> str:
    scene.ingest({}, document_for(FILES))
    return scene.says("verify", 1)


@provokes("the catalogue has no record of job *ID*: *REASON*")
def nothing_to_list(scene: Scene) -> str:
    scene.ingest({}, document_for(FILES))
    return scene.says("ls", 1)


@provokes("job *ID* has no file or folder *PATH*; 'ingest ls *ID*' lists what it has, beside metadata.txt")
def a_path_that_a_bundle_has_not(scene: Scene) -> str:
    scene.ingest(code=0)
    return scene.says("restore", 1, "data/A.TXT", "--to", scene.folder / "new")


@provokes("the metadata service cannot be asked for this without listing all its files: add *OPTIONS*")
def a_search_for_everything(scene: Scene) -> str:
    scene.ingest(code=0)
    with PacificaSite() as server:
        scene.at(server, "METADATA_INGEST_URL")
        return scene.says("find", code=2)


@provokes(
    "anyone who can reach *ADDRESS* could store bundles: set token, or username and password,"
    " or trusted_proxies in [server]"
)
def no_one_is_said_to_be_allowed(scene: Scene) -> str:
    return scene.says("serve", "--host", "0.0.0.0", code=2)


@provokes("cannot listen at *ADDRESS* port *PORT*: *REASON*")
def a_port_that_is_taken(scene: Scene) -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return scene.says("serve", "--port", listener.getsockname()[1], code=2)


@provokes("cannot listen at *FILE*: another server does")
def a_unix_socket_that_is_taken(scene: Scene) -> str:
    place = scene.folder / "s"
    with Server(scene.folder, "--unix", place):
        return scene.says("serve", "--unix", place, code=2)


@provokes("this server does not answer to the host name *NAME*")
def a_name_that_is_not_the_servers(scene: Scene) -> str:
    with Server(scene.folder) as server:
        answer = requests.get(server.url, headers={"Host": "ingest.example.org"}, timeout=60)
    assert answer.status_code == 400
    return str(answer.json()["message"])


@provokes("the headers Forwarded and X-Forwarded-For disagree on the client")
def a_proxy_that_hands_on_what_a_client_made_up(scene: Scene) -> str:
    scene.environment.setenv("INGEST_TRUSTED_PROXIES", "127.0.0.1")
    headers = {"X-Forwarded-For": "192.0.2.60", "Forwarded": "for=192.0.2.61"}
    with Server(scene.folder) as server:
        answer = requests.get(server.url, headers=headers, timeout=60)
    assert answer.status_code == 400
    return str(answer.json()["message"])


@provokes(
    "this server moves no files: [server] move_from (INGEST_MOVE_FROM) in its configuration names the folders that it"
    " may move files from, and names none"
)
def no_folder_to_move_from(scene: Scene) -> str:
    return refused_move(scene, 403)


@provokes("the source *FILE* is not in a folder that [server] move_from names")
def another_folder_to_move_from(scene: Scene) -> str:
    scene.environment.setenv("INGEST_MOVE_FROM", "/elsewhere")
    return refused_move(scene, 403)


@provokes("this server returns nothing of what is stored: [server] downloads (INGEST_DOWNLOADS) in its configuration")
def no_downloads(scene: Scene) -> str:
    return refused_download(scene, 403)


@provokes("what is recorded of job *NUMBER* was not submitted by you")
def the_job_of_another(scene: Scene) -> str:
    scene.environment.setenv("INGEST_DOWNLOADS", "yes")
    scene.environment.setenv("INGEST_DEFAULT_USER", "ann")
    scene.ingest(code=0)
    scene.environment.setenv("INGEST_DEFAULT_USER", "bob")
    return refused_download(scene, 403)


@provokes("*NUMBER* downloads are under way: try again later")
def too_many_downloads(scene: Scene) -> str:
    scene.environment.setenv("INGEST_DOWNLOADS", "yes")
    scene.ingest({"data/a": bytes(16 << 20)}, code=0)
    asked = b"GET /jobs/1/bundle HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with Server(scene.folder) as server, ExitStack() as stack:
        for _ in range(MAX_STREAMS // 2):
            connection = stack.enter_context(server.connected())
            connection.sendall(asked)
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        status, error = server.exchange(asked)
    assert status == 503
    return str(error["message"])


@provokes("the archive does not hold what was recorded: see the server's log")
def a_damaged_download(scene: Scene) -> str:
    scene.environment.setenv("INGEST_DOWNLOADS", "yes")
    scene.ingest({"data/a": b"a"}, code=0)
    scene.site.file(1).chmod(0o644)
    scene.site.file(1).write_bytes(b"b")
    return refused_download(scene, 500)


@provokes("*NUMBER* uploads are under way: try again later")
def too_many_uploads(scene: Scene) -> str:
    begun = b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx"
    with Server(scene.folder) as server, ExitStack() as stack:
        connections = [stack.enter_context(server.connected()) for _ in range(MAX_RECEPTIONS // 2 + 1)]
        for connection in connections:
            connection.sendall(begun)
        refused, _, _ = select.select(connections, [], [], 60)
        status, error = read_answer(refused[0])
    assert status == 503
    return str(error["message"])


@provokes("no room for *SIZE*: the spool has room for *SIZE*")
def a_full_spool(scene: Scene) -> str:
    with Server(scene.folder, "--reserve", 1 << 60) as server:
        answer = requests.post(f"{server.url}/upload", data=b"x", headers=OCTETS, timeout=60)
    assert answer.status_code == 507
    return str(answer.json()["message"])


@provokes("no server to send to: give --to, or set url in [upload]")
def no_server(scene: Scene) -> str:
    return scene.says("upload", write_bundle(scene.folder / "b.tar"), code=2)


@provokes("to pack *PATH*, give *OPTIONS*, or the uploader.json of a site by --uploader-config")
def no_metadata(scene: Scene) -> str:
    return scene.says("upload", "--to", NOWHERE, make_folder(scene.folder / "run7"), code=2)


@provokes("*OPTION* is needed (*TITLE*): one of *VALUES*")
def a_choice_without_a_terminal(scene: Scene) -> str:
    config = scene.folder / "uploader.json"
    config.write_text(json.dumps(UPLOADER))
    with ReleasedIngest() as server:
        scene.environment.setenv("INGEST_UPLOAD_POLICY_URL", f"{server.url}/uploader")
        words = ("--uploader-config", config, "--logon", 10, "--instrument", 54, make_folder(scene.folder / "run7"))
        return scene.says("upload", "--to", server.url, *words, code=2)


@provokes("the server at *URL* requires credentials: *REASON*")
def no_credentials(scene: Scene) -> str:
    scene.environment.setenv("INGEST_SERVER_TOKEN", "secret")
    with Server(scene.folder) as server:
        return scene.says("upload", "--to", server.url, write_bundle(scene.folder / "b.tar"), code=2)


@provokes("the certificate of *URL* is not trusted (*REASON*): name its CA by --ca-file")
def a_certificate_of_a_site(scene: Scene) -> str:
    server, context = ReleasedIngest(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    server.speak_tls(context)
    with server:
        return scene.says("upload", "--to", server.url, write_bundle(scene.folder / "b.tar"), code=2)


@provokes("the server at *URL* has moved to *URL*: name that")
def a_server_that_has_moved(scene: Scene) -> str:
    def move(handler: IngestHandler) -> bool:
        handler.answer(308, {}, {"Location": "https://ingest.example.org/files"})
        return True

    with ReleasedIngest() as server:
        server.guard = move
        return scene.says("upload", "--to", server.url, write_bundle(scene.folder / "b.tar"), code=2)


@provokes("the server at *URL* does not answer: *REASON*")
def a_server_that_is_down(scene: Scene) -> str:
    return scene.says("upload", "--to", NOWHERE, "--retry-for", 0, write_bundle(scene.folder / "b.tar"), code=4)


@provokes("*FILE* was changed while it was sent")
def a_bundle_that_is_still_written(scene: Scene) -> str:
    bundle = write_bundle(scene.folder / "b.tar", {"data/large": bytes(4_000_000)})

    def write_more(handler: IngestHandler) -> bool:
        if handler.command == "POST":
            with bundle.open("ab") as file:
                file.write(b"more")
        return False

    with ReleasedIngest() as server:
        server.guard = write_more
        return scene.says("upload", "--to", server.url, bundle, "--limit-rate", "8M")


@provokes("another process is uploading it")
def two_uploads(scene: Scene) -> str:
    bundle = write_bundle(scene.folder / "b.tar")
    uploads = scene.folder / "data" / "pacifica-ingest-cli" / "uploads"
    client = scene.command.start("upload", "--to", NOWHERE, bundle)
    try:
        until(lambda: list(uploads.glob("*/record.json")))
        return scene.says("upload", "--to", NOWHERE, bundle, code=4)
    finally:
        client.kill()
        client.wait()


@provokes("job *ID* is at *STAGE*; it goes on at the server, and the same command waits for it again")
def a_job_that_takes_long(scene: Scene) -> str:
    with ReleasedIngest() as server:
        server.states = [{"state": "OK", "task": "ingest files"}]
        words = ("--max-wait", 0, write_bundle(scene.folder / "b.tar"))
        return scene.says("upload", "--to", server.url, *words, code=4)


@provokes("*FOLDER* is already watched by *PROCESS*")
def a_folder_of_another_watcher(scene: Scene) -> str:
    (scene.folder / "drop").mkdir()
    lock = FolderLock(scene.folder / "drop", scene.site.settings.spool)
    try:
        return scene.says("watch", "--once", scene.folder / "drop", code=4)
    finally:
        lock.release()


@provokes("the drop folder *FOLDER* is *PLACE* as well: give it a folder of its own")
def a_folder_for_two_things(scene: Scene) -> str:
    (scene.folder / "drop").mkdir()
    return scene.says("watch", "--once", "--done", scene.folder / "drop", scene.folder / "drop", code=2)


@provokes("there is no folder *FOLDER* for *OPTION*: make it, or mount its disk")
def no_folder_to_move_to(scene: Scene) -> str:
    (scene.folder / "drop").mkdir()
    return scene.says("watch", "--once", "--done", scene.folder / "share" / "done", scene.folder / "drop", code=2)


@provokes("the folder *FOLDER* of *OPTION* is away: *REASON*")
def a_folder_that_goes_away(scene: Scene) -> str:
    drop, done, log = (scene.folder / name for name in ("drop", "done", "log"))
    drop.mkdir()
    done.mkdir()
    with log.open("wb") as output:
        running = scene.command.start("watch", "--settle", 0, "--scan", 0.1, "--done", done, drop, output=output)
        try:
            until((drop / LOCK_NAME).exists)
            done.rename(scene.folder / "elsewhere")
            write_bundle(scene.folder / "b.tar").rename(drop / "b.tar")
            until(lambda: b"is away" in log.read_bytes())
            running.terminate()
            running.wait()
        finally:
            running.kill()
    return log.read_text()


@provokes("cannot move or delete *FILE* after job *ID*: Operation not permitted")
def a_file_of_another_in_a_sticky_folder(scene: Scene) -> str:
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can have files of another user")
    drop = scene.folder / "drop"
    drop.mkdir()
    for path in (drop, write_bundle(drop / "b.tar")):
        os.chown(path, 1000, 1000)
    drop.chmod(0o1777)
    line = scene.command.line("watch", "--once", "--settle", 0, "--delete", drop)
    done = subprocess.run(["setpriv", "--bounding-set=-fowner,-dac_override", *line], capture_output=True, text=True)
    return done.stderr


@provokes("*FILE*: job *ID*: it is ingested, but kept: *REASON*")
def a_file_that_is_archived_nowhere(scene: Scene) -> str:
    (scene.folder / "drop").mkdir()
    write_bundle(scene.folder / "drop" / "b.tar", {**FILES, "data/more": b"more"}, document_for(FILES))
    return scene.says("watch", "--once", "--settle", 0, "--delete", scene.folder / "drop", code=3)


def of_a_drop_folder(scene: Scene, *words: object, code: int = 0) -> str:
    return scene.says("watch", "--once", "--settle", 0.05, scene.folder / "drop", *words, code=code)


@provokes("*FOLDER*: passed over: *NAMES*: *REASON*")
def files_of_other_names(scene: Scene) -> str:
    (scene.folder / "drop").mkdir()
    (scene.folder / "drop" / "notes.txt").touch()
    return of_a_drop_folder(scene)


@provokes("*FOLDER*: left for the next run: *NAMES*: *REASON*")
def a_file_that_may_be_half_written(scene: Scene) -> str:
    (scene.folder / "drop").mkdir()
    (scene.folder / "drop" / "b.tar").write_bytes(bytes(1000))
    return of_a_drop_folder(scene)


@provokes("*FOLDER* is not packed: it holds *NAME*, which is being written or was left behind (then remove it)")
def a_folder_with_a_temporary_name(scene: Scene) -> str:
    make_folder(scene.folder / "drop" / "run", {"data/a": b"a", "data/b.part": b"b"})
    (scene.folder / "template.json").write_text(json.dumps(transaction()))
    return of_a_drop_folder(scene, "--patience", 0, "--pack", scene.folder / "template.json", code=1)


@provokes("no file system events (*REASON*): reading the folders every 2 s")
def no_inotify_instances(scene: Scene) -> str:
    line = without_inotify(scene.command.line("watch", scene.folder))
    with subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as watcher:
        assert watcher.stderr is not None
        said = watcher.stderr.readline()
        watcher.terminate()
        watcher.stderr.read()
    return said


def with_fault(scene: Scene, method: str, status: int, message: str, *, code: int = 1) -> str:
    """What is said of a bundle at a Pacifica site that answers so to the first request of ``method``."""
    with PacificaSite() as server:
        scene.at(server)
        server.fail(method, 1, refusing(status, message))
        return scene.ingest(code=code)


def refused_move(scene: Scene, status: int) -> str:
    """What a server says of moving a file over HTTP."""
    document = [*transaction(), file_record("data/a", b"a", source=str(scene.folder / "a"))]
    with Server(scene.folder) as server:
        answer = requests.post(f"{server.url}/move", json=document, timeout=60)
    assert answer.status_code == status
    return str(answer.json()["message"])


def refused_download(scene: Scene, status: int) -> str:
    """What a server says of downloading job 1."""
    with Server(scene.folder) as server:
        answer = requests.get(f"{server.url}/jobs/1/bundle", timeout=60)
    assert answer.status_code == status
    return str(answer.json()["message"])


def refusing(status: int, message: str) -> Fault:
    def fault(handler: Handler) -> bool:
        handler.body()
        handler.answer(status, {"status": str(status), "message": message})
        return True

    return fault


def of_a_job_held_by(scene: Scene, holder: Process) -> str:
    """What is said of a bundle whose job ``holder`` has."""
    bundle = write_bundle(scene.folder / "b.tar")
    settings = scene.site.settings
    with connect(settings) as services, open_store(settings) as store:
        submit(store, services.unique_id, JobKind.BUNDLE, bundle, user="u", holder=holder)
    return scene.says(bundle, code=4)


def of_a_job_without_its_file(scene: Scene, source: str = "", *, spooled: bool, mounts: list[Path]) -> str:
    """What is said of a job whose bundle lay where nothing lies now."""
    with open_store(scene.site.settings) as store:
        source = source or str(scene.folder / "mnt" / "b.tar")
        store.submit(
            1, kind=JobKind.BUNDLE, source=source, fingerprint="1:2:3", user="u", holder=None, spooled=spooled,
            mounts=mounts,
        )  # fmt: skip
    return scene.says("retry", 1, code=4)


@contextmanager
def stopped_process() -> Iterator[Process]:
    """A process that has stopped itself, as Ctrl-Z does."""
    program = (
        "import os, signal; from ingest_cli.jobs.process import this_process;"
        " print(this_process().to_text(), flush=True); os.kill(os.getpid(), signal.SIGSTOP)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            process = Process.from_text(child.stdout.readline())
            _, status = os.waitpid(child.pid, os.WUNTRACED)
            assert os.WSTOPSIG(status) == signal.SIGSTOP
            yield process
        finally:
            child.kill()
