"""A receipt: what the archive stored of a bundle, in a file that can be checked by itself years later.

Its format is the JSON Schema ``receipt.schema.json`` beside this module.
"""

import errno
import json
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from .. import __version__
from ..bundle.schema import Schema, explain
from ..disk import durable_write, explained, open_regular
from ..errors import SourceError
from ..jobs.job import Job
from ..services.base import Catalog, StoredFile

VERSION = 1
MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a receipt says: the job's id, and its files, of which only what identifies the bytes is known."""

    job_id: int
    files: list[StoredFile]


def receipt_schema() -> Schema:
    """The schema of receipts."""
    text = files(__package__).joinpath("receipt.schema.json").read_text("utf-8")
    schema: Schema = json.loads(text)
    return schema


def write_receipt(path: Path, catalog: Catalog, job: Job) -> None:
    """Write the receipt of a recorded job to ``path``, whole or not at all; it takes the place of another file.

    Raises SourceError, and ResourceUnavailable where it may be written later.
    """
    about = _about(catalog, job)
    try:
        _require_replaceable(path)
        with durable_write(path, mode=0o644, replace=True) as file:
            for piece in _written(about, catalog.files(job.job_id)):
                file.write(piece.encode())
    except OSError as error:
        message = f"job {job.job_id} is complete, but its receipt cannot be written to {path}"
        raise explained(error, message, SourceError) from error


def read_receipt(path: Path) -> Receipt:
    """Read and check a receipt. Raises SourceError where it cannot be read or is not valid."""
    try:
        with open_regular(path) as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise SourceError(f"{path} is too large for a receipt")
        receipt = json.loads(raw)
    except OSError as error:
        raise explained(error, f"cannot read {path}", SourceError) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not a receipt: {error}") from None
    problem = explain(receipt, receipt_schema())
    if problem is not None:
        raise SourceError(f"{path} is not a receipt: {problem}")
    return Receipt(receipt["job_id"], [_stored(record) for record in receipt["files"]])


def _require_replaceable(path: Path) -> None:
    """Raise OSError where something stands at ``path`` that must not be replaced, such as a device or a link to one."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")


def _written(about: dict[str, Any], listed: Iterable[StoredFile]) -> Iterator[str]:
    """The receipt of these files in pieces, as JSON with an indent has it: there may be a million of them."""
    encode = json.JSONEncoder(indent=1, ensure_ascii=False).encode
    yield encode(about).removesuffix("\n}") + ',\n "files": ['
    before = ""
    for file in listed:
        record = {key: getattr(file, key) for key in ("file_id", "path", "size", "hashtype", "hashsum")}
        # No string in JSON holds an end of a line.
        yield before + f"\n{encode(record)}".replace("\n", "\n  ")
        before = ","
    yield "\n ]\n}\n" if before else "]\n}\n"


def _about(catalog: Catalog, job: Job) -> dict[str, Any]:
    about = {record["destinationTable"]: record.get("value") for record in catalog.metadata(job.job_id)}
    return {
        "receipt": VERSION,
        "program": f"pacifica-ingest-cli {__version__}",
        "job_id": job.job_id,
        "source": job.source,
        "origin": job.name,
        "digest": job.digest,
        "user": job.user,
        **{name: about[f"Transactions.{name}"] for name in ("submitter", "project", "instrument")},
        "created": f"{job.created.replace(' ', 'T')}Z",
        "completed": f"{job.updated.replace(' ', 'T')}Z",
    }


def _stored(record: dict[str, Any]) -> StoredFile:
    folder, _, name = record["path"].rpartition("/")
    return StoredFile(
        file_id=record["file_id"],
        name=name,
        subdir=folder.removeprefix("data").removeprefix("/"),
        size=record["size"],
        hashtype=record["hashtype"],
        hashsum=record["hashsum"],
        mimetype="",
        ctime=None,
        mtime=None,
    )
