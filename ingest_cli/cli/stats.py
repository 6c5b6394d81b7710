"""``ingest stats``."""

from .command import command
from .options import Output, Site
from .output import say, write_json

REASONS = 20


@command
def stats(site: Site, output: Output) -> None:
    """Count jobs, files and bytes, and the reasons for failures.

    Also show how many seconds the jobs spent in each stage, and how many events were sent.
    """
    from rich.filesize import decimal

    from ..jobs.store import open_store

    with open_store(site.settings, new=False) as store:
        tallies, seconds, failures = store.tallies(), store.stage_seconds(), store.failures()
        events, oldest = store.outbox.tallies(), store.outbox.oldest_waiting()
    if output.json:
        answer = {
            "states": {
                state: dict(zip(("jobs", "files", "bytes"), row, strict=True)) for state, row in tallies.items()
            },
            "stages": seconds,
            "failures": [dict(zip(("stage", "reason", "jobs"), row, strict=True)) for row in failures],
            "events": {
                **{status.replace(" ", "_"): count for status, count in events.items()},
                "oldest_waiting": oldest,
            },
        }
        write_json(answer)
        return
    say(f"{'':<18}{'jobs':>10}{'files':>14}{'size':>12}")
    for state, row in tallies.items():
        say(f"{state:<18}{row[0]:>10,}{row[1]:>14,}{decimal(row[2]):>12}")
    if seconds:
        say("")
        say(f"{'stage':<18}{'seconds':>10}")
        for stage, spent in sorted(seconds.items(), key=lambda item: -item[1]):
            say(f"{stage:<18}{spent:>10.1f}")
    if failures:
        say("")
        say(f"{'failed at':<18}{'jobs':>10}  why")
        for stage, reason, count in failures[:REASONS]:
            say(f"{stage:<18}{count:>10}  {reason}")
        if len(failures) > REASONS:
            say(f"and {len(failures) - REASONS:,} more reasons: see --json")
    if any(events.values()):
        say("")
        say(f"{'events':<18}{'number':>10}")
        for status, number in events.items():
            since = f"  since {oldest[:19]} UTC" if status == "waiting" and oldest is not None else ""
            say(f"{status:<18}{number:>10,}{since}")
