"""``GET /jobs``: the jobs that are asked for, a page at a time, to the first one ever."""

import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException

from ingest_cli.jobs.dialect import SqliteDialect
from ingest_cli.jobs.filter import ALL, FAILED, GROUPS, JobFilter
from ingest_cli.jobs.job import Job, JobKind, JobState, JobStatus
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.sql_filter import condition
from ingest_cli.jobs.store import JobStore, open_store
from ingest_cli.server.job_query import MAX_LISTED, JobQuery

from ..support.serving import PATIENCE, Server
from ..support.site import Site

COUNT = 23
NAMES = ("a&b=c.tar", "träume.tar", "x y+z.tar", "100%.tar")


@pytest.fixture
def store(site: Site) -> Iterator[JobStore]:
    """Jobs of every kind, some of which wait, run, are deferred or have failed."""
    with open_store(site.settings) as store:
        for number in range(1, COUNT + 1):
            job = store.submit(
                number,
                kind=(JobKind.BUNDLE, JobKind.MOVE)[number % 3 == 0],
                source=f"/drop/{NAMES[number % len(NAMES)]}",
                fingerprint=str(number),
                user=("ada", "böb")[number % 2],
                holder=this_process() if number % 5 else None,
            )
            if number % 5 == 1:
                store.undo(job.fence, JobState.FAILED, "open tar", "no tar")
            if number % 5 == 2:
                store.defer(job.fence, "ingest files", "away", 1000.0)
        yield store


def listed(store: JobStore, query: str) -> Iterator[list[Job]]:
    """The pages, as who follows the links gets them."""
    onward: str | None = query
    while onward is not None:
        page = JobQuery.of(QueryParams(onward)).page(store)
        yield page.jobs
        onward = page.next


def test_pages_hold_every_job_that_is_asked_for_once_newest_first(store: JobStore) -> None:
    asked = {
        "": ALL,
        "group=failed&group=deferred": JobFilter(statuses=FAILED | {JobStatus.DEFERRED}),
        "status=waiting&status=running": JobFilter(statuses=frozenset({JobStatus.WAITING, JobStatus.RUNNING})),
        "user=b%C3%B6b&kind=move": JobFilter(user="böb", kind=JobKind.MOVE),
        "source=*%26*%3D*": JobFilter(source="*&*=*"),
        "source=x+y%2Bz.tar": JobFilter(source="x y+z.tar"),
        "since=1h": JobFilter(since=datetime.now(UTC) - timedelta(hours=1)),
        "until=1h": JobFilter(until=datetime.now(UTC) - timedelta(hours=1)),
    }
    for query, wanted in asked.items():
        everything = store.select(wanted)
        assert everything or query == "until=1h"
        for count in (1, 4, len(everything), COUNT + 1):
            pages = list(listed(store, f"{query}&count={count}"))
            assert [job for page in pages for job in page] == everything
            assert all(len(page) == count for page in pages[:-1])
            assert pages[-1] or not everything, "a link leads to something"


def test_the_next_page_is_of_the_same_question(store: JobStore) -> None:
    """Also where that was of so long ago, and time goes on."""
    chance = random.Random(7)
    for _ in range(40):
        parts = [
            *(f"status={status}" for status in chance.sample(list(JobStatus), 3)),
            *(f"group={group}" for group in ("failed", *chance.sample(list(GROUPS), 2))),
            *chance.sample(["since=1h", "until=0s", "source=*", "user=ada", "kind=bundle"], 2),
            *("count=1", chance.choice(["envelope=yes", "envelope=no"])),
        ]
        first = JobQuery.of(QueryParams("&".join(parts)))
        page = first.page(store)
        assert page.next is not None
        second = JobQuery.of(QueryParams(page.next))
        assert second == replace(first, before=page.jobs[-1].job_id)


@pytest.mark.parametrize(
    "query",
    [
        *("count=x", "count=", "before=x", "before=-1", f"before={1 << 63}", f"before={'9' * 50}"),
        *("status=nonsense", "status=OK", "group=held", "kind=tar", "envelope=maybe", "since=soon", "until="),
    ],
)
def test_what_is_no_question_is_refused(query: str) -> None:
    with pytest.raises(HTTPException) as raised:
        JobQuery.of(QueryParams(query))
    assert raised.value.status_code == 400
    assert query.partition("=")[0] in raised.value.detail


VALUES = st.text(max_size=8) | st.sampled_from(
    ["-1", "9" * 19, "2h", "9999-12-31T23:59:59-23:00", "99999999w", "[!", "failed", "yes", "\0", "é", "24:61"]
)


@given(st.lists(st.tuples(st.sampled_from(["status", "group", "since", "until", "source", "user", "before"]), VALUES)))
def test_any_query_is_understood_or_refused(pairs: list[tuple[str, str]]) -> None:
    with suppress(HTTPException):
        wanted = JobQuery.of(QueryParams(urlencode(pairs))).wanted
        condition(wanted, wanted.statuses, SqliteDialect())


def test_a_page_has_a_bounded_size() -> None:
    assert JobQuery.of(QueryParams(f"count={MAX_LISTED + 1}")).count == MAX_LISTED
    assert JobQuery.of(QueryParams(f"count={'9' * 50}")).count <= MAX_LISTED
    assert JobQuery.of(QueryParams("count=-5")).count == 0


def test_links_to_the_next_page(environment: Path, store: JobStore) -> None:
    """In a header, and where it is asked for in the answer; below the path at which a proxy offers the server."""
    with Server(environment, "--root-path", "/ingest") as server:
        answer = requests.get(f"{server.url}/jobs?user=ada&count=3", timeout=PATIENCE)
        first = answer.json()
        assert [job["user"] for job in first] == ["ada"] * 3
        link = answer.links["next"]["url"]
        assert link.startswith("/ingest/jobs?")
        rest = requests.get(f"{server.url}{link.replace('count=3', 'count=20')}&envelope=yes", timeout=PATIENCE)
        assert (rest.json()["next"], rest.links) == (None, {})
        everything = [job.job_id for job in store.select(JobFilter(user="ada"))]
        assert [job["job_id"] for job in (*first, *rest.json()["jobs"])] == everything
        refused = requests.get(f"{server.url}/jobs?group=nonsense", timeout=PATIENCE)
        assert (refused.status_code, "group must be one of" in refused.json()["message"]) == (400, True)
