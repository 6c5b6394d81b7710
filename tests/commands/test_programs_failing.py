"""A command that fails tells a program so: with ``--json`` it writes an object with the error, of each argument."""

import json
from typing import Any

import pytest

from ingest_cli.errors import ExitCode

from ..support.command import Command
from ..support.commands import commands_with

NO_SITE = ("--config", "nowhere.ini")
ALONE: list[dict[str, Any]] = [{}]
JOBS: list[dict[str, Any]] = [{"job_id": 9}, {"job_id": 8}]
SOURCES: list[dict[str, Any]] = [{"source": "b"}, {"source": "a"}]
EVENT: list[dict[str, Any]] = [{"event": "error"}]
# What each command is given that then fails as a whole, and what its objects tell it of.
FAILING: dict[str, tuple[list[str], list[dict[str, Any]]]] = {
    "ingest": (["b", "a", *NO_SITE], SOURCES),
    "check": (["b", "a", *NO_SITE], SOURCES),
    "move": (["b", "a", *NO_SITE], SOURCES),
    "state": (["9", "8", *NO_SITE], JOBS),
    "job": (["--job-id=9", "--state=FAILED", "--task=ingest files", "--task-percent=0", *NO_SITE], JOBS[:1]),
    "retry": (["9", "8", *NO_SITE], JOBS),
    "discard": (["9", "8", "--yes", *NO_SITE], JOBS),
    "cancel": (["9", "8", "--yes", *NO_SITE], JOBS),
    "worker": (["--once", *NO_SITE], EVENT),
    "pack": (["nothing", "-o", "b.tar"], [{"target": "b.tar"}]),
    "upload": (["b", "a", "--to", "nonsense"], SOURCES),
    "watch": (["folder", *NO_SITE], EVENT),
    "verify": (["9", *NO_SITE], EVENT),
    "ls": (["9"], JOBS[:1]),
    "find": (["--file", "b", "a", *NO_SITE], SOURCES),
    "restore": (["9", "--to", "folder"], JOBS[:1]),
    "events": ([*NO_SITE], ALONE),
    "stats": ([*NO_SITE], ALONE),
    "hosts": ([*NO_SITE], ALONE),
    "prune": ([*NO_SITE], ALONE),
    "backup": (["folder", *NO_SITE], [{"target": "folder"}]),
    "skip-ids": ([*NO_SITE], ALONE),
    "migrate-store": (["nowhere", "new"], [{"from": "nowhere"}]),
    "import-jobs": (["nowhere"], [{"source": "nowhere"}]),
    "doctor": ([*NO_SITE], ALONE),
    "deploy": (["nonsense"], ALONE),
    "config": ([*NO_SITE], ALONE),
}
FIRST = ("ingest", "state", "worker", "pack", "restore", "import-jobs", "stats")


def failing(command: Command, *words: object) -> list[dict[str, Any]]:
    """The objects that it writes, without the error, which is that of the exit code and of what a person is told."""
    done = command(*words, "--json")
    assert done.returncode != ExitCode.SUCCESS
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for one in found:
        assert one.pop("exit_code") == done.returncode
        assert one.pop("error").splitlines()[0] in done.stderr
    return found


def test_every_command_that_has_json_is_tried() -> None:
    assert set(FAILING) == commands_with("--json")


@pytest.mark.parametrize(
    "name", [name if name in FIRST else pytest.param(name, marks=pytest.mark.sweep) for name in FAILING]
)
def test_a_command_that_fails_as_a_whole(command: Command, name: str) -> None:
    words, told = FAILING[name]
    assert failing(command, name, *words) == told


def test_a_command_line_that_is_not_understood(command: Command) -> None:
    for words in (("state", "--nonsense"), ("ls",)):
        assert failing(command, *words) == ALONE
