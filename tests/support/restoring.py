"""A PostgreSQL server that can be brought back to a moment, as `ingest deploy cluster` has it set up."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .databases import as_postgres, postgres_programs
from .postgres import PostgresServer, outside, require_postgres
from .waiting import until

LOG = "/srv/wal"


class RestorableServer(PostgresServer):
    """A server whose log is kept, by the command that is ``set_up`` for it, in a folder beside it."""

    def __init__(self, folder: Path, set_up: str) -> None:
        self._log, self._copy, self._data = folder / "wal", folder / "base", folder / "data"
        self._log.mkdir()
        self._before = as_postgres(self._log)
        found = re.findall(r"^#(archive_\w+) = (.+)$", set_up, re.MULTILINE)
        settings = [f"{name}={value.strip(chr(39)).replace(LOG, str(self._log))}" for name, value in found]
        super().__init__(folder, settings)
        hba = self._data / "pg_hba.conf"
        hba.write_text(f"host replication postgres 127.0.0.1/32 trust\n{hba.read_text()}")

    def back_up(self) -> None:
        """Make the base backup."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        self._run("pg_basebackup", *where, "-D", str(self._copy), "-c", "fast", "-X", "none", folder=self._copy)

    def moment(self) -> str:
        """Now, as the server has it. What is committed next comes after it."""
        return str(self.execute("SELECT clock_timestamp()")[0][0])

    def restore(self, moment: str) -> None:
        """Bring all back to the moment."""
        self.execute("SELECT pg_switch_wal()")
        self.stop()
        shutil.move(self._data, self._data.with_name("lost"))
        shutil.copytree(self._copy, self._data, copy_function=shutil.copy2)
        self._data.chmod(0o700)
        (self._data / "recovery.signal").touch()
        with (self._data / "postgresql.auto.conf").open("a") as settings:
            settings.write(
                f"restore_command = 'cp {self._log}/%f %p'\n"
                f"recovery_target_time = '{moment}'\nrecovery_target_action = 'promote'\n"
            )
        if self._before:
            for path in (self._data, *self._data.rglob("*")):
                shutil.chown(path, "postgres", "postgres")
        self.start()
        # It answers before it is there.
        until(lambda: self.execute("SELECT pg_is_in_recovery()") == [(False,)])

    def _run(self, program: str, *words: str, folder: Path) -> None:
        folder.mkdir()
        programs = postgres_programs()
        assert programs is not None
        subprocess.run(
            [*as_postgres(folder), str(programs / program), *words], check=True, capture_output=True, cwd="/"
        )


@contextmanager
def restorable_postgres(set_up: str) -> Iterator[RestorableServer]:
    """Such a server, for as long as the block lasts; ``set_up`` is what is printed for its configuration."""
    require_postgres()
    with outside() as folder:
        server = RestorableServer(folder, set_up)
        try:
            server.start()
            yield server
        finally:
            server.kill()
