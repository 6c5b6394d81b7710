"""A job as a row of the list, and the words and numbers by which all pages show one."""

from rich.filesize import decimal

from ...jobs.job import Job, JobStatus
from ...text import counted, shortened
from .html import Html, element, join, link
from .query import group_of

LONGEST_NAME = 300
LONGEST_REASON = 400
COLUMNS = ("Job", "State", "Bundle", "User", "Files", "Size", "Changed (UTC)")


def table(jobs: list[Job], below: str, caption: str) -> Html:
    """The jobs as a table."""
    heads = (element("th", column, scope="col", class_=_class_of(column)) for column in COLUMNS)
    return element(
        "table",
        element("caption", caption, class_="unseen"),
        element("thead", element("tr", *heads)),
        element("tbody", *(row(job, below) for job in jobs), id="jobs"),
    )


def row(job: Job, below: str) -> Html:
    """The row of a job."""
    cells = (str(job.user), _files(job), _size(job), moment(job.updated))
    return element(
        "tr",
        element("th", link(f"{below}jobs/{job.job_id}", job.job_id), scope="row"),
        element("td", badge(job), bar(job)),
        element("td", name(job), reason(job), element("p", _more(job), class_="more quiet")),
        *(element("td", cell, class_=_class_of(column)) for cell, column in zip(cells, COLUMNS[3:], strict=True)),
        id=f"job-{job.job_id}",
        data_state=group_of(job.status),
    )


def badge(job: Job) -> Html:
    """The job's status."""
    return element("span", str(job.status), class_=f"badge {group_of(job.status)}")


def bar(job: Job) -> Html | None:
    """How far a running job is in its stage."""
    if job.status not in (JobStatus.RUNNING, JobStatus.UNDOING):
        return None
    return element("progress", value=f"{job.task_percent:.0f}", max=100, aria_label=f"job {job.job_id}: {job.task}")


def name(job: Job) -> Html:
    """What the job is of: the folder of a path, and its last part."""
    folder, slash, last = shortened(job.name, LONGEST_NAME).rpartition("/")
    return join([element("span", f"{folder}{slash}", class_="quiet folder"), element("b", last)])


def reason(job: Job) -> Html | None:
    """Why a job failed or is deferred, or which other one has its content."""
    if job.successor is not None:
        return element("p", f"has its content in job {job.successor}", class_="reason quiet")
    first = first_reason(job)
    again = element("span", f", tried again at {job.retried_at} UTC") if job.will_be_tried_again else None
    return element("p", first, again, class_="reason") if first else None


def first_reason(job: Job) -> str:
    """The first line of why it failed, with the name by which a person knows what is in the spool."""
    first = whole_reason(job).partition("\n")[0]
    return shortened(job.with_name(first), LONGEST_REASON)


def whole_reason(job: Job) -> str:
    """Why it failed, or what the administrator said who ended it."""
    return (job.override.exception if job.override is not None and job.has_failed else "") or job.exception


def moment(when: str) -> Html:
    """A time of UTC as the store has it."""
    seconds = when[:19]
    return element("time", seconds, datetime=f"{seconds.replace(' ', 'T')}Z")


def _files(job: Job) -> str:
    return f"{job.files:,}" if job.digest is not None else ""


def _size(job: Job) -> str:
    return decimal(job.bytes) if job.digest is not None else ""


def _more(job: Job) -> Html:
    """What has no column of its own on a phone."""
    known = [job.user, counted(job.files, "file") if _files(job) else "", _size(job)]
    return join([*(Html(f"{element('span', word)} &middot; ") for word in known if word), moment(job.updated)])


def _class_of(column: str) -> str | None:
    if column in ("Files", "Size"):
        return "wide number"
    return "wide" if column in COLUMNS[3:] else None
