"""Private servers of databases, each in a folder of its own: PostgreSQL and MariaDB."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 60


def postgres_programs() -> Path | None:
    """Where the programs of PostgreSQL are, if it is installed."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


def mariadb_program() -> str | None:
    """Where MariaDB is, if it is installed."""
    return (
        shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin") if shutil.which("mariadb-install-db") else None
    )


def as_postgres(folder: Path) -> list[str]:
    """What a command begins with whose files are in the folder: PostgreSQL and PgBouncer refuse to run as root."""
    if os.getuid() != 0:
        return []
    shutil.chown(folder, "postgres")
    for parent in folder.parents:
        if parent.stat().st_uid == 0 and parent != Path("/") and parent.stat().st_mode & 0o011 != 0o011:
            parent.chmod(parent.stat().st_mode | 0o011)
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def new_postgres(data: Path, port: int, *, fsync: bool = False) -> list[str]:
    """Make a cluster in a new folder; what starts it at the port, with nobody asked for a password."""
    programs = postgres_programs()
    assert programs is not None
    data.mkdir()
    before = as_postgres(data)
    user = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"]
    subprocess.run(
        [*before, str(programs / "initdb"), "-D", str(data), *user], check=True, capture_output=True, cwd="/"
    )
    options = ["-p", str(port), "-h", "127.0.0.1", "-k", "", "-c", f"fsync={'on' if fsync else 'off'}"]
    return [*before, str(programs / "postgres"), "-D", str(data), *options]


def postgres_answers(port: int) -> bool:
    programs = postgres_programs()
    assert programs is not None
    return subprocess.run([programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]).returncode == 0


def make_postgres_database(port: int, name: str) -> None:
    programs = postgres_programs()
    assert programs is not None
    subprocess.run([programs / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", name], check=True)


def new_mariadb(data: Path, port: int) -> list[str]:
    """Make a server in a new folder; what starts it at the port, where ``root`` has no password."""
    program = mariadb_program()
    assert program is not None
    user = ["--user=root"] if os.getuid() == 0 else []
    make = ["mariadb-install-db", "--no-defaults", *user, f"--datadir={data}", "--skip-test-db"]
    make.append("--auth-root-authentication-method=normal")
    subprocess.run(make, check=True, capture_output=True, cwd="/")
    listening = ["--bind-address=127.0.0.1", f"--port={port}", f"--socket={data}/socket", f"--pid-file={data}/pid"]
    return [program, "--no-defaults", *user, f"--datadir={data}", *listening, "--innodb-flush-log-at-trx-commit=0"]


@contextmanager
def running(folder: Path, words: list[str], answers: Callable[[], bool]) -> Iterator[None]:
    """A server that these words start, for as long as the block lasts."""
    log = folder / "database.log"
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, cwd="/")
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
