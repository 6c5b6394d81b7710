"""Reasons for failures are grouped as people group them."""

import string
from collections.abc import Callable
from random import Random

import pytest

from ingest_cli.jobs.reasons import Failure, kind_of
from ingest_cli.text import counted, listed, quoted

NAMES = ["run.tar", "it's", 'a "b" c', "Ünï.raw", "x" * 500, "line\nend", "and 3 more", "日本語"]


def name(random: Random) -> str:
    return random.choice(NAMES) + str(random.randrange(10**6))


def hashsum(random: Random) -> str:
    return "".join(random.choices("0123456789abcdef", k=random.choice([32, 40, 64])))


def path(random: Random) -> str:
    letters = string.ascii_letters + string.digits + "-_."
    return "".join(f"/{''.join(random.choices(letters, k=5))}x" for _ in range(random.randrange(1, 5)))


# As the program says it.
SAYINGS: dict[str, Callable[[Random], str]] = {
    "hash": lambda random: (
        f"{name(random)!r} hashes to {random.choice(['sha1', 'md5', 'sha256'])} {hashsum(random)},"
        f" but the metadata says {hashsum(random)}"
    ),
    "length": lambda random: (
        f"{quoted(name(random))} is {counted(random.randrange(1, 10**7), 'byte')} long,"
        f" but the metadata says {random.randrange(10**7):,}"
    ),
    "missing": lambda random: f"the metadata lists {quoted(name(random))}, but it is not in the bundle",
    "several": lambda random: (
        f"the metadata lists {listed([repr(name(random)) for _ in range(random.randrange(1, 30))], 5)} twice"
    ),
    "policy": lambda random: (
        f"the policy at https://policy.example.org:{random.randrange(1, 65536)}/x does not let"
        f" {name(random)!r} upload to project {random.choice(['1234a', '99', '-1'])}"
    ),
    "path": lambda random: f"cannot read {path(random)}: Permission denied",
    "size": lambda random: (
        f"the bundle holds {random.randrange(10**4) / 10} {random.choice(['kB', 'GB', 'bytes'])} too much"
    ),
    "time": lambda random: (
        f"the file was changed at 2026-11-{random.randrange(10, 29)} 0{random.randrange(10)}:30:00 UTC"
    ),
    "number": lambda random: f"metadata record {random.randrange(10**5)} is no object",
    "words": lambda _: "the metadata document isn't a list of records; it doesn't end",
    "other words": lambda _: "the metadata document isn't valid JSON",
}


def failure(job_id: int, reason: str, *, source: str = "") -> Failure:
    return Failure(job_id, source, reason)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_said_in_one_way_is_one_reason(seed: int) -> None:
    random = Random(seed)
    kinds = {saying: {kind_of(failure(1, say(random))) for _ in range(60)} for saying, say in SAYINGS.items()}
    assert {saying: len(found) for saying, found in kinds.items()} == dict.fromkeys(SAYINGS, 1), kinds
    assert len({kind for found in kinds.values() for kind in found}) == len(SAYINGS), "what differs stays apart"


@pytest.mark.parametrize(
    ("reason", "kind"),
    {
        "'data/a' hashes to sha1 0123456789abcdef, but not 7": "... hashes to ..., but not ...",
        "[Errno 5] Input/output error: '/a/b'": "[Errno ...] Input/output error: ...",
        "no space is left": "no space is left",
        "job 7 isn't the user's": "job ... isn't the user's",
        "the name '/a' is not valid UTF-8: rename it": "the name ... is not valid UTF-8: rename it",
        "its bytes are faded, deadbeef": "its bytes are faded, deadbeef",
    }.items(),
)
def test_what_remains(reason: str, kind: str) -> None:
    assert kind_of(failure(1, reason)) == kind


def test_the_jobs_own_file_is_no_part_of_the_reason() -> None:
    names = ["/srv/a folder/run 1.tar", "/srv/b (2).tar", "standard input"]
    kinds = {kind_of(failure(1, f"cannot read {name}: it is gone", source=name)) for name in names}
    assert kinds == {"cannot read ...: it is gone"}
