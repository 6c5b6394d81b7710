"""Whatever lies in a folder, `pack` refuses it in words, or has it in the bundle or told of, and that is ingested."""

import os
import socket
import stat
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest_cli.bundle.pack import write_bundle
from ingest_cli.bundle.pack_rules import LITTER, SPECIAL, PackRules, Reason
from ingest_cli.bundle.records import transaction_records
from ingest_cli.errors import PackError

from ..support.site import Site

RECORDS = transaction_records(10, "1234a", 54, [])
# A file system that keeps any time, where there is one.
ROOMY = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
NAMES = [
    *(
        "a",
        "b.txt",
        "A",
        "x.tmp",
        "cache",
        "raw",
        "metadata.txt",
        "data",
        "data:,x",
        "-dash",
        " blank ",
        "[a]",
        "*",
        "~",
    ),
    *("new\nline", "tab\t", "\x1b[31mred", "quote'\"", "back\\slash", "\\u0000", "semi;colon", "dot.", "..."),
    *("\N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}", "\N{SNOWMAN}" * 85, "x" * 255),
    *(".DS_Store", "._a", "THUMBS.DB", "__MACOSX", "lost+found", ".hidden", "a.part", ".nfsrc"),
]
NO_TEXT = os.fsdecode(b"\xff")
TARGETS = ["a", "b.txt", "raw", ".", "..", "../a", "nowhere", "a/b.txt", "/dev/null", "outside", "cache/x.tmp"]
TIMES = [0, 1, -1, 1_480_428_545, 2**31, 2**33, -(2**31), 253_402_300_799, 253_402_300_800, -62_135_596_801, 2**55]
PATTERNS = ["*.tmp", "cache/", "/raw", "raw/a", "[a]", "A", "*a*/", "e*", "/*/*"]


@dataclass
class Tree:
    """What lies in a folder: the contents of the files that are packed, and why all else is not."""

    files: dict[str, bytes] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, set[Reason]] = field(default_factory=dict)


def make(top: Path, entries: list[tuple[list[str], str, Any]]) -> None:
    """Have these lie below ``top``, as far as they can be there together."""
    for names, kind, value in entries:
        path = top.joinpath(*names)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(path) or not path.parent.resolve().is_relative_to(top):
                continue
            if kind == "file":
                content, seconds, mode = value
                path.write_bytes(content)
                path.chmod(mode)
                os.utime(path, ns=(0, seconds * 1_000_000_000 + 999_999_999))
            elif kind == "folder":
                path.mkdir()
            elif kind == "link":
                path.symlink_to(value)
            elif kind == "hard link":
                path.hardlink_to(top / value)
            elif kind == "FIFO":
                os.mkfifo(path)
            else:
                with in_folder(path.parent), socket.socket(socket.AF_UNIX) as listening:
                    listening.bind(path.name)


@contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    """A socket's path is short, so it is made from within its folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def seen(top: Path, rules: PackRules) -> Tree:
    """What a person sees in the folder, who knows the rules by the manual."""
    tree = Tree()

    def look(path: Path, name: str, above: list[str]) -> None:
        is_folder = path.is_dir() and (rules.dereference or not path.is_symlink())
        shown = f"{name}/" if is_folder and name else name
        if name and (by_name := reasons_of_name(shown, rules)):
            tree.left_out[shown] = by_name
        elif is_folder and os.path.realpath(path) in above:
            tree.left_out[shown] = {Reason.LOOP}
        elif is_folder:
            children = os.listdir(path)
            if name and not children:
                tree.left_out[shown] = {Reason.EMPTY}
            for child in children:
                look(path / child, f"{shown}{child}", [*above, os.path.realpath(path)])
        elif path.is_file() and (rules.dereference or not path.is_symlink()):
            tree.files[name] = path.read_bytes()
            tree.times[name] = path.stat().st_mtime_ns // 1_000_000_000
        elif path.is_symlink() and rules.dereference:
            tree.left_out[name] = set(SPECIAL) - {Reason.LINK, Reason.LOOP}
        else:
            mode = path.lstat().st_mode
            tree.left_out[name] = {
                Reason.LINK if stat.S_ISLNK(mode) else Reason.FIFO if stat.S_ISFIFO(mode) else Reason.SOCKET
            }

    look(top, "", [])
    return tree


def reasons_of_name(name: str, rules: PackRules) -> set[Reason]:
    found = set()
    for pattern in rules.exclude:
        path = PurePosixPath(f"/{unicodedata.normalize('NFC', name)}")
        if path.match(pattern) and (name.endswith("/") or not pattern.endswith("/")):
            found.add(Reason.EXCLUDED)
    if rules.default_excludes and any(fnmatch(PurePosixPath(name).name.lower(), litter.lower()) for litter in LITTER):
        found.add(Reason.LITTER)
    return {Reason.EXCLUDED} if Reason.EXCLUDED in found else found


FILE = st.tuples(
    st.just("file"), st.tuples(st.binary(max_size=600), st.sampled_from(TIMES), st.sampled_from([0o644, 0o600, 0o777]))
)
ENTRIES = st.one_of(
    *(FILE, FILE, FILE, FILE, FILE),
    st.tuples(st.just("folder"), st.none()),
    st.tuples(st.just("link"), st.sampled_from(TARGETS)),
    st.tuples(st.just("hard link"), st.sampled_from(["a", "b.txt"])),
    st.tuples(st.just("FIFO"), st.none()),
    st.tuples(st.just("socket"), st.none()),
)
# Of few trees a name is no text, and these are refused.
NAME = st.integers(0, 30 * len(NAMES)).map(lambda number: NAMES[number % len(NAMES)] if number else NO_TEXT)
TREES = st.lists(
    st.tuples(st.lists(NAME, min_size=1, max_size=3), ENTRIES).map(lambda pair: (pair[0], *pair[1])),
    max_size=15,
)
RULES = st.builds(
    PackRules,
    exclude=st.lists(st.sampled_from(PATTERNS), max_size=3).map(tuple),
    default_excludes=st.booleans(),
    skip_special=st.sampled_from([True, True, False]),
    dereference=st.booleans(),
)


def check(site: Site, entries: list[tuple[list[str], str, Any]], rules: PackRules) -> None:
    with tempfile.TemporaryDirectory(dir=ROOMY) as folder:
        top, bundle = Path(folder) / "run", Path(folder) / "b.tar"
        top.mkdir()
        (Path(folder) / "a").write_bytes(b"beside it")
        if len(entries) > 1:  # few folders hold nothing that is packed
            (top / "kept").write_bytes(b"kept")
        make(top, entries)
        tree = seen(top, rules)
        refused = [name for name, reasons in tree.left_out.items() if reasons <= SPECIAL and not rules.skip_special]
        unreadable = [name for name in tree.files if not name.isascii() and "\udcff" in name]
        try:
            packed = write_bundle([top], RECORDS, bundle, rules)
        except PackError as error:
            said = "\n".join([str(error), *getattr(error, "__notes__", ())])  # names as they are
            assert refused or unreadable or not tree.files, said
            assert not bundle.exists()
            assert all(f"{top}/{name.rstrip('/')} is a " in said for name in refused)
            assert said.count("is not valid UTF-8") == len(unreadable)
            return
        assert not refused
        assert not unreadable
        assert {entry.name for entry in packed.left_out} == set(tree.left_out)
        assert all(entry.reason in tree.left_out[entry.name] for entry in packed.left_out)
        assert len(packed.left_out) > 10 or all(any(name in line for line in packed.warnings) for name in tree.left_out)
        assert (packed.files, packed.bytes) == (len(tree.files), sum(map(len, tree.files.values())))
        job = site.ingest(bundle)
        assert stored(site, job.duplicate_of or job.job_id) == tree.files
        assert times(site, job.duplicate_of or job.job_id) == {name: text_of(time) for name, time in tree.times.items()}


def rows(site: Site, job_id: int) -> dict[str, dict[str, Any]]:
    found = (row for row in site.rows("Files") if row["transaction"] == job_id)
    return {"/".join(filter(None, (row["subdir"], row["name"]))): row for row in found}


def stored(site: Site, job_id: int) -> dict[str, bytes]:
    return {name: site.file(row["id"]).read_bytes() for name, row in rows(site, job_id).items()}


def times(site: Site, job_id: int) -> dict[str, str]:
    return {name: row["mtime"] for name, row in rows(site, job_id).items()}


def text_of(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%4Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "0001-01-01T00:00:00" if seconds < 0 else "9999-12-31T23:59:59"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(entries=TREES, rules=RULES)
def test_a_few_folders(site: Site, entries: list[tuple[list[str], str, Any]], rules: PackRules) -> None:
    check(site, entries, rules)


@pytest.mark.sweep
@settings(max_examples=2000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(entries=TREES, rules=RULES)
def test_many_folders(site: Site, entries: list[tuple[list[str], str, Any]], rules: PackRules) -> None:
    check(site, entries, rules)
