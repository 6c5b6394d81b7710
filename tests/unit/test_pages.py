"""The pages: whatever others have written stands in them as text."""

from dataclasses import replace
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from ingest_cli.jobs.attendance import Presence
from ingest_cli.jobs.filter import FAILED, JobFilter
from ingest_cli.jobs.history import Line
from ingest_cli.jobs.job import Job, JobKind, JobState, JobStatus
from ingest_cli.jobs.outbox import Notice, NoticeStatus
from ingest_cli.jobs.process import Life, Process
from ingest_cli.jobs.reasons import Reason
from ingest_cli.jobs.sightings import Member
from ingest_cli.server.pages.html import Html, element
from ingest_cli.server.pages.job_page import Files, JobStory, job_page
from ingest_cli.server.pages.overview import Overview, overview_page
from ingest_cli.server.pages.query import GROUPS, Query
from ingest_cli.services.base import StoredFile
from ingest_cli.settings import Ids
from ingest_cli.text import printable

JOB = Job(
    job_id=7, kind=JobKind.BUNDLE, source="/data/a.tar", fingerprint="1:2:3", user="eve", spooled=False, origin="",
    state=JobState.FAILED, task="open tar", task_percent=0.0, exception="", created="2026-11-28 17:17:31.478978",
    updated="2026-11-28 17:17:31.478978", began="", digest="ab", files=2, bytes=30, attempts=1, waits=0, retry_at=0.0,
    fence_number=1, holder=None, heartbeat=0, undo_to=None, successor=None, override=None, reservation=None,
)  # fmt: skip
NOTICE = Notice(
    number=1, job_id=7, run=1, kind="failed", receiver="url", data={}, created=JOB.created, updated=JOB.updated,
    status=NoticeStatus.WAITING, attempts=1, retry_at=0.0, since=0.0, reason="", fence=1, is_hastened=False,
)  # fmt: skip
# What would be an element, end an attribute, or be a character that a terminal or a reader obeys.
PIECES = ["<img src=x onerror=alert(1)>", '"', "'", "><script>alert(1)</script>", "&lt;", "</title>", "]]>", "<!--"]
PIECES += ["\x00", "\x1b[31m", "\u202e", "\udce9", "\ud800", "javascript:alert(1)", "\n", "é", "日本", " ", "/", "%0a"]
HOSTILE = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=6).map("".join)


class Reader(HTMLParser):
    """Reads a page as a browser does: its elements, their attributes, and what stands between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


def read(page: Html) -> Reader:
    page.encode()  # in which there is half a character of none
    return Reader(page)


def member(job: Job) -> Member:
    """A process whose host has the name of the job's user, and that says the same of itself."""
    process = Process(host=job.user, pid=1, started="1", boot="another", namespace="")
    said = {"role": job.user, "version": job.user, "since": job.user}
    presence = Presence(process=process, host=job.user, heartbeat=1, told=2.0, ahead=0.0, **said)
    return Member(
        process=process,
        host=job.user,
        presence=presence,
        jobs=tuple(range(9)),
        life=Life.OUT_OF_SIGHT,
        silent=None,
        watched=0.0,
        patience=1.0,
    )


def overview(job: Job, query: Query) -> Html:
    counts = dict.fromkeys(GROUPS, 1)
    found = Overview(
        query=query,
        counts=counts,
        jobs=[job],
        more=True,
        failures=[job],
        flow=None,
        reasons=[Reason("open tar", job.exception, 1, [7], {}, {})],
        hosts=[member(job)],
    )
    return overview_page(found, "/below/", Ids(project=job.user))


def story(job: Job, reason: str, path: str) -> Html:
    file = StoredFile(
        file_id=1, name=path, subdir="", size=3, hashtype="sha1", hashsum=path, mimetype="", ctime=None, mtime=None
    )
    files = Files(named=[(path, file)], first=0, total=1)
    told = JobStory(job=job, stages={}, history=[Line(JOB.created, reason)], events=[replace(NOTICE, reason=reason)])
    return job_page(told, "/below/", files=files, actions=None)


def pages(name: str, user: str, reason: str) -> list[Reader]:
    job = replace(JOB, source=name, user=user, exception=reason)
    found = [overview(job, Query()), overview(job, Query(name=name, user=user)), story(job, reason, name)]
    return [read(page) for page in found]


TAME = pages("a", "b", "c")
TAGS = {tag for page in TAME for tag in page.tags}
ATTRIBUTES = {key for page in TAME for key, _ in page.attributes}


@settings(max_examples=40)
@given(HOSTILE, HOSTILE, HOSTILE)
def test_what_others_have_written_is_text(name: str, user: str, reason: str) -> None:
    for page in pages(name, user, reason):
        assert set(page.tags) <= TAGS
        assert {key for key, _ in page.attributes} <= ATTRIBUTES
        links = [value or "" for key, value in page.attributes if key in ("href", "action")]
        assert all(value.startswith("/below/") for value in links)
        assert printable(user, "\n") in page.texts or not user
        assert all(text.replace("\n", "").isprintable() for text in page.texts)


@settings(max_examples=40)
@given(HOSTILE)
def test_an_element_has_no_more_attributes_than_it_was_given(value: str) -> None:
    (found,) = [read(element("i", value, title=value))]
    assert found.tags == ["i"]
    assert found.attributes == [("title", printable(value, "\n"))]
    assert "".join(found.texts) == printable(value, "\n")


def test_what_an_address_asks_for() -> None:
    def asked(address: str) -> Query:
        return Query.of(QueryParams(address))

    assert asked("") == Query() == asked("state=nonsense&before=-1&before=x")
    assert asked("").is_plain
    assert asked("state=failed&name=a&user=b&before=9").filter == JobFilter(statuses=FAILED, source="*a*", user="b")
    assert asked("name=*.tar").filter == JobFilter(source="*.tar")
    assert {status for statuses in GROUPS.values() for status in statuses} == set(JobStatus)


@settings(max_examples=40)
@given(HOSTILE, HOSTILE, st.sampled_from(["", *GROUPS]), st.none() | st.integers(1, 1 << 50))
def test_an_address_means_what_it_was_made_of(name: str, user: str, state: str, before: int | None) -> None:
    query = Query(name=name.strip(), user=user.strip(), state=state, before=before)
    address = query.address("/")
    if (name + user).encode(errors="replace").decode() == name + user:  # no address has half a character
        assert Query.of(QueryParams(address.partition("?")[2])) == query


def test_a_job_is_said_to_be_of_what_it_is_of() -> None:
    for kind, word in {JobKind.BUNDLE: "Bundle", JobKind.MOVE: "Document", JobKind.FOLDER: "Folder"}.items():
        story = JobStory(job=replace(JOB, kind=kind), stages={}, history=[], events=[])
        assert word in read(job_page(story, "/", files=None, actions=None)).texts
