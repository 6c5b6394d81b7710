"""The image of the program is built and started, as far as this machine can: by buildah, which needs no daemon."""

import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.loopback import free_port
from ..support.waiting import until

pytestmark = pytest.mark.sweep
ROOT = Path(__file__).parents[2]
IMAGE = "localhost/ingest-test"
BUILD_SECONDS, RUN_SECONDS = 900, 60


def buildah(*words: object, seconds: float = RUN_SECONDS) -> str:
    done = subprocess.run(
        ["buildah", *map(str, words)], capture_output=True, text=True, timeout=seconds, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture
def container(command: Command, environment: Path) -> Iterator[str]:
    """A container of an image that was built of this checkout."""
    if shutil.which("buildah") is None or os.getuid():
        pytest.skip("buildah is not installed, or this is not root")
    assert command("deploy", "container", "--output", environment).returncode == 0
    text = (environment / "Containerfile").read_text("utf-8")
    base = next(line.split()[1] for line in text.splitlines() if line.startswith("FROM "))
    with suppress(subprocess.TimeoutExpired):
        if not subprocess.run(
            ["buildah", "pull", "-q", "--policy", "missing", base], capture_output=True, timeout=120
        ).returncode:
            ignored = ("--ignorefile", environment / ".dockerignore", "-f", environment / "Containerfile")
            how = ("--isolation", "chroot", "--network", "host", "--pull-never")
            buildah("bud", *how, *ignored, "-t", IMAGE, ROOT, seconds=BUILD_SECONDS)
            name = buildah("from", "--pull-never", IMAGE)
            yield name
            buildah("rm", name)
            buildah("rmi", "-f", IMAGE)
            return
    pytest.skip(f"{base} cannot be had here")


def test_the_image_serves(container: str, environment: Path) -> None:
    port = free_port()
    run = ["buildah", "run", "--isolation", "chroot", "--env", "INGEST_SERVER_TOKEN=t", container, "--"]
    server = subprocess.Popen([*run, "ingest", "serve", "--host", "0.0.0.0", "--port", str(port)])
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/healthz"))
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/upload",
            write_bundle(environment / "b.tar").read_bytes(),
            {"Authorization": "Bearer t", "Content-Type": "application/octet-stream"},
        )
        with urllib.request.urlopen(request, timeout=RUN_SECONDS) as answer:
            assert answer.status == 200
        until(lambda: "complete" in buildah("run", "--isolation", "chroot", container, "--", "ingest", "state", 1))
        assert buildah("run", "--isolation", "chroot", container, "--", "id", "-u") == "1000"
    finally:
        server.terminate()
        server.wait(RUN_SECONDS)


def answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return bool(answer.status == 200)
    return False
