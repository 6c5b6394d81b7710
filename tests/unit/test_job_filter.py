"""A glob for jobs' names: what SQLite is asked first leaves none of them out."""

import sqlite3
from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from ingest_cli.jobs.dialect import LONGEST_GLOB, SqliteDialect
from ingest_cli.jobs.filter import JobFilter, matches
from ingest_cli.jobs.sql_filter import NAME, condition

SIGNS = "ab/.*?[]!^-é\n"


@given(glob=st.text(SIGNS, min_size=1, max_size=6), name=st.text(SIGNS, min_size=1, max_size=8))
def test_a_glob_finds_the_names_that_it_matches(glob: str, name: str) -> None:
    where, values = condition(JobFilter(source=glob), [], SqliteDialect())
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.create_function("matches", 2, matches)
        found = connection.execute(f"SELECT 1 FROM (SELECT '' AS origin, ? AS source) WHERE {where}", [name, *values])
        assert (found.fetchone() is not None) == matches(glob, name)


def test_a_glob_of_any_length_is_taken() -> None:
    """SQLite refuses long ones."""
    for glob in ("*" * (LONGEST_GLOB - 1), "*" * 100_000):
        where, values = condition(JobFilter(source=glob), [], SqliteDialect())
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.create_function("matches", 2, matches)
            assert connection.execute(f"SELECT {NAME} FROM (SELECT '' AS origin, '/a' AS source) WHERE {where}", values)
