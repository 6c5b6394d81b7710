"""How fast an upload is, how long it tries, and what is kept of it."""

import os
import random
import time
from pathlib import Path

import pytest

from ingest_cli.bundle.pack import write_bundle
from ingest_cli.bundle.records import transaction_records
from ingest_cli.cli.rates import rate_of
from ingest_cli.cli.upload_screens import PlainSending, PlainUpload
from ingest_cli.client.plan import name_in_bundle
from ingest_cli.client.retries import LONGEST_SECONDS, Pauses
from ingest_cli.client.tus import LARGEST_PIECE as LARGEST_SENT
from ingest_cli.client.tus import LONG_SECONDS, SHORT_SECONDS, SMALLEST_PIECE, PieceSize
from ingest_cli.client.unfinished import ABANDONED_SECONDS, key_of, sweep, unfinished
from ingest_cli.client.waiting import deferred_until, has_failed, is_complete
from ingest_cli.throttle import BURST_SECONDS, LARGEST_PIECE, Throttle


def test_the_pauses_make_the_rate() -> None:
    """Whatever is sent when, no stretch of time has more bytes than the rate allows it, and a burst."""
    chance = random.Random(1)
    for _ in range(50):
        rate = chance.choice([1e3, 1e5, 5e6, 1e9])
        throttle, now, sent = Throttle(rate), 1000.0, [(1000.0, 0)]
        for _ in range(100):
            length = chance.randint(1, throttle.piece)
            now += throttle.pause(length, now)
            sent.append((now, sent[-1][1] + length))
            now += chance.choice([0, 0, 0.001, 3.0])
        for begin, before in sent[::10]:
            for end, after in sent:
                if end > begin:
                    assert after - before <= rate * (end - begin + BURST_SECONDS) + 1 + throttle.piece


def test_without_waiting_for_anything_else_all_of_the_rate_is_used() -> None:
    throttle, now = Throttle(5e6), 0.0
    for _ in range(100):
        now += throttle.pause(throttle.piece, now)
    assert now == pytest.approx(100 * throttle.piece / 5e6, abs=2 * BURST_SECONDS)


def test_without_a_limit_there_is_no_pause() -> None:
    assert (Throttle(None).pause(1 << 40, 0.0), Throttle(None).piece) == (0.0, LARGEST_PIECE)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("5M", 5e6), ("500k", 5e5), ("1.5G", 1.5e9), ("1000", 1000), ("2MB/s", 2e6), ("2MiB", 2 * 2**20), ("1Ki", 1024)],
)
def test_a_rate(text: str, rate: float) -> None:
    assert rate_of(text) == rate


def test_pauses_grow_and_end() -> None:
    pauses = Pauses(300)
    taken = list(iter(pauses.next, None))
    assert sum(taken) == 300
    assert taken[:4] == [0.5, 1, 2, 4]
    assert max(taken) == LONGEST_SECONDS
    pauses.reset()
    assert pauses.next() == 0.5
    assert pauses.next(at_least=20) == 20
    assert Pauses(0).next() is None


def test_a_piece_with_a_checksum_is_as_long_as_a_line_can_take_it() -> None:
    """Of a line that breaks every minute, however slow, something gets through; a fast one is not held up."""
    for rate in (10e3, 100e3, 1e6, 100e6):
        size = PieceSize(counts=False)
        for _ in range(20):
            assert SMALLEST_PIECE <= size.bytes <= LARGEST_SENT
            size.took(size.bytes / rate)
        assert size.bytes / rate <= 2 * LONG_SECONDS or size.bytes == SMALLEST_PIECE
        assert size.bytes / rate >= SHORT_SECONDS or size.bytes == LARGEST_SENT
    size.failed()
    assert size.bytes == LARGEST_SENT // 2
    without = PieceSize(counts=True)
    without.failed()
    without.took(1000)
    assert without.bytes == LARGEST_SENT


def test_a_line_of_a_long_upload(capsys: pytest.CaptureFixture[str]) -> None:
    screen = PlainSending("b.tar", every=0.0)
    screen.stage("sending")
    screen.plan(1, 4000)
    screen.stored(1000)
    assert capsys.readouterr().err == "b.tar: sending\nb.tar: sending, 25%, 1.0 kB of 4.0 kB\n"


def test_what_was_never_noted_leaves_nothing(tmp_path: Path) -> None:
    with unfinished(tmp_path, key_of("a")):
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


def test_what_was_noted_is_there_again_until_the_content_is_another(tmp_path: Path) -> None:
    with unfinished(tmp_path, key_of("a")) as upload:
        upload.begin("content")
        upload.named("name")
        upload.bundle.write_bytes(b"packed")
    with unfinished(tmp_path, key_of("a")) as upload:
        assert upload.begin("content") is None
        assert (upload.name, upload.bundle.exists()) == ("name", True)
    with unfinished(tmp_path, key_of("a")) as upload:
        assert upload.begin("other content") == "name"
        assert (upload.name, upload.bundle.exists()) == (None, False)
        upload.accepted(5)
    with unfinished(tmp_path, key_of("a")) as upload:
        assert upload.begin("other content") is None
        assert upload.job_id == 5
        upload.forget()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"of": "content"}', b'{"of": "content", "name": 1, "job_id": "x"}'])
def test_a_record_that_is_none_is_no_record(tmp_path: Path, content: bytes) -> None:
    with unfinished(tmp_path, key_of("a")) as upload:
        upload.begin("content")
    (tmp_path / key_of("a") / "record.json").write_bytes(content)
    with unfinished(tmp_path, key_of("a")) as upload:
        assert upload.record is None


def test_what_nobody_has_resumed_for_long_is_removed(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with unfinished(tmp_path, name) as upload:
            upload.begin("content")
    then = time.time() - ABANDONED_SECONDS - 60
    for path in (*(tmp_path / "old").iterdir(), tmp_path / "old"):
        os.utime(path, (then, then))
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


DEFERRED = "no room\nit will be tried again as soon as a worker is free; do not send it again"


@pytest.mark.parametrize(
    ("state", "task", "percent", "exception", "wanted"),
    [
        ("OK", "ingest metadata", "100.00000", "", "complete"),
        ("OK", "ingest metadata", "100.00000", DEFERRED, "complete"),
        ("OK", "ingest metadata", "99.00000", "", "at work"),
        ("OK", "ingest files", "100.00000", "", "at work"),
        ("OK", "ingest files", None, None, "at work"),
        ("FAILED", "ingest files", "0.00000", DEFERRED, "deferred"),
        ("FAILED", "ingest metadata", "100.00000", "", "failed"),
        ("FAILED", "ingest files", "0.00000", f"{DEFERRED}, said an archive", "failed"),
    ],
)
def test_what_a_state_means(state: str, task: str, percent: str, exception: str, wanted: str) -> None:
    # Whether it is "complete" says nothing: it is true for failed jobs too.
    answer = {"state": state, "task": task, "task_percent": percent, "exception": exception, "complete": True}
    assert is_complete(answer) == (wanted == "complete")
    assert has_failed(answer) == (wanted == "failed")
    assert (deferred_until(answer) == "as soon as a worker is free") == (wanted == "deferred")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("run7", "P/run7"),
        ("./run7/", "P/run7"),
        ("/srv/runs/run7", "P/srv/runs/run7"),
        ("../other/run7", "P/other/run7"),
        ("a/../run7", "P/run7"),
        (".", "P"),
    ],
)
def test_the_name_of_a_file_where_a_site_names_the_folder(path: str, name: str) -> None:
    assert name_in_bundle("P", Path(path)) == name


def test_packing_says_how_far_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in "ab":
        (folder / name).write_bytes(b"x" * 500)
    upload = PlainUpload("run", PlainSending("run", every=0.0))
    upload.packing()
    write_bundle([folder], transaction_records(1, "p", 1, []), tmp_path / "run.tar", meter=upload)
    first, *later = capsys.readouterr().err.splitlines()
    assert first == "run: packing"
    assert "run: packing, 50%, 500 bytes of 1.0 kB" in later
    assert later[-1] == "run: packing, 99%, 1.0 kB of 1.0 kB"
