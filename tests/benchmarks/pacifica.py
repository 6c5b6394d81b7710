"""What ingesting at a Pacifica site costs, against what its services themselves cost, in one run. Run by hand:

UNIQUEID_URL=... POLICY_INGEST_URL=... ARCHIVEINTERFACE_URL=... METADATA_INGEST_URL=... INGEST_DEFAULT_USER=dmlb2001 \
    [RELEASED_URL=http://127.0.0.1:8066] python -m tests.benchmarks.pacifica [FOLDER]

The services' own cost is that of a bare loop of the same PUTs over one kept connection, one policy request and one
metadata request. RELEASED_URL names a released Pacifica Ingest that uses the same services. With
ARCHIVEINTERFACE_TRANSFERS=N the bare loop too runs on N connections.
"""

import http.client
import json
import os
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ingest_cli.bundle.metadata import Document

from ..support.bundles import document_for, write_bundle
from .cases import ingest, ran

ROUNDS = 3
TRANSFERS = int(os.environ.get("ARCHIVEINTERFACE_TRANSFERS", "1"))


def main() -> None:
    base = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    for count in (1_000, 10_000):
        with tempfile.TemporaryDirectory(dir=base) as name:
            compare(Path(name), count)


def compare(folder: Path, count: int) -> None:
    files = {f"data/{number % 100:02}/{number:05}.bin": os.urandom(1024) for number in range(count)}
    bundle = write_bundle(folder / "bundle.tar", files)
    costs, ours, released = [], [], []
    for number in range(ROUNDS):
        costs.append(cost_of_services(files))
        os.environ["XDG_DATA_HOME"] = str(folder / f"site{number}")
        ours.append(ran([ingest("-q", bundle)]))
        if "RELEASED_URL" in os.environ:
            released.append(upload(os.environ["RELEASED_URL"], bundle))
    cost, own = min(sum(parts) for parts in costs), min(turn.seconds for turn in ours)
    parts = " + ".join(f"{seconds:.1f}" for seconds in min(costs, key=sum))
    print(f"{count} files of 1 KiB: the services {cost:.1f} s (files + metadata + policy: {parts}), ingest {own:.1f} s")
    peak = max(turn.peak or 0 for turn in ours) / 1024
    print(f"    ingest to the services {own / cost:.2f}, peak memory {peak:.0f} MiB")
    if released:
        print(f"    the released service {min(released):.1f} s, {min(released) / own:.2f} times ours", flush=True)


def cost_of_services(files: dict[str, bytes]) -> tuple[float, float, float]:
    """Seconds for the files, the metadata and the policy."""
    document = Document.parse(json.dumps(document_for(files)).encode())
    job_id, first = take("upload_job", 1), take("file", len(files))
    return (
        elapsed(lambda: put_all(first, list(files.values()))),
        elapsed(lambda: send("METADATA_INGEST_URL", "PUT", list(document.numbered(job_id, first)))),
        elapsed(lambda: send("POLICY_INGEST_URL", "POST", list(document.records))),
    )


def elapsed(work: Any) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def take(mode: str, count: int) -> int:
    with urllib.request.urlopen(f"{os.environ['UNIQUEID_URL']}/getid?range={count}&mode={mode}") as answer:
        return int(json.load(answer)["startIndex"])


def send(variable: str, method: str, content: object) -> None:
    headers = {"Content-Type": "application/json", "X-Http-Authed-User": os.environ["INGEST_DEFAULT_USER"]}
    body = json.dumps(content).encode()
    urllib.request.urlopen(urllib.request.Request(os.environ[variable], body, headers, method=method)).close()


def put_all(first: int, contents: list[bytes]) -> None:
    def put(lane: int) -> None:
        address = urlsplit(os.environ["ARCHIVEINTERFACE_URL"])
        connection = http.client.HTTPConnection(address.hostname or "", address.port)
        for position in range(lane, len(contents), TRANSFERS):
            while True:
                try:
                    connection.request("PUT", f"/{first + position}", body=contents[position])
                    connection.getresponse().read()
                    break
                except (http.client.RemoteDisconnected, ConnectionError):  # uWSGI closes unsaid
                    connection.close()

    with ThreadPoolExecutor(TRANSFERS) as lanes:
        list(lanes.map(put, range(TRANSFERS)))


def upload(url: str, bundle: Path) -> float:
    """Seconds until the released service says that the bundle is complete."""
    begun = time.perf_counter()
    request = urllib.request.Request(f"{url}/upload", bundle.read_bytes(), {"Content-Type": "application/octet-stream"})
    with urllib.request.urlopen(request) as answer:
        job = json.load(answer)
    while not (job["task"] == "ingest metadata" and float(job["task_percent"]) == 100):
        if job["state"] != "OK":
            raise SystemExit(f"the released service failed: {job}")
        time.sleep(0.1)
        with urllib.request.urlopen(f"{url}/get_state?job_id={job['job_id']}") as answer:
            job = json.load(answer)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
