"""Threads that run jobs: how many more they have room for, where no more threads can be had."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from ingest_cli.errors import ResourceUnavailable
from ingest_cli.pipeline.precedence import Precedence
from ingest_cli.pipeline.runner import Runner
from ingest_cli.pipeline.runner_threads import RunnerThreads

from ..support.waiting import PATIENCE

MOST = 4


class Gated:
    """Work that is done once it is let."""

    job_id = None

    def __init__(self) -> None:
        self._gate = threading.Event()

    def run(self, _runner: Runner) -> None:
        self._gate.wait(PATIENCE)

    def let(self) -> None:
        self._gate.set()


def test_there_is_no_room_for_what_would_wait_for_a_thread() -> None:
    """But for the one with which that is found out, each time that something has been done."""
    can_be_had, had = 2, 0

    @contextmanager
    def another() -> Iterator[Runner]:
        nonlocal had
        if had >= can_be_had:
            raise ResourceUnavailable("the database has no connection left")
        had += 1
        yield cast(Runner, None)

    threads: RunnerThreads[Gated] = RunnerThreads(another, MOST, Precedence())
    given: list[Gated] = []

    def fill() -> int:
        while threads.room:
            given.append(Gated())
            threads.give(given[-1])
        return threads.at_work

    assert fill() == 3
    given[0].let()
    assert threads.ended(PATIENCE) == [given[0]]
    assert fill() == 3
    can_be_had = MOST
    given[1].let()
    assert threads.ended(PATIENCE) == [given[1]]
    assert fill() == MOST
    for work in given:
        work.let()
    threads.end()
    threads.wait()
