"""What is asked of a catalogue finds at least all that a glob matches, in the language of each database."""

import hashlib
import sqlite3
import unicodedata
from contextlib import closing

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest_cli.errors import SettingsError
from ingest_cli.jobs.dialect import SqliteDialect
from ingest_cli.services.base import StoredFile
from ingest_cli.services.embedded.search import search
from ingest_cli.services.pacifica.search import like
from ingest_cli.services.query import FileQuery, hash_of

# Signs of one language or another, letters, and what Unicode can write in two ways.
TEXTS = st.text("ab[]!^-*?%_\\/e\N{COMBINING ACUTE ACCENT}éß測", max_size=8)


def in_sqlite(glob: str, name: str) -> bool:
    sql, values = search(FileQuery(name=glob), "SELECT 1 FROM Files", SqliteDialect())
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE Files (id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
        connection.execute("INSERT INTO Files VALUES (1, ?)", [name])
        return connection.execute(sql, values).fetchone() is not None


def in_postgresql(glob: str, name: str) -> bool:
    """As PostgreSQL has LIKE: capitals count, and a backslash takes the meaning of what comes next."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA case_sensitive_like = ON")
        return bool(connection.execute(r"SELECT ? LIKE ? ESCAPE '\'", [name, like(glob)]).fetchone()[0])


def matches(glob: str, name: str) -> bool:
    file = StoredFile(
        file_id=1, name=name, subdir="", size=0, hashtype="sha1", hashsum="", mimetype="", ctime=None, mtime=None
    )
    return file.answers(FileQuery(name=glob))


@given(glob=TEXTS.filter(bool), name=TEXTS)
@example(glob="?", name="e\N{COMBINING ACUTE ACCENT}")
@example(glob="[!a]*", name="é")
@example(glob="[]a]", name="]")
@example(glob="a[", name="a[")
@settings(max_examples=300, deadline=None)
def test_nothing_that_matches_is_missed(glob: str, name: str) -> None:
    if matches(glob, name):
        assert in_sqlite(glob, name)
        assert in_postgresql(glob, name)


@given(name=TEXTS.filter(bool), form=st.sampled_from(["NFC", "NFD"]), other=st.sampled_from(["NFC", "NFD"]))
@settings(max_examples=100, deadline=None)
def test_a_name_finds_itself_in_every_form(name: str, form: str, other: str) -> None:
    glob = "".join(f"[{char}]" if char in "*?[" else char for char in unicodedata.normalize(form, name))  # type: ignore[arg-type]
    stored = unicodedata.normalize(other, name)  # type: ignore[arg-type]
    assert matches(glob, stored)
    assert in_sqlite(glob, stored)
    assert in_postgresql(glob, stored)


@pytest.mark.parametrize("hashtype", ["md5", "sha1", "sha256", "sha3_512", "blake2b"])
def test_a_hash_is_one_of_every_type_of_its_length(hashtype: str) -> None:
    digits = hashlib.new(hashtype, b"x").hexdigest()
    hashsum, types = hash_of(digits.upper())
    assert hashsum == digits
    assert hashtype in types
    assert {hashlib.new(name).digest_size for name in types} == {len(digits) // 2}
    assert hash_of(f"{hashtype.upper()}:{digits}") == (digits, (hashtype,))


@pytest.mark.parametrize("text", ["", "abc", "g" * 40, f"md5:{'a' * 40}", f"sha1:{'a' * 39}", f"x:{'a' * 40}", "sha1:"])
def test_what_is_no_hash_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is no hash"):
        hash_of(text)


@pytest.mark.parametrize("query", [{"name": "\udcff"}, {"path": "\ud800"}, {"pairs": (("k", "\udcff"),)}])
def test_what_is_not_utf_8_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="is not valid UTF-8"):
        FileQuery(**query)  # type: ignore[arg-type]
