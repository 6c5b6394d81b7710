"""Flags over environment over config.ini over defaults, and clear words about what cannot be used."""

import json
import re
from pathlib import Path

import pytest

from ingest_cli.errors import IngestError, PolicyRefused, SettingsError
from ingest_cli.settings import Endpoint, Option, load_settings, read_values
from ingest_cli.settings.options import (
    AUTH_HEADER,
    CONFIRM,
    DATABASE,
    DATABASE_URL,
    DEFAULT_INSTRUMENT,
    DEFAULT_SUBMITTER,
    DIGEST,
    DOCUMENT_LIMIT,
    DOWNLOADS,
    HOST,
    JOBS_PER_PROJECT,
    LISTEN,
    MOVE_FROM,
    NOTIFICATIONS_COMMAND,
    NOTIFICATIONS_DISABLED,
    OPTIONS,
    PACK_BELOW,
    POLICY_URL,
    PRIORITY,
    REMOTE_SOURCES,
    RETRIES,
    SERVER_PASSWORD,
    SERVER_USERNAME,
    SERVICE_TIMEOUT,
    SHARED_SPOOL,
    THREADS,
    TRANSFERS,
    TRUSTED_PROXIES,
)

from ..support.bundles import document_for, transaction, write_bundle
from ..support.command import Command
from ..support.site import Site, file_of

PACIFICA = """
[ingest]
volume_path = /srv/ingest
auth_header = X-Http-Authed-User
default_user = dmlb2001
transfer_size = 4 Mb
[uniqueid]
url = http://127.0.0.1:8051
[policy]
ingest_url = http://127.0.0.1:8181/ingest
[archiveinterface]
url = http://127.0.0.1:8080
[metadata]
ingest_url = http://127.0.0.1:8121/ingest
[database]
peewee_url = sqliteext:///db.sqlite3
connect_attempts = 10
connect_wait = 20
[celery]
broker_url = pyamqp://
backend_url = rpc://
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_flags_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = write(tmp_path / "config.ini", "[database]\npath = /from/file\n")
    environment = {"INGEST_CONFIG": str(file)}
    assert load_settings(environment={}).values[0].origin == "default"
    assert load_settings(environment=environment).database == Path("/from/file")
    environment["INGEST_DB"] = "/from/environment"
    assert load_settings(environment=environment).database == Path("/from/environment")
    settings = load_settings(environment=environment, flags={DATABASE: "/from/flag"})
    assert settings.database == Path("/from/flag")
    assert settings.values[0].origin == "command line"


def test_the_job_store_of_many_hosts_takes_the_place_of_the_file_unless_one_is_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path / "config.ini", "[database]\npath = /from/file\nurl = postgresql://u:s3cret@h/db\n")
    environment = {"INGEST_CONFIG": str(file)}
    assert str(load_settings(environment=environment).database) == "postgresql://u@h/db"
    environment["INGEST_DB"] = "/from/environment"
    assert load_settings(environment=environment).database == Path("/from/environment")
    environment["INGEST_DATABASE_URL"] = "postgres://h/other?password=s3cret&sslmode=require"
    settings = load_settings(environment=environment)
    assert str(settings.database) == "postgres://h/other?sslmode=require"
    assert load_settings(environment=environment, flags={DATABASE: "/flag"}).database == Path("/flag")
    assert "s3cret" not in f"{settings.database!r} {[value.shown for value in settings.values]}"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("INGEST_DATABASE_URL", "http://u:s3cret@h/db"),
        ("INGEST_DATABASE_URL", "postgresql://u:s3c/ret@h/db"),
        ("INGEST_DATABASE_URL", "postgresql://u:s3cret@h"),
        ("INGEST_DB", "postgresql://u:s3cret@h/db"),
        ("UNIQUEID_URL", "postgresql://u:s3cret@h"),
        ("METADATA_INGEST_URL", "postgresql://u:s3cret@h:port/db"),
    ],
)
def test_what_is_no_database_is_refused_without_its_password(variable: str, text: str) -> None:
    with pytest.raises(SettingsError, match=variable) as refused:
        load_settings(environment={variable: text})
    shown = [value.shown for value in read_values(environment={variable: text})]
    assert "s3c" not in f"{refused.value} {shown}"


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: str(option.variable))
def test_every_variable_is_heard_over_the_file(tmp_path: Path, option: Option) -> None:
    addresses = [("http:/" if option.key.endswith("url") else "") + f"/{place}/x" for place in ("file", "variable")]
    special = {
        DATABASE_URL: ["postgresql://here/a", "postgresql://there/b"],
        SHARED_SPOOL: ["s3://file/x", "s3://variable"],
        TRANSFERS: ["2", "3"],
        THREADS: ["2", "3"],
        RETRIES: ["2", "3"],
        DOCUMENT_LIMIT: ["2", "3"],
        REMOTE_SOURCES: ["no", "off"],
        CONFIRM: ["sample", "all"],
        DIGEST: ["none", "blake3"],
        PACK_BELOW: ["64KiB", "1 MiB"],
        AUTH_HEADER: ["X-User", "X-Me"],
        SERVICE_TIMEOUT: ["20", "0.5"],
        TRUSTED_PROXIES: ["::1", "::2 unix"],
        DOWNLOADS: ["no", "yes"],
        MOVE_FROM: ["/file/x", "/variable/x:/variable/y"],
        NOTIFICATIONS_DISABLED: ["no", "yes"],
        DEFAULT_SUBMITTER: ["1", "2"],
        DEFAULT_INSTRUMENT: ["1", "2"],
        HOST: ["here", "there"],
        PRIORITY: ["1", "2"],
        JOBS_PER_PROJECT: ["1", "2"],
        LISTEN: ["no", "yes"],
    }
    filed, told = special.get(option, addresses)
    beside = {
        SERVER_USERNAME: {SERVER_PASSWORD.variable: "p"},
        SERVER_PASSWORD: {SERVER_USERNAME.variable: "u"},
        SHARED_SPOOL: {DATABASE_URL.variable: "postgresql://h/db", **KEYS},
    }
    environment = beside.get(option, {})
    file = write(tmp_path / "config.ini", f"[{option.section}]\n{option.key} = {filed}\n")
    (value,) = (v for v in load_settings(config=file, environment=environment).values if v.option == option)
    assert (value.text, value.origin) == (filed, str(file))
    environment = {**environment, option.variable: told}
    (value,) = (v for v in load_settings(config=file, environment=environment).values if v.option == option)
    assert (value.text, value.origin) == (told, option.variable)


@pytest.mark.parametrize(
    ("text", "folders"),
    [
        ("/a", ["/a"]),
        ("/a:/b c", ["/a", "/b c"]),
        ("\n    /a\n    /b c\n", ["/a", "/b c"]),
        ("/a:\n    :/b:", ["/a", "/b"]),
        ("~/a", ["HOME/a"]),
        ("a", ["HERE/a"]),
    ],
)
def test_the_folders_that_files_are_moved_from(tmp_path: Path, text: str, folders: list[str]) -> None:
    settings = load_settings(config=write(tmp_path / "config.ini", f"[server]\nmove_from = {text}\n"))
    wanted = [name.replace("HOME", str(Path.home())).replace("HERE", str(Path.cwd())) for name in folders]
    assert settings.server.move_from == tuple(map(Path, wanted))
    assert load_settings(environment={}).server.move_from == ()


def test_nothing_is_downloaded_unless_the_site_says_so(tmp_path: Path) -> None:
    server = load_settings(environment={}).server
    assert (server.downloads, server.readers) == (False, frozenset())
    file = write(tmp_path / "config.ini", "[server]\ndownloads = Yes\nreaders = ann  bob\n    Céline\n")
    server = load_settings(config=file).server
    assert (server.downloads, server.readers) == (True, frozenset({"ann", "bob", "Céline"}))


def test_folders_that_blanks_separate_are_not_taken_for_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"INGEST_MOVE_FROM: .*separate folders by ':', not by blanks"):
        load_settings(environment={"INGEST_MOVE_FROM": "/a /b"})


def test_an_empty_variable_says_nothing() -> None:
    empty = {option.variable: "" for option in OPTIONS}
    assert {value.origin for value in load_settings(environment=empty).values} == {"default"}


@pytest.mark.parametrize(("text", "attempts"), [("0", 1), ("1", 2), ("19", 20), ("1000", 1001)])
def test_how_often_a_job_is_retried(text: str, attempts: int) -> None:
    timings = load_settings(environment={"INGEST_RETRIES": text}).timings
    assert (timings.retries, timings.attempts) == (int(text), attempts)
    assert timings.runs >= max(20, attempts), "runs that are cut off do not use the attempts up"
    assert load_settings(environment={}).timings.attempts == 20


@pytest.mark.parametrize("text", ["-1", "1001", "never", "1.5", "٣"])
def test_how_often_no_job_can_be_retried(text: str) -> None:
    with pytest.raises(SettingsError, match=r"INGEST_RETRIES: \[ingest\] retries: .* is not a number from 0 to 1000"):
        load_settings(environment={"INGEST_RETRIES": text})


def test_a_platform_folder_that_is_relative_is_ignored() -> None:
    assert file_of(load_settings(environment={"XDG_DATA_HOME": "here"})).is_relative_to(Path.home())


def test_a_pacifica_sites_own_file(tmp_path: Path) -> None:
    settings = load_settings(config=write(tmp_path / "config.ini", PACIFICA))
    assert settings.archive == Endpoint(url="http://127.0.0.1:8080")
    assert settings.catalog == Endpoint(url="http://127.0.0.1:8121/ingest")
    assert (settings.transfers, settings.confirm) == (1, "sample")
    assert settings.user == "dmlb2001"
    assert settings.spool == Path("/srv/ingest")


@pytest.mark.parametrize(
    ("text", "saying"),
    [
        ("no section", "malformed"),
        ("[ingest]\nvolume_path = a\nvolume_path = b", "malformed"),
        ("[ingest]\nvolume_pth = /x", "did you mean 'volume_path'"),
        ("[unique]\nurl = x", "did you mean 'uniqueid'"),
        ("[database]\npath = 50%", "[database] path"),
        ("[uniqueid]\nurl = ftp://x/y", "neither file:///absolute/path nor an http(s) URL"),
        ("[archiveinterface]\nurl = file:relative", "neither file:///absolute/path nor an http(s) URL"),
        ("[archiveinterface]\nurl = http://", "neither file:///absolute/path nor an http(s) URL"),
        ("[archiveinterface]\nconfirm = none", "[archiveinterface] confirm: 'none' is neither sample nor all"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, saying: str) -> None:
    file = write(tmp_path / "config.ini", text)
    with pytest.raises(SettingsError) as caught:
        load_settings(config=file)
    assert str(file) in str(caught.value)
    assert saying in str(caught.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no configuration file"):
        load_settings(config=tmp_path / "missing")
    (tmp_path / "binary").write_bytes(b"[ingest]\nvolume_path=\xff")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load_settings(config=tmp_path / "binary")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_file_of_any_editor(tmp_path: Path, encoding: str, end: str) -> None:
    text = "[ingest]\ndefault_user = Zoë\n[database]\npath = /from/file\n"
    (tmp_path / "config.ini").write_bytes(text.replace("\n", end).encode(encoding))
    settings = load_settings(config=tmp_path / "config.ini")
    assert (settings.user, settings.database) == ("Zoë", Path("/from/file"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_of_another_encoding_is_named_for_what_it_is(tmp_path: Path, encoding: str) -> None:
    mark = b"" if encoding == "utf-16" else "\ufeff".encode(encoding)
    (tmp_path / "config.ini").write_bytes(mark + "[ingest]\n".encode(encoding))
    with pytest.raises(SettingsError, match="is UTF-16: save it as UTF-8"):
        load_settings(config=tmp_path / "config.ini")


# A command is split as a shell does it.
WITHOUT_QUOTES = [option for option in OPTIONS if not option.secret and option != NOTIFICATIONS_COMMAND]


@pytest.mark.parametrize("option", WITHOUT_QUOTES, ids=lambda option: str(option.variable))
def test_quotes_around_a_value_are_refused(tmp_path: Path, option: Option) -> None:
    """They belong to no path, URL or name; as Pacifica's programs read the same file, they are not taken off."""
    for value in ('"/data/x"', "'/data/x'"):
        file = write(tmp_path / "config.ini", f"[{option.section}]\n{option.key} = {value}\n")
        told = re.escape(f"[{option.section}] {option.key}: write {value} without its quotes")
        with pytest.raises(SettingsError, match=told):
            load_settings(config=file)
        with pytest.raises(SettingsError, match=told):
            load_settings(environment={option.variable: value})


def test_quotes_belong_to_a_password(tmp_path: Path) -> None:
    file = write(tmp_path / "config.ini", '[server]\nusername = me\npassword = "it\'s"\n')
    assert load_settings(config=file).server.basic == ("me", '"it\'s"')


@pytest.mark.parametrize(
    ("variable", "value", "saying"),
    [
        ("INGEST_DB", "/data/\udce9", "is not valid UTF-8"),
        ("ARCHIVEINTERFACE_URL", "file:///data/%E9", "is not valid UTF-8"),
        ("INGEST_DB", "/data/\0", "contains a NUL character"),
        ("ARCHIVEINTERFACE_URL", "file:///data/%00", "contains a NUL character"),
        ("INGEST_DB", "~nobody-of-this-name/x", "there is no home folder for the ~"),
        ("INGEST_SERVER_TOKEN", "\udce9", "contains an unprintable character"),
        ("INGEST_DEFAULT_USER", "\x1b", "contains an unprintable character"),
    ],
)
def test_a_value_of_odd_bytes_is_refused(variable: str, value: str, saying: str) -> None:
    with pytest.raises(SettingsError, match=saying):
        load_settings(environment={variable: value})


def test_a_relative_path_is_one_below_the_working_directory_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(environment={"INGEST_DB": "jobs"})
    monkeypatch.chdir("/")
    assert settings.database == tmp_path / "jobs"


def test_a_working_directory_that_is_gone_is_missed_by_relative_paths_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert load_settings(environment={"INGEST_DB": "/data/jobs"}).database == Path("/data/jobs")
    with pytest.raises(SettingsError, match="'jobs' is relative, and the working directory is gone"):
        load_settings(environment={"INGEST_DB": "jobs"})


@pytest.mark.parametrize("home", ["/dev/null", "/nonexistent"])
def test_a_home_that_is_no_folder_has_no_configuration(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("HOME", home)
    assert file_of(load_settings(environment={})).is_relative_to(home)


def test_config_shows_every_value_and_its_origin(command: Command, tmp_path: Path) -> None:
    file = write(tmp_path / "config.ini", "[ingest]\ndefault_user = me\n")
    rows = json.loads(command("config", "--json", "--config", file, "--db", "/x/y").stdout)
    by_key = {(row["section"], row["key"]): (row["value"], row["origin"]) for row in rows}
    assert by_key["ingest", "default_user"] == ("me", str(file))
    assert by_key["database", "path"] == ("/x/y", "command line")
    assert command("config", "--config", tmp_path / "missing").returncode == 2


def test_a_site_allows_only_some_projects(site: Site, tmp_path: Path) -> None:
    project = {"properties": {"destinationTable": {"const": "Transactions.project"}}}
    schema = {"items": {"if": project, "then": {"properties": {"value": {"enum": ["1234a"]}}}}}
    policy = write(tmp_path / "policy.json", json.dumps(schema))
    site.settings = load_settings(flags={POLICY_URL: policy.as_uri()})
    assert site.ingest(write_bundle(tmp_path / "good.tar")).is_done
    other = [*transaction("other"), *document_for({"data/a": b"a"})[4:]]
    with pytest.raises(PolicyRefused, match="'other' is not one of"):
        site.ingest(write_bundle(tmp_path / "bad.tar", {"data/a": b"a"}, other))
    assert site.jobs()[0].task == "Policy Validation"


@pytest.mark.parametrize("text", ["not json", '{"type": 3}'])
def test_a_policy_that_is_no_schema(site: Site, tmp_path: Path, text: str) -> None:
    policy = write(tmp_path / "policy.json", text)
    site.settings = load_settings(flags={POLICY_URL: policy.as_uri()})
    with pytest.raises(IngestError, match="is not a JSON Schema"):
        site.ingest(write_bundle(tmp_path / "b.tar"))


KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "s3%cret"}


def test_a_prefix_with_a_backslash_is_refused() -> None:
    with pytest.raises(SettingsError, match="has a prefix that cannot be used"):
        load_settings(environment={"ARCHIVEINTERFACE_URL": "s3://data/a\\b", **KEYS})


def test_an_archive_in_storage_that_speaks_s3() -> None:
    place = {"ARCHIVEINTERFACE_URL": "s3://data.example/site/one", **KEYS}
    settings = load_settings(environment={**place, "AWS_ENDPOINT_URL": "http://127.0.0.1:8333/"})
    assert str(settings.archive) == "s3://data.example/site/one"
    assert settings.s3 is not None
    assert (settings.s3.endpoint, settings.s3.region, settings.s3.in_path) == (
        "http://127.0.0.1:8333",
        "us-east-1",
        True,
    )
    assert "s3%cret" not in repr(settings.s3)
    assert settings.transfers == 16
    amazons = load_settings(environment={**place, "AWS_DEFAULT_REGION": "eu-north-1"}).s3
    assert amazons is not None
    assert (amazons.endpoint, amazons.in_path) == ("https://s3.eu-north-1.amazonaws.com", False)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"AWS_SECRET_ACCESS_KEY": ""}, "AWS_SECRET_ACCESS_KEY"),
        ({"ARCHIVEINTERFACE_URL": "s3://UPPER/x"}, "s3://BUCKET/PREFIX"),
        ({"ARCHIVEINTERFACE_URL": "s3://bucket/../x"}, "prefix"),
        ({"AWS_ENDPOINT_URL": "http://user:word@host"}, "AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "ftp://host"}, "AWS_ENDPOINT_URL"),
        ({"INGEST_S3_ADDRESSING": "dns"}, "neither path nor host"),
    ],
)
def test_what_is_wrong_of_storage_that_speaks_s3_is_named(environment: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        load_settings(environment={"ARCHIVEINTERFACE_URL": "s3://bucket", **KEYS, **environment})
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"INGEST_SHARED_SPOOL": "/spool"}, "INGEST_SHARED_SPOOL: .ingest. shared_spool: '/spool' is not s3://"),
        ({"INGEST_DATABASE_URL": ""}, "needs a job store on PostgreSQL: set .database. url .INGEST_DATABASE_URL."),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "AWS_SECRET_ACCESS_KEY"),
        ({"ARCHIVEINTERFACE_URL": "s3://bucket/spool/archive"}, "lie one in the other"),
        ({"ARCHIVEINTERFACE_URL": "s3://bucket"}, "lie one in the other"),
    ],
)
def test_a_shared_spool_needs_a_database_and_a_place_of_its_own(environment: dict[str, str], said: str) -> None:
    whole = {"INGEST_DATABASE_URL": "postgresql://h/db", "INGEST_SHARED_SPOOL": "s3://bucket/spool", **KEYS}
    beside = {**whole, "ARCHIVEINTERFACE_URL": "s3://bucket/spools"}
    assert str(load_settings(environment=beside).shared_spool) == "s3://bucket/spool"
    with pytest.raises(SettingsError, match=said):
        load_settings(environment={**whole, **environment})


@pytest.mark.parametrize(
    ("text", "pack_below"),
    [("0", 0), ("500", 500), ("64KiB", 64 << 10), ("1 MiB", 1 << 20), ("100kB", 100_000), ("1mb", 1_000_000)],
)
def test_numbers_of_bytes(text: str, pack_below: int) -> None:
    assert load_settings(environment={PACK_BELOW.variable: text}).pack_below == pack_below


@pytest.mark.parametrize("text", ["1MiBs", "-1", "2MiB", "1.5kB", "many", "9" * 40])
def test_no_numbers_of_bytes(text: str) -> None:
    with pytest.raises(SettingsError, match="PACK_BELOW"):
        load_settings(environment={PACK_BELOW.variable: text})
