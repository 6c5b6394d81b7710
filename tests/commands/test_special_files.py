"""A FIFO, a socket, a device or a folder in the place of a file is refused at once; nothing waits for what is in it."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest_cli.disk import open_regular

from ..support.forks import Running

KINDS = ["FIFO", "socket", "device", "folder", "link to a FIFO"]
COMMANDS = {
    "check": ["check", "-q"],
    "ingest": [],
    "move": ["move"],
    "queue": ["--queue"],
    "verify": ["verify", "--receipt"],
    "watch": ["watch", "--once", ".", "--pack"],
}


@pytest.fixture
def special(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "special"
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "socket":
            monkeypatch.chdir(tmp_path)
            listener.bind(path.name)  # a socket's path is short
        elif kind == "device":
            path = Path("/dev/zero")
        elif kind == "folder":
            path.mkdir()
        else:
            os.mkfifo(tmp_path / "fifo" if kind == "link to a FIFO" else path)
            if not path.exists():
                path.symlink_to("fifo")
        yield path


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("name", "kind"), [*(("check", kind) for kind in KINDS), *((name, "FIFO") for name in COMMANDS if name != "check")]
)
def test_each_command_refuses_it(starting: Callable[..., Running], special: Path, tmp_path: Path, name: str) -> None:
    with (tmp_path / "said").open("wb") as said:
        running = starting(*COMMANDS[name], special, output=said)
        assert running.wait(30) in (1, 2)
    (line,) = (tmp_path / "said").read_text().splitlines()
    assert line.endswith("is not a regular file")
    assert str(special) in line


def test_a_file_that_becomes_a_fifo_when_it_was_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No one writes into this FIFO, so to open it as a file is opened would take for ever."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "regular").touch()
    seen = (tmp_path / "regular").stat()
    monkeypatch.setattr(Path, "stat", lambda path: seen)
    try:
        with pytest.raises(OSError, match="it is not a regular file"):
            open_regular(tmp_path / "fifo")
    finally:
        monkeypatch.undo()


def test_what_is_opened_is_read_as_any_other_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 5000)
    (tmp_path / "link").symlink_to("file")
    with open_regular(tmp_path / "link") as file:
        assert os.get_blocking(file.fileno())
        assert not os.get_inheritable(file.fileno())
        assert file.read() == b"x" * 5000
