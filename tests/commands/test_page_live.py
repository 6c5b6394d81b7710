"""What changes is told to the pages that are open, as it happens."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import requests

from ingest_cli.server.pages.live import MAX_LISTENERS

from ..support.bundles import write_bundle
from ..support.serving import PATIENCE, Server

EVENTS = {"Accept": "text/event-stream"}


@contextmanager
def listening(server: Server) -> Iterator[requests.Response]:
    with requests.get(f"{server.url}/live", headers=EVENTS, timeout=PATIENCE, stream=True) as answer:
        yield answer


def events(answer: requests.Response) -> Iterator[tuple[str, Any]]:
    """What is told, until the stream ends."""
    name = ""
    for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def test_all_listeners_are_told_of_a_job(environment: Path, tmp_path: Path) -> None:
    with Server(environment) as server, ExitStack() as stack:
        told = [events(stack.enter_context(listening(server))) for _ in range(3)]
        for each in told:
            assert next(each) == ("look", {})
        job_id = server.upload(write_bundle(tmp_path / "b.tar"))["job_id"]
        for each in told:
            name, change = next((name, change) for name, change in each if change["counts"]["complete"])
            assert name == "jobs"
            assert [(job["id"], job["state"]) for job in change["jobs"]] == [(job_id, "complete")]
            assert change["jobs"][0]["row"].startswith(f'<tr id="job-{job_id}"')


def test_a_stream_ends_with_the_server(environment: Path) -> None:
    with Server(environment, "--grace", 30) as server, listening(server) as answer:
        told = events(answer)
        assert next(told) == ("look", {})
        server.process.send_signal(signal.SIGTERM)
        assert list(told) == [], "it is not cut off, which the client would complain of"
        assert server.process.wait(20) == 0
    assert "Traceback" not in server.log.read_text()


def test_no_client_listens_too_often(environment: Path) -> None:
    with Server(environment) as server:
        with ExitStack() as stack:
            for _ in range(MAX_LISTENERS // 2):
                assert stack.enter_context(listening(server)).status_code == 200
            with listening(server) as refused:
                assert refused.status_code == 503
                assert int(refused.headers["Retry-After"]) > 0
            assert requests.get(server.url, timeout=PATIENCE).status_code == 200
        with listening(server) as answer:
            assert next(events(answer)) == ("look", {})
