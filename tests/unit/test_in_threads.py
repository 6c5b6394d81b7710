"""Work of several threads: what comes of it comes in order, and ends where nobody waits for it."""

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_cli.in_threads import BATCH_BYTES, done_in_threads
from ingest_cli.meter import NOBODY, Meter

MOST = 30


def size_of(thing: int) -> int:
    """Every third thing is one that a thread gets alone."""
    return BATCH_BYTES if thing % 3 == 0 else 1


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(0, 40),
    threads=st.integers(1, 4),
    batch=st.integers(1, 7),
    fails=st.none() | st.integers(0, 40),
    ends=st.none() | st.integers(0, 40),
)
def test_what_was_before_an_error_comes_before_it_in_order(
    count: int, threads: int, batch: int, fails: int | None, ends: int | None
) -> None:
    def things() -> Iterator[int]:
        for thing in range(count):
            if thing == ends:
                raise KeyError(thing)
            yield thing

    def work(thing: int, meter: Meter) -> int:
        if thing == fails:
            raise ValueError(thing)
        return thing * thing

    expected = min(value for value in (count, fails, ends) if value is not None)
    found: list[tuple[int, int]] = []
    try:
        for made in done_in_threads(work, things(), size_of, NOBODY, threads, batch):
            found.append(made)  # noqa: PERF402 - those before an error too
    except ValueError:
        assert fails == expected
    except KeyError:
        assert ends == expected
    else:
        assert expected == count
    assert found == [(thing, thing * thing) for thing in range(expected)]


def test_work_that_nobody_waits_for_ends() -> None:
    deadline = time.monotonic() + 60

    def work(thing: int, meter: Meter) -> int:
        while thing and time.monotonic() < deadline:
            meter.advance(1)
        return thing

    made = done_in_threads(work, range(0, MOST, 3), size_of, NOBODY, 2)
    assert next(made) == (0, 0)
    made.close()  # type: ignore[attr-defined]
    assert time.monotonic() < deadline


class OneAtATime(Meter):
    """Fails where two threads tell it something at once."""

    def __init__(self) -> None:
        self.bytes = self.files = 0
        self._busy = threading.Lock()

    def advance(self, length: int, files: int = 0) -> None:
        assert self._busy.acquire(blocking=False)
        before = self.bytes
        time.sleep(0)  # others may go on
        self.bytes, self.files = before + length, self.files + files
        self._busy.release()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_meter_is_told_by_one_thread_at_a_time(threads: int) -> None:
    def work(thing: int, meter: Meter) -> None:
        for _ in range(50):
            meter.advance(1)
        meter.advance(0, 1)

    meter = OneAtATime()
    for _ in done_in_threads(work, range(0, 3 * MOST, 3), size_of, meter, threads):
        pass
    assert (meter.bytes, meter.files) == (50 * MOST, MOST)
