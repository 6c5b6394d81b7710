"""Kill whoever runs jobs and sends events, again and again: each recorded job is told of, and no other."""

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest_cli import api
from ingest_cli.jobs.job import JobKind
from ingest_cli.jobs.outbox import NoticeStatus

from ..support.bundles import write_bundle
from ..support.forks import Running
from ..support.receiver import Handler, Receiver
from ..support.site import Site

pytestmark = pytest.mark.sweep

SEED = int(os.environ.get("INGEST_TEST_SEED", "1"))
GOOD, BAD = 25, 5


def moody(chance: random.Random) -> Callable[[Handler], None]:
    """Takes an event, fails, or takes it and loses the answer, as chance has it."""

    def answer(handler: Handler) -> None:
        server, mood = handler.server, chance.random()
        if mood > 0.3:
            server.received.append(server.got[-1])
        if mood > 0.6:
            handler.answered(200)
        elif mood > 0.15:
            handler.close_connection = True
            handler.connection.close()
        else:
            handler.answered(503)

    return answer


@pytest.mark.parametrize("processes", [1, 3])
def test_every_recorded_job_is_told_of_and_no_other(
    site: Site, tmp_path: Path, starting: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    chance = random.Random(SEED)
    good = [write_bundle(tmp_path / f"{number}.tar", {f"data/{number}": b"x"}) for number in range(GOOD)]
    bad = [write_bundle(tmp_path / f"bad{number}.tar", metadata=b"[%d]" % number) for number in range(BAD)]
    with Receiver(answer=moody(chance)) as receiver:
        monkeypatch.setenv("NOTIFICATIONS_URL", receiver.url)
        queued = list(api.queue_files(JobKind.BUNDLE, chance.sample(good + bad, GOOD + BAD)))
        kills = 0
        while any(not job.is_done and not job.has_failed for job in site.jobs()) or kills < 20:
            running = [
                starting("worker", "--until-empty", "-q", timings={"first_backoff": 0.01, "poll": 0.01})
                for _ in range(processes)
            ]
            for process in running:
                try:
                    process.wait(chance.uniform(0.05, 0.6))
                except subprocess.TimeoutExpired:
                    process.kill()
                    kills += 1
                process.wait()
            assert kills < 500
        receiver.answer = None
        api.resend_events([notice.number for notice in api.list_events(1000) if notice.status is NoticeStatus.WAITING])
    recorded = {f"metadata.ingest.{job.job_id}" for job in site.jobs() if job.is_done}
    assert len(recorded) == GOOD
    assert len(site.jobs()) == len(queued)
    assert set(receiver.ids()) == recorded
    assert {notice.status for notice in api.list_events(1000)} == {NoticeStatus.SENT}
    assert len(api.list_events(1000)) == GOOD, "one event of a job, however often its run died"
