"""How long uploads take that go to a shared spool, beside those to a folder:  python -m tests.benchmarks.shared_spool

PostgreSQL and SeaweedFS are started on this machine, and two servers that share them, of which one is sent to; what is
sent, and how it is counted, is that of `tests.benchmarks.serve`. The archive is a folder for all.
"""

import sys
import tempfile
from pathlib import Path

from ..support.object_stores import seaweedfs
from ..support.postgres import serving_postgres
from ..support.several_servers import several_servers
from . import serve


def main() -> None:
    with tempfile.TemporaryDirectory() as name, serving_postgres() as postgres:
        folder = Path(name)
        (folder / "seaweedfs").mkdir()
        with (
            seaweedfs(folder / "seaweedfs") as storage,
            several_servers(folder / "hosts", postgres.new_database(), storage) as servers,
        ):
            one = servers.instances[0]
            sys.argv[1:] = [f"{one.url}/upload", "a shared spool"]
            serve.main()
            status = Path(f"/proc/{one.process.pid}/status").read_text()
            peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
            print(f"peak memory of the server with a shared spool: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
