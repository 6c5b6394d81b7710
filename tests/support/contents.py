"""Contents as a bundle or a source on disk has them, for what is tested below the pipeline."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from ingest_cli.bundle.content import Content


class Contents:
    """Makes contents of open files, which are closed at the end of the ``with`` block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptors: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)

    def __call__(self, data: bytes, **changes: Any) -> Content:
        path = self._folder / f"content-{len(self._descriptors)}"
        path.write_bytes(data)
        return self.of(path, **changes)

    def of(
        self, path: Path, *, recorded: bytes | None = None, observe: Callable[[int], None] = lambda _: None
    ) -> Content:
        """The file at ``path``, recorded to hold ``recorded``, or what it holds."""
        data = path.read_bytes()
        descriptor = os.open(path, os.O_RDONLY)
        self._descriptors.append(descriptor)
        return Content(
            name=path.name,
            descriptor=descriptor,
            offset=0,
            size=len(data),
            mtime=path.stat().st_mtime,
            hashtype="sha1",
            hashsum=hashlib.sha1(data if recorded is None else recorded).hexdigest(),
            observe=observe,
        )
