"""Jobs as a table, in windows of any width."""

from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from ingest_cli.cli.job_table import COLUMNS, HEADER, FittedTable, Line, PlainTable, Row
from ingest_cli.jobs.job import JobStatus

RUN = Row(
    job="7", state="running", name="/data/xrd/run-7.tar", files="20,000", size="1.5 GB", when="5 s ago", details=""
)
FAILED = replace(RUN, job="12", state="failed", details="the policy refuses it: user 'ada' is not of project 7")
NAMES = st.text(st.characters(exclude_categories=["C", "Z", "M"]), min_size=1, max_size=60)
ROWS = st.builds(
    Row,
    job=st.integers(1, 10**6).map(str),
    state=st.sampled_from(list(JobStatus)).map(str),
    name=st.lists(NAMES, min_size=1, max_size=3).map("/".join),
    files=st.integers(0, 10**6).map("{:,}".format),
    size=st.sampled_from(["-", "1 byte", "999.9 MB"]),
    when=st.sampled_from(["5 s ago", "2026-11-28"]),
    details=st.one_of(st.just(""), NAMES),
)


def text_of(line: Line) -> str:
    return "".join(text for text, _ in line)


def shown(rows: list[Row], width: int, encoding: str = "utf-8") -> list[str]:
    header, blocks = FittedTable(width=width, encoding=encoding).lines(rows)
    return [text_of(header).rstrip(), *(text_of(line).rstrip() for block in blocks for line in block)]


@settings(max_examples=100)
@given(st.lists(ROWS, min_size=1, max_size=5), st.integers(36, 160), st.sampled_from(["utf-8", "ascii"]))
def test_any_row_fits_any_window_and_names_its_job_and_state(rows: list[Row], width: int, encoding: str) -> None:
    header, blocks = FittedTable(width=width, encoding=encoding).lines(rows)
    lines = [text_of(line) for line in [header, *(line for block in blocks for line in block)]]
    assert max(map(cell_len, lines)) <= width
    "".join(lines).encode(encoding)
    for row, block in zip(rows, blocks, strict=True):
        assert text_of(block[0]).split()[:2] == [row.job, row.state]
        assert not row.details or len(block) == 2 or "details" in text_of(header)


def test_a_wide_window_holds_all() -> None:
    assert shown([RUN, FAILED], 140) == [
        "job  state    name                  files    size  when     details",
        "  7  running  /data/xrd/run-7.tar  20,000  1.5 GB  5 s ago",
        f" 12  failed   /data/xrd/run-7.tar  20,000  1.5 GB  5 s ago  {FAILED.details}",
    ]


def test_where_reasons_have_no_room_beside_they_stand_below() -> None:
    assert shown([RUN, FAILED], 79) == [
        "job  state    name                  files    size  when",
        "  7  running  /data/xrd/run-7.tar  20,000  1.5 GB  5 s ago",
        " 12  failed   /data/xrd/run-7.tar  20,000  1.5 GB  5 s ago",
        f"     {FAILED.details}",
    ]


def test_folders_give_way_to_reasons() -> None:
    in_full = len(shown([FAILED], 200)[1])
    assert shown([FAILED], in_full)[1].split()[2] == "/data/xrd/run-7.tar"
    fitted = shown([RUN, FAILED], in_full - 1)
    assert [line.split()[2] for line in fitted] == ["name", "run-7.tar", "run-7.tar"]
    assert fitted[2].endswith(FAILED.details)


def test_a_narrow_window_goes_without_sizes_and_shortens() -> None:
    long = replace(FAILED, name="/data/the-first-night.tar")
    assert shown([long], 39) == [
        "job  state   name               when",
        " 12  failed  …-first-night.tar  5 s ago",
        "     the policy refuses it: user 'ada'…",
    ]
    assert shown([long], 39, "ascii")[1:] == [
        " 12  failed  ...irst-night.tar  5 s ago",
        "     the policy refuses it: user 'ad...",
    ]


def test_a_time_goes_before_the_folders_of_a_short_name() -> None:
    assert shown([replace(RUN, state="interrupted", name="/data/xrd/run7", when="10 min ago")], 38) == [
        "job  state        name  when",
        "  7  interrupted  run7  10 min ago",
    ]


def test_a_failure_is_seen_by_its_colour() -> None:
    _, ((line, below),) = FittedTable(width=60, encoding="utf-8").lines([FAILED])
    assert ("failed", "red") in [(text.strip(), style) for text, style in line]
    assert below[-1][1] == "dim"


def test_where_nobody_looks_on_nothing_is_shortened() -> None:
    lines: list[str] = []
    table = PlainTable(write=lines.append)
    table.show([RUN])
    table.show([replace(FAILED, details="x" * 1000)])
    assert lines[0].split() == COLUMNS == list(asdict(HEADER))
    assert lines[1].split() == ["7", "running", "/data/xrd/run-7.tar", "20,000", "1.5", "GB", "5", "s", "ago"]
    assert lines[2].endswith("x" * 1000)


@pytest.mark.parametrize("width", [1, 5, 20])
def test_a_window_that_is_no_use_ends_no_command(width: int) -> None:
    assert len(shown([RUN, FAILED], width)) >= 3
