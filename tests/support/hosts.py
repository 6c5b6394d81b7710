"""Other hosts, as far as one machine can play them: a name, process ids and a boot of their own."""

import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

BOOT_ID = "/proc/sys/kernel/random/boot_id"
ENTER = f'hostname "$1" && {{ [ -z "$2" ] || mount --bind "$2" {BOOT_ID}; }} && shift 2 && exec "$@"'


def host(name: str, *, processes: bool = True, boot: Path | None = None) -> list[str]:
    """A command line that runs the one behind it under this host name.

    ``processes``: it sees no processes of others, and its ids count from 1, as in a container; ``boot`` is a file with
    the id of another boot, as `new_boot` writes it.
    """
    apart = ["--pid", "--fork", "--kill-child", "--mount-proc"] if processes else []
    return ["unshare", "--uts", "--mount", *apart, "sh", "-c", ENTER, "sh", name, str(boot or "")]


def new_boot(folder: Path) -> Path:
    """A file with the id of a boot that never was."""
    folder.mkdir(parents=True, exist_ok=True)
    boot = folder / "boot_id"
    boot.write_text(f"{uuid.uuid4()}\n")
    return boot


def skip_unless_possible(place: Sequence[str]) -> None:
    """Skip where this account or kernel gives no namespaces."""
    try:
        tried = subprocess.run([*place, "true"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare, which plays another host")
    if tried.returncode != 0:
        pytest.skip(f"another host cannot be played here: {tried.stderr.strip()}")
