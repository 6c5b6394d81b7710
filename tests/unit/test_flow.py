"""The queue of a day is found from what is left of it, and from what came and went."""

from datetime import UTC, datetime, timedelta
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from ingest_cli.jobs.flow import Flow, Step


@given(st.integers(0, 50), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=48))
def test_the_queue_at_the_end_of_each_step(at_first: int, days: list[tuple[int, int]]) -> None:
    """However many there were at first: no more go than there are."""
    steps, there = [], at_first
    for came, leaving in days:
        went = min(leaving, there + came)
        there += came - went
        steps.append(Step(came=came, went=went))
    flow = Flow(since=datetime.now(UTC), step=timedelta(hours=1), steps=steps, waiting=there)
    changes = [step.came - step.went for step in steps]
    assert flow.queue == list(accumulate(changes, initial=at_first))[1:]
