"""The released pacifica-cli, where it is installed: on the path, or in the folder that INGEST_TEST_PACIFICA names."""

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest


def find_pacifica_cli() -> str:
    """The program; without it, the test is skipped."""
    home = os.environ.get("INGEST_TEST_PACIFICA")
    found = shutil.which("pacifica-cli", path=f"{home}/venv/bin" if home else None) or shutil.which("pacifica-cli")
    if found is None:
        pytest.skip("pacifica-cli is not installed")
    return found


def document_of(bundle: Path) -> list[dict[str, Any]]:
    """The metadata document of a bundle, in an order of its own, and with folders named as the catalogue has them."""
    with tarfile.open(bundle) as tar:
        member = tar.extractfile("metadata.txt")
        assert member is not None
        records: list[dict[str, Any]] = json.loads(member.read())
    for record in records:
        if "subdir" in record:
            record["subdir"] = "/".join(filter(None, f"{record['subdir']}/".removeprefix("data/").split("/")))
    return sorted(records, key=lambda record: json.dumps(record, sort_keys=True))


def bundled_by_pacifica_cli(folder: Path, url: str, config: Path, *words: object) -> list[dict[str, Any]]:
    """The document that pacifica-cli makes in the folder, with the policy service at ``url``."""
    target = folder / "pacifica-cli.tar"
    line = [find_pacifica_cli(), "upload", f"--config={config}", "--do-not-upload", f"--local-save={target}"]
    home = {"HOME": os.environ["HOME"], "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    Path(home["HOME"]).mkdir(exist_ok=True)
    done = subprocess.run(
        [*line, *map(str, words)],
        cwd=folder,
        env={**home, "UPLOAD_POLICY_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return document_of(target)
