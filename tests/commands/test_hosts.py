"""``ingest hosts`` of a job store in a file: one host, and what works on jobs there."""

import json
import re

from ingest_cli.jobs.job import JobKind
from ingest_cli.jobs.process import host_name
from ingest_cli.jobs.store import open_store

from ..support.command import Command
from ..support.holders import DEAD, child
from ..support.site import Site


def test_one_host(command: Command, site: Site) -> None:
    with open_store(site.settings) as store:
        said = command("hosts").stdout
        assert (
            said == f"one host, {host_name()}: its job store is the file {site.database}\nno job is being worked on\n"
        )
        with child() as holder:
            for job_id, by in ((1, holder.process), (2, holder.process), (3, DEAD)):
                store.submit(job_id, kind=JobKind.BUNDLE, source="x", fingerprint="1", user="u", holder=by)
            holder.stop()
            assert re.search(rf"^\S+ +ingest +{holder.process.pid} +1, 2 +suspended$", command("hosts").stdout, re.M)
            rows = {row["pid"]: row for row in json.loads(command("hosts", "--json").stdout)}
    assert (rows[holder.process.pid]["job_ids"], rows[holder.process.pid]["alive"]) == ([1, 2], True)
    assert (rows[DEAD.pid]["job_ids"], rows[DEAD.pid]["alive"]) == ([3], False)
