"""What came and went over the last day, drawn: how many jobs ended, how much they stored, and how many waited."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from rich.filesize import decimal

from ...jobs.flow import Flow
from ...jobs.store import JobStore
from ...text import counted
from .html import Html, element

STEP = timedelta(minutes=30)
STEPS = 48
WIDTH, HEIGHT, FOOT = 480, 96, 18
BAR = WIDTH / STEPS
# A time is written below every so many steps.
LABELLED = 12


def flow_of(store: JobStore) -> Flow:
    """What the store has of the last day, in steps that begin at whole and half hours."""
    now = datetime.now(UTC)
    last = now.replace(minute=now.minute // 30 * 30, second=0, microsecond=0)
    return store.flow(last - (STEPS - 1) * STEP, STEP)


def plots(flow: Flow) -> Html:
    """The three drawings."""
    steps = flow.steps[:STEPS]
    complete, failed = [step.complete for step in steps], [step.failed for step in steps]
    stored, queue = [step.bytes for step in steps], flow.queue[:STEPS]
    ended = f"{counted(sum(complete), 'job')} complete, {sum(failed):,} failed"
    return element(
        "section",
        element("h2", "The last day", id="plots-title"),
        _figure("Jobs ended", ended, [complete, failed], flow, lambda most: f"{most:,}"),
        _figure("Stored", f"{decimal(sum(stored))} in all", [stored], flow, decimal),
        _figure(
            "Queue",
            f"{counted(flow.waiting, 'job')} now, {max(queue):,} at most",
            [queue],
            flow,
            lambda most: f"{most:,}",
        ),
        id="plots",
        data_part="plots",
        aria_labelledby="plots-title",
    )


def _figure(
    title: str, summary: str, series: Sequence[Sequence[int]], flow: Flow, written: Callable[[int], str]
) -> Html:
    """Bars for every half hour, those of one series upon those of the one before."""
    most = max(1, *(sum(values) for values in zip(*series, strict=True)))
    drawing = element(
        "svg",
        *_bars(series, most),
        *_labels(flow, written(most)),
        viewBox=f"0 0 {WIDTH} {HEIGHT + FOOT}",
        role="img",
        aria_label=f"{title}, by half hours: {summary}",
    )
    caption = element("figcaption", element("b", title), " ", element("span", summary, class_="quiet"))
    return element("figure", caption, drawing)


def _bars(series: Sequence[Sequence[int]], most: int) -> list[Html]:
    found = []
    for number, values in enumerate(zip(*series, strict=True)):
        below = 0.0
        for value, kind in zip(values, ("mark", "bad"), strict=False):
            height = value / most * (HEIGHT - FOOT)
            # What there is little of is seen nevertheless.
            height = max(height, 1.5) if value else 0.0
            if height:
                at = {"x": f"{number * BAR + 1:.1f}", "y": f"{HEIGHT - below - height:.1f}"}
                found.append(element("rect", class_=kind, width=f"{BAR - 2:.1f}", height=f"{height:.1f}", **at))
            below += height
    return found


def _labels(flow: Flow, most: str) -> list[Html]:
    axis = element("line", class_="axis", x1=0, x2=WIDTH, y1=HEIGHT, y2=HEIGHT)
    times = [
        element("text", f"{flow.since + number * flow.step:%H:%M}", x=f"{number * BAR:.0f}", y=HEIGHT + FOOT - 4)
        for number in range(0, STEPS, LABELLED)
    ]
    return [axis, element("text", most, x=0, y=12), *times]
