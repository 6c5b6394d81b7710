"""The processes of an installation of several hosts, as a small table."""

from ...jobs.process import Life
from ...jobs.sightings import Member, Sightings
from ...jobs.store import JobStore
from ...text import duration
from .html import Html, element, join, link

COLUMNS = ("Host", "What", "Process", "Version", "Since (UTC)", "Jobs", "Sign of life")
MOST_NAMED = 5


def members_of(store: JobStore, sightings: Sightings) -> list[Member] | None:
    """The processes of an installation, as earlier ``sightings`` and this one show them; None where it has one host."""
    return sightings.of(store) if store.attendance is not None else None


def hosts_table(members: list[Member], below: str) -> Html:
    """What runs on which host."""
    if not members:
        return element("section", id="hosts", data_part="hosts", hidden=True)
    table = element(
        "table",
        element("caption", "What runs on which host", class_="unseen"),
        element("thead", element("tr", *(element("th", column, scope="col") for column in COLUMNS))),
        element("tbody", *(_row(member, below) for member in members)),
    )
    title = element("h2", "Hosts", id="hosts-title")
    return element("section", title, table, id="hosts", data_part="hosts", aria_labelledby="hosts-title")


def _row(member: Member, below: str) -> Html:
    presence = member.presence
    told = (presence.role, member.process.pid, presence.version, presence.since[:19]) if presence is not None else None
    cells = told or ("command", member.process.pid, "", "")
    return element(
        "tr",
        element("th", member.host, scope="row"),
        *(element("td", cell) for cell in cells),
        element("td", _jobs(member, below)),
        element("td", _sign(member)),
    )


def _jobs(member: Member, below: str) -> Html:
    links = [link(f"{below}jobs/{job_id}", job_id) for job_id in member.jobs[:MOST_NAMED]]
    more = len(member.jobs) - len(links)
    return join([*(part for one in links for part in (one, " ")), f"and {more:,} more" if more > 0 else None])


def _sign(member: Member) -> str:
    if member.life is Life.STOPPED:
        return "suspended"
    if member.life is Life.GONE:
        return "dead"
    if member.life is Life.RUNNING or (member.silent is not None and member.is_alive):
        return "alive"
    # This server has not watched it for long: what the database's own clock says is told, and no more.
    told = f"{duration(member.presence.told)} ago, by the database's clock" if member.presence is not None else ""
    return told if member.is_alive is None else ", ".join(filter(None, [f"none for {duration(member.quiet)}", told]))
