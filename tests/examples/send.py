"""Send a folder to a server; say which job it became."""

import sys

from ingest_cli import PackRules, Terms, upload

server, folder = sys.argv[1:]
for outcome in upload(
    [folder],
    to=server,
    submitter=10,
    project="1234a",
    instrument=54,
    keys=[("sample", "quartz")],
    rules=PackRules(exclude=("*.tmp",)),
    terms=Terms(rate=50e6, patience=3600.0),
):
    if outcome.error is not None:
        print(f"{outcome.item.name}: {outcome.error}")
    elif outcome.state is not None:
        print(f"{outcome.item.name}: job {outcome.state['job_id']}")
