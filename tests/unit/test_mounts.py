"""What is mounted where, as the system says it in bytes; and which errors of the system pass."""

import errno
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_cli import mounts
from ingest_cli.disk import PASSING, explained
from ingest_cli.errors import ResourceUnavailable, SourceError
from ingest_cli.jobs.process import Process, this_process

NAMES = st.binary(min_size=1, max_size=20).filter(
    lambda name: not set(b"/\0") & set(name) and name not in (b".", b"..")
)
# Lines of a form that is not known: each may cost itself only.
ODD_LINES = st.sampled_from(
    [b"", b"-", b" - ", b"1 2 3", b"1 2 0:1 / ", b"\xff\xfe - \xff", b"1 2 3 4 \\999 - nfs x", b" - nfs"]
)


def as_shown(name: bytes) -> bytes:
    """A name as the kernel writes it (show_mountinfo in fs/proc_namespace.c)."""
    return re.sub(rb"[ \t\n\\#]", lambda found: b"\\%03o" % found[0][0], name)


@given(names=st.lists(NAMES, min_size=1, max_size=5, unique=True), odd=st.lists(ODD_LINES, max_size=5))
def test_mount_points_of_any_name(names: list[bytes], odd: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        table = Path(os.environ["HOME"]).parent / "mountinfo"
        lines = [b"1 0 0:1 / / rw - ext4 root rw"]
        for name in names:
            lines += [b"2 1 0:2 / /mnt/" + as_shown(name) + b" rw shared:1 - nfs4 server:/x rw", *odd]
        table.write_bytes(b"\n".join([*odd, *lines]))
        patch.setattr(mounts, "MOUNTS", table)
        for name in names:
            if name.strip(b".") and not name.isspace():
                assert mounts.on_network(Path(os.fsdecode(b"/mnt/" + name + b"/below")))
        assert not mounts.on_network(Path("/mnt"))


def test_of_several_mounts_at_one_place_the_last_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mountinfo")
    lines = [f"1 0 0:1 / {tmp_path}/mnt rw - {kind} x rw" for kind in ("autofs", "nfs4")]
    (tmp_path / "mountinfo").write_text("\n".join(lines))
    assert mounts.on_network(tmp_path / "mnt" / "a")
    (tmp_path / "mountinfo").write_text("\n".join(reversed(lines)))
    assert not mounts.on_network(tmp_path / "mnt" / "a")


def test_a_system_that_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "none")
    assert not mounts.on_network(tmp_path)
    assert mounts.mounts_of([Path("/a/b/c")]) == set()


@pytest.mark.parametrize("number", sorted(errno.errorcode), ids=errno.errorcode.get)
def test_what_passes_is_told_from_what_does_not(tmp_path: Path, number: int) -> None:
    lasting = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EIO, errno.ELOOP}
    assert not lasting & PASSING
    told = explained(OSError(number, os.strerror(number)), "cannot read it", SourceError, tmp_path)
    assert type(told) is (ResourceUnavailable if number in PASSING else SourceError)
    assert str(told) == f"cannot read it: {os.strerror(number)}"


def test_a_share_that_is_away_may_say_no_more_than_that_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mountinfo").write_text(f"1 0 0:1 / {tmp_path}/share rw - nfs server:/x rw")
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mountinfo")
    error = OSError(errno.EIO, os.strerror(errno.EIO))
    assert explained(error, "x", SourceError, tmp_path / "share" / "b.tar").transient
    assert not explained(error, "x", SourceError, tmp_path / "b.tar").transient
    assert not explained(error, "x", SourceError).transient


def test_a_host_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    system, _, *others = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((system, os.fsdecode(b"lab\xff\n7"), *others)))
    process = this_process()
    assert str(process).encode() == rb"lab\xff\n7:" + str(os.getpid()).encode()
    assert Process.from_text(process.to_text()) == process
