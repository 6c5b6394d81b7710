"""Each of several hosts shows the processes and the jobs of all, and acts on them."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from ingest_cli.jobs.attendance import patience_of
from ingest_cli.jobs.sightings import Sightings
from ingest_cli.jobs.store import open_store
from ingest_cli.settings import PostgresUrl, load_settings

from ..support.bundles import write_bundle
from ..support.cluster import Cluster, Host, cluster
from ..support.command import Command
from ..support.links import LOOPBACK, Link
from ..support.postgres import PostgresServer, bouncing
from ..support.serving import Server
from ..support.waiting import until

pytestmark = pytest.mark.cluster
# Who is looked at gives signs of life more often than whoever looks expects of it, as a slow machine needs.
QUICK = {"presence": 0.2, "heartbeat": 0.2, "poll": 0.05}
LOOKING = {**QUICK, "presence": 1.0}


@pytest.fixture
def two(tmp_path: Path, postgres: PostgresUrl, postgres_server: PostgresServer) -> Iterator[Cluster]:
    """Two hosts that share a database and a disk."""
    name = postgres.text.rpartition("/")[2]

    def variables(links: Mapping[str, Link]) -> dict[str, str]:
        url = f"postgresql://postgres@{links['database']}/{name}"
        shared = dict.fromkeys(("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL"), url)
        return {**shared, "ARCHIVEINTERFACE_URL": (tmp_path / "archive").as_uri()}

    with cluster(tmp_path, ["east", "west"], {"database": (LOOPBACK, postgres_server.port)}, variables) as hosts:
        hosts["east"].timings, hosts["west"].timings = QUICK, LOOKING
        yield hosts


def listed(place: Host) -> list[dict[str, Any]]:
    """What ``ingest hosts`` says there, as soon as a machine that is at much else lets it reach the database."""
    found: list[list[dict[str, Any]]] = []

    def tried() -> bool:
        done = place.run("hosts", "--json")
        assert done.returncode in (0, 4), done.stderr
        found[:] = [json.loads(done.stdout)]
        return done.returncode == 0

    until(tried)
    return found[0]


@pytest.fixture
def seen(postgres: PostgresUrl) -> Callable[[], list[tuple[str, str, bool]]]:
    """What a third host sees of the processes that say that they are there."""
    settings = load_settings(environment={**os.environ, "INGEST_DATABASE_URL": postgres.text})
    settings = replace(settings, timings=replace(settings.timings, presence=LOOKING["presence"]))

    def look() -> list[tuple[str, str, bool]]:
        with open_store(settings) as store:
            found = Sightings(patience_of(settings.timings)).watch(store)
        return [
            (member.host, member.presence.role, bool(member.is_alive))
            for member in found
            if member.presence is not None
        ]

    return look


def findings(place: Host, status: int = 0) -> dict[str, str]:
    """What ``ingest doctor`` finds there; with a mark, where that is not well."""
    done = place.run("doctor", "--json")
    assert done.returncode == status, done.stdout
    return {f"{'' if row['ok'] else 'FAIL '}{row['name']}": row["detail"] for row in json.loads(done.stdout)}


def job(place: Host, job_id: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(place.run("state", "--json", job_id).stdout)
    return found


def test_a_host_sees_the_processes_of_another(two: Cluster, seen: Callable[[], list[tuple[str, str, bool]]]) -> None:
    east, west = two["east"], two["west"]
    assert east.run("ingest", "-q", write_bundle(east.folder / "b.tar")).returncode == 0
    worker = east.start("worker")
    alive, silent = [("east", "worker", True)], [("east", "worker", False)]
    until(lambda: seen() == alive)
    (row,) = listed(west)
    assert (row["host"], row["role"], row["alive"], row["job_ids"]) == ("east", "worker", True, [])
    assert abs(row["clock_seconds"]) < 60
    assert abs(row["told_seconds"]) < 60
    well = findings(west)
    assert re.search(r"PostgreSQL [\d.]+.*, \d+ of \d+ connections in use$", well["database"])
    assert well["wake-up"] == "workers are woken by the database"
    assert re.search(r"^this host's clock is \d+\.\d s (ahead of|behind) the database's$", well["clocks"])
    assert well["host"] == "east: 1 worker, 0 jobs at work"
    east.freeze()
    until(lambda: seen() == silent)
    ill = findings(west, status=1)["FAIL host"]
    assert ill.startswith("east: nothing runs, 0 jobs at work, no sign of life of 1 process for ")
    until(lambda: "no sign of life for " in west.run("hosts").stdout)
    east.thaw()
    until(lambda: seen() == alive)
    east.cut("database")
    until(lambda: seen() == silent)
    east.mend()
    until(lambda: seen() == alive)
    # One that is killed stays listed until its host has another; one that is stopped leaves the list.
    worker.kill()
    assert seen() == silent
    east.tend()
    until(lambda: seen() == alive)
    worker.stop()
    assert listed(west) == []
    for place in (east, west):
        place.environment["INGEST_HOST"] = "twin"
        place.start("worker")
    until(lambda: seen() == [("twin", "worker", True)] * 2)
    assert findings(west, status=1)["FAIL host"] == "twin: 2 workers, 0 jobs at work"
    for place in (east, west):
        place.units.pop().stop()
    until(lambda: west.run("hosts").stdout.startswith("nothing runs: "))


def test_a_host_acts_on_the_jobs_of_another(two: Cluster, tmp_path: Path) -> None:
    east, west = two["east"], two["west"]
    big = write_bundle(tmp_path / "big.tar", {f"data/{number}": bytes(200_000) for number in range(20)})
    with (tmp_path / "log").open("wb") as log:
        running = east.popen("ingest", "--limit-rate", "100k", big, output=log)
        until(lambda: west.run("state", 1).returncode == 0 and job(west, 1)["running"])
    shown = west.run("state", 1).stdout
    assert "running: east:" in shown
    assert "\nhost      east\n" in shown
    (row,) = listed(west)
    assert (row["host"], row["role"], row["job_ids"], row["alive"]) == ("east", None, [1], True)
    # What it is held by stops for it, and rolls it back.
    assert west.run("discard", "--yes", 1).returncode == 4
    cancelled = west.run("cancel", "--yes", 1)
    assert cancelled.returncode == 0, cancelled.stderr
    assert running.wait(30) == 1
    until(lambda: job(west, 1)["status"] == "discarded")
    failing = write_bundle(tmp_path / "failing.tar", metadata=b"{}")
    failed = east.run("-q", failing)
    assert (failed.returncode, "job 2 failed at 'load metadata'" in failed.stderr) == (1, True), failed.stderr
    counted = json.loads(west.run("stats", "--json").stdout)["states"]
    assert (counted["failed"]["jobs"], counted["discarded"]["jobs"]) == (1, 1)
    write_bundle(failing)
    assert west.run("retry", 2).returncode == 1
    assert west.run("discard", "--yes", 2).returncode == 0
    assert job(east, 2)["status"] == "discarded"


def test_a_server_shows_all_hosts(
    two: Cluster, postgres: PostgresUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL"):
        monkeypatch.setenv(variable, postgres.text)
    with Server(tmp_path) as server:
        with requests.get(
            f"{server.url}/live", headers={"Accept": "text/event-stream"}, timeout=60, stream=True
        ) as live:
            two["east"].start("worker")
            told = (line for line in live.iter_lines(chunk_size=1, decode_unicode=True) if "hosts-title" in line)
            assert any('<th scope=\\"row\\">east</th><td>worker</td>' in line for line in told)
        until(lambda: '\ningest_host_processes{host="east",role="worker"} 1\n' in metrics(server))
        page = requests.get(server.url, headers={"Accept": "text/html"}, timeout=60).text
        assert re.search(r"<h2 id=\"hosts-title\">Hosts</h2>.*<th scope=\"row\">east</th><td>worker</td>", page, re.S)
        before = metrics(server)
        two["east"].freeze()
        assert 'ingest_host_silent_seconds{host="east"}' in before
        until(lambda: silence(server) > 0.5)
        two["east"].thaw()
        until(lambda: silence(server) < 0.5)


def metrics(server: Server) -> str:
    return requests.get(f"{server.url}/metrics", timeout=60).text


def silence(server: Server) -> float:
    found = re.search(r'^ingest_host_silent_seconds{host="east"} (.+)$', metrics(server), re.M)
    assert found is not None
    return float(found[1])


def test_doctor_sees_a_pooler_that_lets_no_notice_through(
    postgres: PostgresUrl,
    postgres_server: PostgresServer,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with bouncing(postgres_server) as port:
        pooled = postgres_server.url(postgres.text.rpartition("/")[2], port=port)
        for variable in ("INGEST_DATABASE_URL", "UNIQUEID_URL", "METADATA_INGEST_URL"):
            monkeypatch.setenv(variable, pooled.text)
        done = command("doctor")
        assert f"FAIL wake-up      LISTEN does not get through to {pooled}: does PgBouncer" in done.stdout
        assert "set [database] listen = no" in done.stdout
        (tmp_path / "config.ini").write_text("[database]\nlisten = no\n")
        done = command("doctor", "--config", tmp_path / "config.ini")
        assert (done.returncode, "workers poll, and are not woken by the database" in done.stdout) == (0, True)
