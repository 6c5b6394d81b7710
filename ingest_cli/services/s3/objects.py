"""What is known of an object, and what of that stands in headers."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from .client import Client

NOTE = "x-amz-meta-"
# A bucket, and the whole key of an object in it.
At = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Stored:
    """An object: its size, and what was noted with it."""

    size: int
    etag: str
    notes: dict[str, str]


def find(client: Client, at: At, action: str) -> Stored | None:
    """An object anywhere in the storage; None where there is none."""
    answer = client.ask("HEAD", {}, action, at)
    if not answer.ok:
        return None
    headers = {name.lower(): text for name, text in answer.headers.items()}
    return Stored(int(headers.get("content-length", -1)), bare(headers.get("etag")), _notes(headers))


def bare(etag: str | None) -> str:
    """A tag without its quotation marks."""
    return (etag or "").strip('"')


def noted(notes: Mapping[str, str]) -> dict[str, str]:
    """The headers of what is noted with an object."""
    return {f"{NOTE}{name}": text for name, text in notes.items()}


def copied(source: At, tag: str) -> dict[str, str]:
    """The headers of a copy of an object that has this tag."""
    return {
        "x-amz-copy-source": quote("/".join(source), safe="/-_.~"),
        "x-amz-copy-source-if-match": f'"{tag}"',
    }


def _notes(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(NOTE): text for name, text in headers.items() if name.startswith(NOTE)}
