"""Real bundles for tests: a tar with files under data/ and a metadata document that fits them."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

Record = dict[str, Any]
FILES = {"data/a.txt": b"alpha\n", "data/sub/b.bin": bytes(range(256)) * 8, "data/empty": b""}

# What makes a folder of these files the same transaction.
OF_FOLDERS = [
    *("--submitter", "10", "--project", "1234a", "--instrument", "54"),
    *("--key", "Taxonomic Family=bacteria"),
]


def file_record(path: str, content: bytes, **changes: Any) -> Record:
    folder, _, name = path.rpartition("/")
    return {
        "destinationTable": "Files",
        "name": name,
        "subdir": folder,
        "size": len(content),
        "hashtype": "sha1",
        "hashsum": hashlib.sha1(content).hexdigest(),
        "mimetype": "text/plain",
        "ctime": "2016-11-29T14:09:05",
        "mtime": "2016-11-29T14:09:05",
        **changes,
    }


def transaction(project: str = "1234a") -> list[Record]:
    return [
        {"destinationTable": "Transactions.submitter", "value": 10},
        {"destinationTable": "Transactions.project", "value": project},
        {"destinationTable": "Transactions.instrument", "value": 54},
        {"destinationTable": "TransactionKeyValue", "key": "Taxonomic Family", "value": "bacteria"},
    ]


def document_for(files: dict[str, bytes]) -> list[Record]:
    return [*transaction(), *(file_record(path, content) for path, content in files.items())]


def member(path: str, content: bytes, **changes: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(path)
    info.size, info.mtime, info.mode = len(content), 1480428545, 0o644
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def write_tar(
    path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w", tar_format: int = tarfile.GNU_FORMAT
) -> Path:
    with tarfile.open(path, mode, format=tar_format) as tar:  # type: ignore[call-overload]
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


def write_bundle(
    path: Path,
    files: dict[str, bytes] | None = None,
    document: Any = None,
    *,
    metadata: bytes | None = None,
    mode: str = "w",
    tar_format: int = tarfile.GNU_FORMAT,
    metadata_first: bool = False,
) -> Path:
    files = FILES if files is None else files
    if metadata is None:
        metadata = json.dumps(document_for(files) if document is None else document).encode()
    members = [member(name, content) for name, content in files.items()]
    members.insert(0 if metadata_first else len(members), member("metadata.txt", metadata))
    return write_tar(path, members, mode, tar_format)


def write_folder(path: Path, files: dict[str, bytes] | None = None) -> Path:
    """A folder of what would be in the bundle."""
    for name, content in (FILES if files is None else files).items():
        file = path / name.removeprefix("data/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, (1480428545, 1480428545))
    return path


def write_bundles(folder: Path, count: int) -> list[Path]:
    """So many bundles, each of one file."""
    return [write_bundle(folder / f"{number}.tar", {f"data/{number}": bytes([number])}) for number in range(count)]


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: getattr(tar.extractfile(member), "read", bytes)() for member in tar}


def cleaned(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records without the ids that each ingest gives anew, in an order of their own."""
    numbers = {record.get("_id"): record["name"] for record in records if record["destinationTable"] == "Files"}
    own = [
        {key: numbers.get(value, value) if key == "file_id" else value for key, value in record.items() if key != "_id"}
        for record in records
    ]
    return sorted(own, key=lambda record: json.dumps(record, sort_keys=True))
