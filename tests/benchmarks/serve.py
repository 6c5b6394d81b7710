"""How long uploads take, against another server on this machine:  python -m tests.benchmarks.serve [URL NAME]...

Each URL is one that takes a bundle: by POST where it ends in /upload, as Pacifica Ingest's, else by PUT, as WebDAV's.
One GiB is sent by one client; then 1,000 small bundles by eight, until all are complete where the server has jobs.
All in one run, ROUNDS times in turn (3 unless set); the best of each counts. Settings of the environment count.
"""

import http.client
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from ..support.bundles import write_bundle
from ..support.serving import Server

ROUNDS = int(os.environ.get("ROUNDS", "3"))
LARGE_BYTES = 1 << 30
SMALL, CLIENTS = 1000, 8


def send(url: str, bundle: Path) -> int | None:
    """Send one bundle, again while the server fails; the id of its job, where the server has jobs."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=600)
    method, path = ("POST", parts.path) if url.endswith("/upload") else ("PUT", f"{parts.path}/{bundle.name}")
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(bundle.stat().st_size)}
    with bundle.open("rb") as body:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
    connection.close()
    if answer.status >= 500:
        return send(url, bundle)
    assert answer.status < 300, content
    return int(json.loads(content)["job_id"]) if method == "POST" else None


def wait_for(url: str, job_id: int | None) -> None:
    """Until the job is complete, or has failed, which is said."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    while job_id is not None:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=600)
        connection.request("GET", f"/get_state?job_id={job_id}")
        state = json.loads(connection.getresponse().read())
        connection.close()
        if state["state"] != "OK":
            print(f"    {url}: job {job_id} failed: {state['exception']}", flush=True)
            return
        if state["task"] == "ingest metadata" and int(float(state["task_percent"])) == 100:
            return
        time.sleep(0.02)


def note(best: dict[tuple[str, str], float], what: str, label: str, took: float) -> None:
    best[what, label] = min(took, best.get((what, label), took))
    print(f"    {what} to {label}: {took:.2f} s", flush=True)


def send_all(url: str, bundles: list[Path]) -> None:
    with ThreadPoolExecutor(CLIENTS) as clients:
        jobs = list(clients.map(lambda bundle: send(url, bundle), bundles))
    for job_id in jobs:
        wait_for(url, job_id)


def main() -> None:
    others = list(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"XDG_DATA_HOME": str(folder / "data"), "HOME": name}
        content = os.urandom(1 << 20) * (LARGE_BYTES >> 20)
        with Server(folder, "--quiet") as server:
            targets = [(f"{server.url}/upload", "ingest"), *others]
            best: dict[tuple[str, str], float] = {}
            for round_ in range(ROUNDS):
                large = write_bundle(folder / f"large{round_}.tar", {f"data/{round_}": content})
                small = [
                    write_bundle(folder / f"{round_}-{number}.tar", {f"data/{number}": os.urandom(1024)})
                    for number in range(SMALL)
                ]
                for url, label in targets:
                    begun = time.monotonic()
                    job_id = send(url, large)
                    note(best, "1 GiB", label, time.monotonic() - begun)
                    wait_for(url, job_id)
                    begun = time.monotonic()
                    send_all(url, small)
                    note(best, f"{SMALL} bundles", label, time.monotonic() - begun)
                large.unlink()
            status = Path(f"/proc/{server.process.pid}/status").read_text()
            peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
        for (what, label), took in best.items():
            print(f"{what} to {label}: {took:.2f} s, ratio {best[what, 'ingest'] / took:.2f}")
        print(f"peak memory of the server: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
