"""The index of a tar: in steps, by any Unicode form of a name, and with names of a length that a person can read."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ingest_cli.bundle import tar
from ingest_cli.bundle.reader import Bundle
from ingest_cli.errors import BundleError, BundleTruncated, IngestError, Interrupted

from ..support.tar_forms import END, GNU, header, long_name, member, pax, signed


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Bundle]:
    def bundle(raw: bytes, require: Callable[[], None] = lambda: None) -> Bundle:
        (tmp_path / "b.tar").write_bytes(raw)
        return Bundle(tmp_path / "b.tar", tmp_path / "spool", require=require)

    return bundle


def test_it_asks_now_and_then_whether_to_stop(bundle: Callable[..., Bundle]) -> None:
    asked = 0

    def stop() -> None:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise Interrupted

    files = b"".join(header(b"data/%d" % number) for number in range(4000))
    for headers in (files, header(b"data/", 0, b"5") * 4000):
        asked = 0
        with pytest.raises(Interrupted):
            bundle(headers + END, stop)


@pytest.mark.parametrize("members", [1, 7, 8, 9, 100])
@pytest.mark.parametrize("length", [0, 1, 511, 512, 513, 3584, 4096, 5000])
def test_members_of_any_length_stand_in_any_number(bundle: Callable[..., Bundle], members: int, length: int) -> None:
    files = {f"data/{number}": bytes([number]) * length for number in range(members)}
    with bundle(b"".join(member(name.encode(), content) for name, content in files.items()) + END) as opened:
        assert [found.name for found in opened.members.values()] == list(files)
        assert [found.size for found in opened.members.values()] == [length] * members
        raw = opened.path.read_bytes()
        for name, found in opened.members.items():
            assert raw[found.offset : found.offset + found.size] == files[name]


def test_a_name_is_found_in_another_unicode_form_where_there_is_one(bundle: Callable[..., Bundle]) -> None:
    composed, decomposed = "data/\u00e9", "data/e\u0301"
    with bundle(member(composed.encode()) + END) as opened:
        assert opened.find(decomposed) == opened.members[composed]
    hangul = "data/\u1112\u1161\u11ab", "data/\ud558\u11ab", "data/\ud55c"
    with bundle(member(hangul[0].encode()) + member(hangul[1].encode()) + END) as opened:
        assert opened.find(hangul[0]) == opened.members[hangul[0]]
        assert opened.find(hangul[2]) is None


@pytest.mark.parametrize(
    "raw",
    [
        long_name(b"../" + b"x" * 4000) + header(b"x"),
        pax(("path", "data/" + "x" * 4000)) + header(b"x", 0, b"2"),
        pax(("path", "data/" + "x" * 4000)) + header(b"x") + pax(("path", "data/" + "x" * 4000)) + header(b"x"),
        pax(("path", b"\xff" * 4000)) + header(b"x"),
        pax(("path", "x" * 100_000)) + header(b"x"),
        pax(("size", "x" * 100_000)) + header(b"x"),
        pax(("hdrcharset", "x" * 100_000)) + header(b"x"),
        pax(("GNU.sparse.name", "data/" + "x" * 4000)) + header(b"x"),
        pax(("path", "a" * 4000)) + long_name(b"b" * 4000) + header(b"x"),
    ],
)
def test_what_is_said_of_a_long_name_is_short(bundle: Callable[..., Bundle], raw: bytes) -> None:
    with pytest.raises(BundleError) as caught:
        bundle(raw + END)
    assert len(str(caught.value)) < 2000


def test_a_tar_ends_where_its_file_ends_however_much_is_read_at_once(bundle: Callable[..., Bundle]) -> None:
    for count in range(1, 20):
        with pytest.raises(BundleTruncated, match=f"ends at byte {512 * count} without the two empty blocks"):
            bundle(b"".join(header(b"data/%d" % number) for number in range(count)))


def test_a_tar_of_too_many_headers(bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MAX_HEADERS", 2 * tar.HEADERS_AT_ONCE)
    few, many = (b"".join(header(b"data/%d" % number) for number in range(count)) for count in (2900, 3100))
    with bundle(few + END) as opened:
        assert len(opened.members) == 2900
    with pytest.raises(BundleError, match="more than 2,000 headers"):
        bundle(many + END)


def test_members_behind_a_sparse_one_are_found(tmp_path: Path) -> None:
    """GNU's map of it may be longer than its header."""
    sparse = header(b"data/sparse", 512, b"S", magic=GNU)
    sparse = signed(sparse[:482] + b"1" + sparse[483:])
    more, last = bytes(504) + b"1" + bytes(7), bytes(512)
    (tmp_path / "b.tar").write_bytes(sparse + more + last + b"x" * 512 + member(b"data/a") + END)
    problems: list[IngestError] = []
    with Bundle(tmp_path / "b.tar", tmp_path, problems.append) as opened:
        assert list(opened.members) == ["data/a"]
    assert [str(problem).partition(";")[0] for problem in problems] == ["'data/sparse' is a sparse file"]
