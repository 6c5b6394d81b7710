"""``ingest events``."""

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ExitCode, SettingsError
from .command import command
from .completion import job_ids
from .options import Output, Site
from .output import notify, say, write_json

if TYPE_CHECKING:
    from ..events.sender import Tally
    from ..jobs.outbox import Notice

MOST_REASONS = 5
COLUMNS = "{:>8}  {:>8}  {:<8}  {:<7}  {:<8}  {:>8}  {:<19}  {}"


@command
def events(
    numbers: Annotated[
        list[int] | None, typer.Argument(metavar="EVENT", help="The events to send again, by their numbers.")
    ] = None,
    job: Annotated[
        int | None,
        typer.Option("--job", help="Only the events of this job.", metavar="JOB_ID", autocompletion=job_ids),
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only the events that were given up.")] = False,
    resend: Annotated[bool, typer.Option("--resend", help="Send these events again instead of listing them.")] = False,
    send: Annotated[bool, typer.Option("--send", help="Send the events that wait and are due, each once.")] = False,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many events to show.", metavar="NUMBER")] = 20,
    *,
    site: Site,
    output: Output,
) -> None:
    """List events, or send them.

    They are sent by themselves while jobs are run; see 'ingest help config'.
    """
    from .. import api

    settings, selected = site.settings, bool(numbers) or job is not None or failed
    if send and (resend or selected):
        raise SettingsError("--send takes no event, --job, --failed or --resend: it sends whatever waits")
    if (resend and not selected) or (numbers and not resend):
        raise SettingsError("--resend and the events to send again go together: numbers, --job or --failed")
    if send:
        _show_tally(api.send_events(settings=settings), json=output.json)
    elif resend:
        _show_tally(api.resend_events(numbers or (), job_id=job, given_up=failed, settings=settings), json=output.json)
    else:
        _show_list(api.list_events(count, job_id=job, given_up=failed, settings=settings), json=output.json)
        if not output.json:
            notify(", ".join(f"{number:,} {status}" for status, number in api.count_events(settings=settings).items()))


def _show_list(notices: "list[Notice]", *, json: bool) -> None:
    if json:
        write_json([_as_json(notice) for notice in notices])
        return
    if not notices:
        say("no events")
        return
    say(COLUMNS.format("event", "job", "of", "to", "status", "attempts", "updated (UTC)", "why"))
    for notice in notices:
        what = (notice.number, notice.job_id, notice.kind, notice.receiver, notice.status)
        say(COLUMNS.format(*what, notice.attempts, notice.updated[:19], notice.reason).rstrip())


def _show_tally(tally: "Tally", *, json: bool) -> None:
    for reason in list(dict.fromkeys(tally.reasons))[:MOST_REASONS]:
        notify(reason)
    if json:
        write_json({"sent": tally.sent, "waiting": tally.waiting, "given_up": tally.given_up})
    else:
        given_up = f", {tally.given_up:,} given up" if tally.given_up else ""
        notify(f"{tally.sent:,} sent, {tally.waiting:,} to be sent again later{given_up}")
    if tally.waiting or tally.given_up:
        raise typer.Exit(ExitCode.UNREACHABLE if tally.waiting else ExitCode.FAILED)


def _as_json(notice: "Notice") -> dict[str, object]:
    from datetime import UTC, datetime

    due = notice.status == "waiting" and notice.retry_at > 0
    return {
        "number": notice.number,
        "job_id": notice.job_id,
        "kind": notice.kind,
        "receiver": notice.receiver,
        "status": notice.status,
        "attempts": notice.attempts,
        "created": notice.created,
        "updated": notice.updated,
        "next_attempt": f"{datetime.fromtimestamp(notice.retry_at, UTC):%Y-%m-%d %H:%M:%S.%f}" if due else None,
        "reason": notice.reason,
    }
