"""The released ingest service's and clients' sources, which ``.ci/pacifica`` downloads: their tests and documents."""

import os
import shutil
import subprocess
from pathlib import Path

from ..support.serving import Server
from .services import PacificaServices

PATIENCE = 180


class Released:
    """The released packages' own tests, and pacifica-cli, with an environment of their own to run in.

    ``home`` is where their sources are.
    """

    def __init__(self, home: Path, services: PacificaServices, folder: Path) -> None:
        self._home, self._services, self.folder = home, services, folder

    def tests_of(self, package: str) -> Path:
        """A copy of a package's tests, where they may write."""
        tests = self.folder / package / "tests"
        shutil.copytree(self._home / package / "tests", tests)
        return tests

    def run_tests(self, server: Server, tests: Path, *names: str, **environment: str) -> None:
        """Run these files of a package's tests, or all; none may fail, nor be skipped."""
        done = subprocess.run(
            [self._services.program("python"), "-m", "pytest", "-p", "no:cacheprovider", "-v", *names],
            env={**self.environment(server), **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=tests,
        )
        said = done.stdout + done.stderr + server.log.read_text()
        assert done.returncode == 0, said
        assert "skipped" not in done.stdout, said

    def upload(self, server: Server, *words: object) -> str:
        """Upload by pacifica-cli, with the configuration that its documentation prints; what it says."""
        config = self._home / "pacifica-cli-0.5.2/docs/_static/uploader.json"
        chosen = ["--logon", "dmlb2001", "--project", "1234a", "--instrument", "54"]
        environment = {
            **self.environment(server),
            "UPLOAD_URL": f"{server.url}/upload",
            "UPLOAD_STATUS_URL": f"{server.url}/get_state",
            "UPLOAD_POLICY_URL": f"{self._services.url('policy')}/uploader",
            "UPLOAD_VALIDATION_URL": f"{self._services.url('policy')}/ingest",
        }
        done = subprocess.run(
            [self._services.program("pacifica-cli"), "upload", f"--config={config}", *chosen, *map(str, words)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd="/",
        )
        assert done.returncode == 0, done.stdout + done.stderr + server.log.read_text()
        return done.stdout

    def environment(self, server: Server) -> dict[str, str]:
        """Where the services are, as the released clients are told of it."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.folder),
            "INGEST_CONFIG": "/nonexistent",
            "INGEST_UPLOAD_URL": f"{server.url}/upload",
            "INGEST_STATUS_URL": f"{server.url}/get_state",
            "POLICY_UPLOADER_URL": f"{self._services.url('policy')}/uploader",
            "POLICY_INGEST_URL": f"{self._services.url('policy')}/ingest",
        }
