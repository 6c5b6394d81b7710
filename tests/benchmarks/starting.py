"""How soon a command is there, against an interpreter that does nothing."""

import sys
from collections.abc import Iterator
from pathlib import Path

from ..support.bundles import document_for, write_bundle
from .cases import Case, Measured, ingest, ran


def cases(folder: Path) -> Iterator[Case]:
    bundle = write_bundle(folder / "one.tar", {"data/a": b"a"}, document_for({"data/a": b"a"}))
    ran([ingest("--quiet", bundle)], XDG_DATA_HOME=folder, HOME=folder)
    bare = {"python -c pass": lambda _: ran([[sys.executable, "-c", "pass"]])}
    for words, aim in ((["--help"], 6.0), (["state", "1"], 12.0)):

        def turn(_: Path, words: list[str] = words) -> Measured:
            return ran([ingest(*words)], XDG_DATA_HOME=folder, HOME=folder)

        yield Case(f"ingest {' '.join(words)}", turn, bare, aim=aim, rounds=15)
