"""A bundle made by the released uploader library goes through as it comes."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..support.site import Site

bundler = pytest.importorskip("pacifica.uploader.bundler.bundler", reason="pacifica-uploader is not installed")
metadata = pytest.importorskip("pacifica.uploader.metadata", reason="pacifica-uploader is not installed")

FILES = {"data/sub/a.bin": os.urandom(300_000), "data/ünï.txt": b"hello", "data/empty": b""}


def test_what_the_uploader_bundles_is_what_is_stored(site: Site, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.tar"
    records = {"submitter": 10, "project": "1234a", "instrument": 54, "_id": 4711}
    document = metadata.MetaData(
        [metadata.MetaObj(destinationTable=f"Transactions.{key}", value=value) for key, value in records.items()]
    )
    with ExitStack() as opened:
        members = []
        for name, content in FILES.items():
            path = tmp_path / "instrument" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            file = opened.enter_context(path.open("rb"))
            members.append({"name": name, "fileobj": file, "size": len(content), "mtime": path.stat().st_mtime})
        stream = opened.enter_context(bundle.open("wb"))
        bundler.Bundler(document, members).stream(stream)
    assert site.ingest(bundle).is_done
    assert site.contents() == FILES
