"""Moments as people write them. It is a Saturday, 28 November 2026, at 17:20:30 UTC."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_cli.errors import SettingsError
from ingest_cli.moments import DAYS, moment

NOW = datetime(2026, 11, 28, 17, 20, 30, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 28, tzinfo=UTC)
EAST = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    ("text", "meant"),
    {
        "now": NOW,
        "today": MIDNIGHT,
        "yesterday": MIDNIGHT - timedelta(days=1),
        " Yesterday ": MIDNIGHT - timedelta(days=1),
        "saturday": MIDNIGHT,
        "Sat": MIDNIGHT,
        "friday": MIDNIGHT - timedelta(days=1),
        "sunday": MIDNIGHT - timedelta(days=6),
        "30s": NOW - timedelta(seconds=30),
        "90m": NOW - timedelta(minutes=90),
        "90 min": NOW - timedelta(minutes=90),
        "2h": NOW - timedelta(hours=2),
        "2 hours ago": NOW - timedelta(hours=2),
        "1d12h": NOW - timedelta(hours=36),
        "1 day 12 hours": NOW - timedelta(hours=36),
        "3d": NOW - timedelta(days=3),
        "2w": NOW - timedelta(weeks=2),
        "14:30": datetime(2026, 11, 28, 14, 30, tzinfo=UTC),
        "9:05": datetime(2026, 11, 28, 9, 5, tzinfo=UTC),
        "9:05:01": datetime(2026, 11, 28, 9, 5, 1, tzinfo=UTC),
        "2026-11-03": datetime(2026, 11, 3, tzinfo=UTC),
        "2026-11-03 14:30": datetime(2026, 11, 3, 14, 30, tzinfo=UTC),
        "2026-11-03T14:30:01Z": datetime(2026, 11, 3, 14, 30, 1, tzinfo=UTC),
        "2026-11-03T14:30+05:30": datetime(2026, 11, 3, 9, tzinfo=UTC),
    }.items(),
)
def test_what_is_meant(text: str, meant: datetime) -> None:
    assert moment(text, NOW) == meant


def test_the_zone_is_that_of_who_asks_unless_the_text_names_one() -> None:
    now = NOW.astimezone(EAST)
    assert moment("today", now) == datetime(2026, 11, 28, tzinfo=EAST)
    assert moment("2026-11-03", now) == datetime(2026, 11, 3, tzinfo=EAST)
    assert moment("2026-11-03T00:00Z", now) == datetime(2026, 11, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "2",
        "h",
        "-2h",
        "2x",
        "2h x",
        "2026-13-01",
        "25:00",
        "ago",
        "²h",
        "999999999d",
        "2026-11-03 later",
        "m",
        "9999-12-31T23:59:59-23:00",
        "0001-01-01T00:00+23:00",
    ],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(SettingsError, match="is not a time; write it as '2h'"):
        moment(text, NOW)


@given(st.sampled_from(DAYS), st.timedeltas(timedelta(), timedelta(days=2000)).map(lambda time: NOW - time))
def test_the_last_such_day(day: str, now: datetime) -> None:
    found = moment(day, now)
    assert DAYS[found.weekday()] == day
    assert timedelta() <= now - found < timedelta(days=7)
    assert (found.hour, found.minute, found.second) == (0, 0, 0)


# Such as there is in every zone.
USUAL = st.datetimes(timezones=st.timezones()).filter(lambda moment: 1 < moment.year < 9999)


@given(USUAL, st.just(NOW))
def test_a_moment_as_iso_has_it(written: datetime, now: datetime) -> None:
    assert moment(written.isoformat(), now) == written.astimezone(UTC)


@given(st.text(max_size=20))
def test_any_text_is_a_moment_or_told(text: str) -> None:
    with suppress(SettingsError):
        assert moment(text, NOW).tzinfo is not None
