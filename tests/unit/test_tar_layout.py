"""The tar whose bytes are told before its files are read is the one that tarfile writes."""

import io
import tarfile
from collections.abc import Generator

from hypothesis import given
from hypothesis import strategies as st

from ingest_cli.retrieval.layout import Layout, Member
from ingest_cli.services.base import StoredFile

PIECE = 700

names = st.one_of(
    st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.builds(lambda char, length: char * length, st.sampled_from("aé日"), st.integers(30, 300)),
)
contents = st.one_of(st.binary(max_size=20), st.integers(0, 3000).map(lambda length: b"x" * length))
times = st.one_of(st.integers(-(10**10), 10**12), st.sampled_from([0, -1, 8**11 - 1, 8**11]))


def stored(file_id: int, content: bytes) -> StoredFile:
    return StoredFile(
        file_id=file_id,
        name="",
        subdir="",
        size=len(content),
        hashtype="sha1",
        hashsum="",
        mimetype="",
        ctime=None,
        mtime=None,
    )


def written(members: list[tuple[str, bytes, int]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name, content, mtime in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(content), 0o644, mtime
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@given(
    members=st.lists(st.tuples(names, contents, times, st.booleans()), max_size=6),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=4),
)
def test_any_part_of_it_is_that_part_of_what_tarfile_writes(
    members: list[tuple[str, bytes, int, bool]], cuts: list[tuple[float, float]]
) -> None:
    wanted = written([(name, content, mtime) for name, content, mtime, _ in members])
    data = dict(enumerate(content for _, content, _, _ in members))
    layout = Layout(
        Member(name, mtime, stored(number, content) if is_stored else content)
        for number, (name, content, mtime, is_stored) in enumerate(members)
    )
    asked: list[tuple[int, int, int]] = []

    def read(file: StoredFile, start: int, stop: int) -> Generator[bytes, None, None]:
        asked.append((file.file_id, start, stop))
        for at in range(start, stop, PIECE):
            yield data[file.file_id][at : min(stop, at + PIECE)]

    assert layout.size == len(wanted)
    assert b"".join(layout.read(read)) == wanted
    assert [number for number, *_ in asked] == [number for number, (*_, is_stored) in enumerate(members) if is_stored]
    for one, other in cuts:
        start, stop = sorted((int(one * layout.size), int(other * layout.size)))
        asked.clear()
        assert b"".join(layout.read(read, start, stop)) == wanted[start:stop]
        assert sum(last - first for _, first, last in asked) <= stop - start, "nothing else is read"


def test_its_digest_is_that_of_what_it_holds() -> None:
    def layout(name: str = "a", mtime: int = 0, content: bytes = b"1", file_id: int = 1) -> Layout:
        return Layout([Member(name, mtime, stored(file_id, content)), Member("metadata.txt", 0, content)])

    alike = {layout().digest, layout().digest}
    others = {layout("b").digest, layout(mtime=1).digest, layout(content=b"22").digest, layout(file_id=2).digest}
    assert len(alike) == 1
    assert len(others - alike) == 4
