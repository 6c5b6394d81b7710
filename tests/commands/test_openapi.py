"""``/openapi.json`` says what the server does: no more and no less."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
from starlette.routing import Route

from ingest_cli.server.app import application
from ingest_cli.server.authentication import Authenticator
from ingest_cli.server.openapi import DESCRIPTION
from ingest_cli.server.pages.route import PageRoute
from ingest_cli.server.proxies import Proxies
from ingest_cli.server.receiving import Limits
from ingest_cli.server.routes import ServerRules

from ..support.bundles import write_bundle
from ..support.serving import PATIENCE, Server
from ..support.site import Site


def test_it_has_every_path_and_method_and_no_other(site: Site) -> None:
    rules = ServerRules(limits=Limits(None, 0), max_waiting=1, log_json=False)
    authenticator = Authenticator.for_hosts(site.settings, ["127.0.0.1"], [])
    app = application(site.settings, authenticator, Proxies.of(site.settings), rules)
    served: dict[str, set[str]] = {}
    for route in app.routes:
        if isinstance(route, PageRoute):  # which no program asks for
            continue
        assert isinstance(route, Route)
        methods = {method.lower() for method in route.methods or set()}
        path = re.sub(r":[a-z]+}", "}", route.path)
        served.setdefault(path, set()).update(methods - {"head"} if "get" in methods else methods)
    assert {path: set(operations) for path, operations in DESCRIPTION["paths"].items()} == served


def schema_of(path: str) -> dict[str, Any]:
    schema = DESCRIPTION["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    return {**schema, "components": DESCRIPTION["components"]}


def test_answers_are_as_described(environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_DOWNLOADS", "yes")
    with Server(environment) as server:
        server.settled(server.upload(write_bundle(tmp_path / "b.tar"))["job_id"])
        for path, asked in [
            ("/get_state", "/get_state?job_id=1"),
            ("/jobs", "/jobs"),
            ("/jobs/{job_id}", "/jobs/1"),
            ("/jobs/{job_id}/files", "/jobs/1/files"),
            ("/", "/"),
            ("/healthz", "/healthz"),
        ]:
            answer = requests.get(server.url + asked, timeout=PATIENCE)
            jsonschema.validate(answer.json(), schema_of(path))
        described = requests.get(f"{server.url}/openapi.json", timeout=PATIENCE).json()
    assert described == json.loads(json.dumps(DESCRIPTION))


# How to send what is described as a piece of a resumable upload, which schemathesis does not know.
HOOKS = """
import schemathesis

@schemathesis.serializer("application/offset+octet-stream")
def piece(context, value):
    return value if isinstance(value, bytes) else repr(value).encode()
"""


@pytest.mark.skipif(find_spec("schemathesis") is None, reason="schemathesis is not installed")
@pytest.mark.sweep
def test_no_request_makes_the_server_fail(environment: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_DOWNLOADS", "yes")
    site.ingest(write_bundle(environment / "b.tar"))
    (environment / "hooks.py").write_text(HOOKS)
    with Server(environment, "--max-upload", 100_000) as server:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "schemathesis.cli",
                "run",
                f"{server.url}/openapi.json",
                "--checks=not_a_server_error,status_code_conformance,response_schema_conformance",
                "--max-examples=20",
                "--seed=1",
            ],
            cwd=environment,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "hooks"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-5000:]
        assert server.process.poll() is None
