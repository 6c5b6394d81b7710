"""The manual pages and the README say what the program does: no more and no less. Those of commands: see beside."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.api import check_bundle
from ingest_cli.bundle.bounds import MAX_DEPTH, MAX_OBJECTS, MAX_VALUES
from ingest_cli.bundle.catalog_rules import MIMETYPE
from ingest_cli.bundle.compression import FREE_BYTES, MAX_MEMORY, MAX_RATIO
from ingest_cli.bundle.extension import MAX_EXTENSION_BYTES
from ingest_cli.bundle.header import MAX_NAME_BYTES
from ingest_cli.bundle.json_list import MAX_RECORDS, MAX_VALUE_CHARACTERS
from ingest_cli.bundle.listed import HASH_TYPES, MAX_PATH_BYTES
from ingest_cli.bundle.metadata import MAX_ID, Document
from ingest_cli.bundle.schema import metadata_schema
from ingest_cli.bundle.tar import MAX_HEADERS
from ingest_cli.cli import group
from ingest_cli.cli.describe import describe
from ingest_cli.errors import ExitCode
from ingest_cli.jobs.job import JobState
from ingest_cli.jobs.process import Life, Process, this_process
from ingest_cli.jobs.stages import STAGES
from ingest_cli.jobs.store import open_store
from ingest_cli.jobs.transitions import TRANSITIONS
from ingest_cli.retrieval.content import MOST_BEFORE_BYTES
from ingest_cli.server.admission import MAX_RECEPTIONS
from ingest_cli.server.carts import MAX_CARTS, MAX_FILES
from ingest_cli.server.job_query import MAX_LISTED, USUAL_COUNT
from ingest_cli.server.receiving import IDLE_SECONDS
from ingest_cli.server.streams import MAX_STREAMS
from ingest_cli.server.uploads import MAX_UPLOADS
from ingest_cli.services.pacifica.catalog import MOST_CHARACTERS
from ingest_cli.settings import Endpoint, Settings, load_settings
from ingest_cli.settings.options import (
    ACCESS,
    OPTIONS,
    PACIFICA_KEYS,
    PACIFICA_SECTIONS,
    USUAL_DOCUMENT_MIB,
    USUAL_RETRIES,
)
from ingest_cli.settings.site import MAX_DOCUMENT_MIB, MAX_TRANSFERS, MOST_RETRIES

from ..support.a_job import a_job
from ..support.bundles import FILES, document_for, write_bundle
from ..support.site import Site

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "man" / "ingest.1"
PAGES = sorted((ROOT / "man").iterdir())
EXIT_CODES = sorted(map(int, ExitCode))


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text("utf-8")


ACCESS_OPTIONS = [option for access in ACCESS.values() for option in access.options]
OTHER_OPTIONS = [option for option in OPTIONS if option not in ACCESS_OPTIONS]


def section(page: str, title: str) -> str:
    found = re.search(rf"^\.S[hs] {title}\n(.*?)(?=^\.S[hs] |\Z)", page, re.M | re.S)
    assert found is not None, f"the page has no section {title}"
    return found[1]


def items(text: str, macro: str = "") -> list[str]:
    """The first words of a list's items, where these are in ``macro``."""
    return re.findall(rf"^\.It {macro}(\S+)", text, re.M)


def test_the_page_has_the_variables_that_are_not_of_settings(page: str) -> None:
    named = items(section(page, "ENVIRONMENT"), "Ev ")
    assert named == sorted(named)
    assert set(named) - {option.variable for option in OPTIONS} == {"INGEST_CONFIG", "NO_COLOR", "PAGER", "TERM"}


def test_the_page_has_every_stage_in_order(page: str) -> None:
    assert re.findall(r"^\.It Li (.+)$", section(page, "STAGES"), re.M) == list(STAGES)


def test_the_page_has_every_state_and_what_clients_see(page: str) -> None:
    rows = re.findall(r"^\.It Li (\w+) Ta (\w+) Ta$", section(page, "JOB STATES"), re.M)
    assert rows == [(str(state), a_job(state).as_state()["state"]) for state in JobState]
    assert a_job(JobState.QUEUED, retry_at=1).as_state()["state"] == "FAILED"
    assert a_job(JobState.UNDOING, undo_to=JobState.DUPLICATE).as_state()["state"] == "OK"


def test_the_page_has_what_is_said_of_jobs_that_are_queued_or_running(
    page: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = [a_job(JobState.QUEUED, **changes) for changes in ({}, {"retry_at": 1}, {"attempts": 1})]
    said = {describe(job) for job in queued}
    for life in (Life.RUNNING, Life.STOPPED, Life.GONE):
        monkeypatch.setattr(Process, "life", lambda self, life=life: life)
        with open_store(site.settings) as store:
            said.add(describe(a_job(JobState.RUNNING, holder=this_process()), store))
    assert set(items(section(page, "JOB STATES"), "Ql ")) == said


def test_the_page_has_every_transition(page: str) -> None:
    rows = re.findall(
        r'^\.It Sy "?([a-z ]+?)"? : No ([a-z ,]+) \\\(-> ([a-z ,]+)\nBy ([^:]+):\n((?:[^.].*\n)+)',
        section(page, "Transitions"),
        re.M,
    )
    assert len(rows) == section(page, "Transitions").count("\n.It ")
    assert [(*row[:4], row[4].replace("\n", " ").strip()) for row in rows] == [
        (
            str(way.event),
            "any state" if way.sources == set(JobState) else _in_order(way.sources),
            _in_order(way.targets) or "the same",
            way.actor.value,
            f"{way.meaning}.",
        )
        for way in TRANSITIONS.values()
    ]


def _in_order(states: frozenset[JobState]) -> str:
    return " , ".join(state for state in JobState if state in states)


def test_the_page_has_every_exit_code(page: str) -> None:
    assert sorted(map(int, items(section(page, "EXIT STATUS")))) == EXIT_CODES


def test_the_help_has_the_same_exit_codes() -> None:
    assert [int(code) for code, _ in group.EXIT_CODES] == EXIT_CODES


def test_the_package_installs_every_page() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"man": "ingest_cli/man"}
    assert wheel["shared-data"] == {f"man/{page.name}": f"share/man/man{page.suffix[1:]}/{page.name}" for page in PAGES}


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_is_clean_mdoc(path: Path, tmp_path: Path) -> None:
    """Its references to other pages are looked up among those that the package installs."""
    for other in PAGES:
        folder = tmp_path / f"man{other.suffix[1:]}"
        folder.mkdir(exist_ok=True)
        shutil.copy(other, folder)
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "style", path],
        env={"MANPATH": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if "outdated mandoc.db" not in line]
    assert (done.returncode, said) == (0, [])


def subsections(page: str) -> dict[str, str]:
    """The page's subsections, by their titles without macros."""
    found = re.findall(r"^\.Ss (?:Bq )?(.+)\n((?:(?!\.S[hs] ).*\n)*)", page, re.M)
    return dict(found)


def literals(text: str) -> list[str]:
    """What stands in the text as it is."""
    return re.findall(r"^\.Bd -literal.*\n((?:(?!\.Ed$).*\n)*)\.Ed$", text, re.M)


def plain(text: str) -> str:
    """The words of mdoc text, as they come out."""
    text = re.sub(r" Ns (?:Li |Pa |Ar )?", "", text)
    return re.sub(r"^\.(?:Li|Pa|Ar|Ql|Sq|Dq|Fl|Ev) ", "", text, flags=re.M)


@pytest.fixture(scope="module")
def config_page() -> str:
    return (ROOT / "man" / "ingest-config.5").read_text("utf-8")


def test_the_configuration_page_has_every_section_key_and_variable(config_page: str) -> None:
    sections = {option.section for option in OTHER_OPTIONS}
    named = {
        (name, key, variable)
        for name, text in subsections(config_page).items()
        for key, variable in re.findall(r"^\.It Li (\w+) Pq Ev (\w+)$", text, re.M)
    }
    assert named == {(option.section, option.key, option.variable) for option in OTHER_OPTIONS}
    assert set(re.findall(r"^\.Ss Bq (\w+)$", config_page, re.M)) == sections


def test_the_configuration_page_has_every_default(config_page: str, environment: Path) -> None:
    data = environment / "data" / "pacifica-ingest-cli"
    texts = re.findall(r"^\.It Li \w+ Pq Ev (\w+)\n((?:(?!\.It |\.El$).*\n)*)", config_page, re.M)
    assert len(texts) == len(OTHER_OPTIONS)
    for variable, text in texts:
        (value,) = [value for value in load_settings().values if value.option.variable == variable]
        said = re.search(r"The default is\s(.+?) ?\.$", plain(text), re.M)
        if variable == "INGEST_DEFAULT_USER":
            assert said is not None
            assert said[1] == "the login name"
        else:
            assert (said[1] if said else "") == value.text.replace(str(data), "data")


def test_the_configuration_page_has_what_every_service_over_http_takes(config_page: str) -> None:
    text = subsections(config_page)["Services over HTTP"]
    prefixes = re.findall(r"^\.It Bq (\w+)\n\.Ev ([A-Z_]+_)$", text, re.M)
    named = [(name, key, f"{prefix}{key.upper()}") for name, prefix in prefixes for key in items(text, "Li ")]
    assert named == [(option.section, option.key, option.variable) for option in ACCESS_OPTIONS]


def test_the_configuration_page_has_what_is_pacificas(config_page: str) -> None:
    text = subsections(config_page)["Settings of Pacifica Ingest"]
    found = dict(re.findall(r"^\.It Bq (\w+)\n(?:\.Li )?(.*)$", text, re.M))
    assert found == dict.fromkeys(PACIFICA_SECTIONS, "All keys.") | {
        name: " , ".join(keys) for name, keys in PACIFICA_KEYS.items()
    }


def test_the_configuration_page_has_the_other_variables(config_page: str) -> None:
    assert items(section(config_page, "ENVIRONMENT"), "Ev ") == [
        "HOME",
        "INGEST_CONFIG",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
    ]


def test_the_configuration_page_has_the_most_transfers(config_page: str) -> None:
    assert f"takes at once, 1 to {MAX_TRANSFERS}." in config_page


def test_the_configuration_page_has_the_most_retries(config_page: str) -> None:
    assert f"is retried, 0 to {MOST_RETRIES};" in config_page
    assert f".Li {USUAL_RETRIES} ." in config_page


def test_the_configuration_page_has_the_longest_document(config_page: str) -> None:
    assert f"1 to {MAX_DOCUMENT_MIB};" in config_page
    assert f".Li {USUAL_DOCUMENT_MIB} ." in config_page


def test_the_page_of_the_server_has_its_limits() -> None:
    page = " ".join((ROOT / "man" / "ingest-serve.1").read_text("utf-8").split())
    assert f"At most {MAX_RECEPTIONS} bodies" in page
    assert f"{MAX_UPLOADS} resumable uploads are open" in page
    assert f"more than {MAX_OBJECTS:,}, is refused" in page
    assert f"nothing for {IDLE_SECONDS:.0f} seconds" in page
    assert f"At most {MAX_STREAMS} downloads" in page
    assert f"at most {MOST_BEFORE_BYTES >> 30} GiB come before" in page
    assert f"A cart has up to {MAX_FILES:,} files" in page
    assert f"At most {MAX_CARTS} carts are kept" in page
    assert f"So many at most: {USUAL_COUNT} unless it says otherwise, and up to {MAX_LISTED}." in page


def test_every_example_of_the_configuration_page_is_taken(config_page: str, tmp_path: Path) -> None:
    alone, site, server = [_load(text, tmp_path / "config.ini") for text in literals(section(config_page, "EXAMPLES"))]
    assert (alone.archive, alone.policy) == (Path("/srv/archive"), Path("/etc/ingest/policy.json"))
    services = (site.unique_id, site.policy, site.archive, site.catalog)
    assert [isinstance(service, Endpoint) for service in services] == [True] * 4
    assert (site.transfers, site.database) == (4, Path("/srv/ingest/jobs.sqlite3"))
    assert isinstance(server.archive, Endpoint)
    assert server.archive.basic == ("ingest", "100%secret")
    assert len(server.server.trusted_proxies) == 2
    assert server.server.move_from == (Path("/srv/instruments"), Path("/srv/scratch"))
    assert (server.server.downloads, server.server.readers) == (True, frozenset({"curator"}))


def test_what_is_added_to_pacificas_configuration_is_taken(tmp_path: Path) -> None:
    steps = (ROOT / "man" / "ingest-pacifica.7").read_text("utf-8")
    (added,) = [text for text in literals(steps) if text.startswith("[database]")]
    settings = _load(added, tmp_path / "config.ini")
    assert (settings.database, len(settings.server.trusted_proxies)) == (Path("/srv/ingest/jobs.sqlite3"), 1)
    assert settings.server.move_from == (Path("/srv/instruments"),)


def test_the_policy_of_the_configuration_page_allows_its_projects_only(
    config_page: str, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (policy,) = literals(section(config_page, "A POLICY OF YOUR SITE"))
    (tmp_path / "policy.json").write_text(policy)
    monkeypatch.setenv("POLICY_INGEST_URL", (tmp_path / "policy.json").as_uri())
    for project, is_allowed in [("5678b", True), ("9012c", True), ("1234a", False)]:
        document = [
            record | ({"value": project} if record["destinationTable"] == "Transactions.project" else {})
            for record in document_for(FILES)
        ]
        problems = check_bundle(write_bundle(tmp_path / "b.tar", document=document)).problems
        assert [project in str(problem) for problem in problems] == ([] if is_allowed else [True])


def _load(text: str, path: Path) -> Settings:
    path.write_text(text, "utf-8")
    return load_settings(config=path)


@pytest.fixture(scope="module")
def bundle_page() -> str:
    return (ROOT / "man" / "ingest-bundle.5").read_text("utf-8")


def test_the_bundle_page_has_every_table_and_key_with_its_type(bundle_page: str) -> None:
    tables = re.split(r"^\.It Sy (\S+)\n", subsections(bundle_page)["Records"], flags=re.M)[1:]
    keys = {
        table: re.findall(r"^\.It Li (\w+) Pq (\w+)( , required)?$", text, re.M)
        for table, text in zip(tables[::2], tables[1::2], strict=True)
    }
    definitions = {name: definition for name, definition in metadata_schema()["$defs"].items() if name != "record"}
    assert {table: set(rows) for table, rows in keys.items()} == {
        table: {
            (key, value["type"], " , required" if key in definition["required"] else "")
            for key, value in definition["properties"].items()
        }
        for table, definition in definitions.items()
    }
    assert sum(map(len, keys.values())) == len(re.findall(r"^\.It Li ", subsections(bundle_page)["Records"], re.M))


def test_the_bundle_page_has_what_every_record_has(bundle_page: str) -> None:
    record: dict[str, Any] = metadata_schema()["$defs"]["record"]
    assert record["required"] == list(record["properties"]) == ["destinationTable"]
    assert ".Li destinationTable ,\na string," in subsections(bundle_page)["The document"]


def test_the_bundle_page_has_every_type_of_hash(bundle_page: str) -> None:
    assert set(re.findall(r"\bLi (\w+)", subsections(bundle_page)["Hashes"])) == HASH_TYPES


def test_the_bundle_page_has_every_kind_of_media(bundle_page: str) -> None:
    text = re.search(r"begins with one of ([\s\S]+?), and a$", bundle_page, re.M)
    assert text is not None
    kinds = re.split(r",\s| or ", text[1])
    # One of them is there twice, once as Pacifica spells it.
    assert {*kinds, "mulitpart"} == set(MIMETYPE.pattern.partition(")")[0].removeprefix("(").split("|"))


def test_the_bundle_page_has_the_limits(bundle_page: str) -> None:
    numbers = [int(number) for number in items(subsections(bundle_page)["Limits"], "Li ")]
    assert numbers == [
        *(USUAL_DOCUMENT_MIB << 20, MAX_RECORDS, MAX_VALUE_CHARACTERS),
        *(MAX_OBJECTS, MAX_VALUES, MAX_DEPTH),
        *(MAX_EXTENSION_BYTES, MAX_NAME_BYTES, MOST_CHARACTERS),
        *(MAX_HEADERS, FREE_BYTES, MAX_RATIO, MAX_MEMORY, MAX_ID),
    ]
    assert MAX_PATH_BYTES == MAX_NAME_BYTES


def test_the_example_of_the_bundle_page_is_ingested(bundle_page: str, site: Site, tmp_path: Path) -> None:
    metadata, commands = literals(section(bundle_page, "EXAMPLES"))
    document = Document.parse(metadata.encode())
    assert [entry.path for entry in document.files] == ["data/night/notes.txt"]
    assert {record["destinationTable"] for record in json.loads(metadata)} == {
        table for table in metadata_schema()["$defs"] if table not in ("record", "Transactions._id")
    }
    said = re.search(r"echo '(.*)' > (\S+)", commands)
    assert said is not None
    files = {said[2]: f"{said[1]}\n".encode()}
    assert site.ingest(write_bundle(tmp_path / "night.tar", files, metadata=metadata.encode())).is_done
    assert site.contents() == files
