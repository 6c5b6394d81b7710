"""What a watcher does, in words for the person who starts it."""

from .disposition import Destination, Disposition
from .rounds import POLL_SECONDS
from .rules import MARKER, WatchRules


def taken(rules: WatchRules) -> str:
    """What is ingested."""
    names = ", ".join(rules.names)
    return f"folders named {names}, which are packed" if rules.packs else f"files named {names}"


def handled(rules: WatchRules, disposition: Disposition, *, polls: bool, seconds: float) -> str:
    """When something is taken, what becomes of it, and how the watcher learns of it."""
    done = "are deleted" if disposition.delete else _moved(disposition.done)
    learns = f"they are read every {POLL_SECONDS:g} s" if polls else f"all is looked at every {seconds:g} s"
    return f"{_ready(rules, polls=polls)}; ingested ones {done}, failed ones {_moved(disposition.failed)}; {learns}"


def _ready(rules: WatchRules, *, polls: bool) -> str:
    if rules.marker:
        return f"each is taken once there is NAME{MARKER} beside it"
    renamed = "" if polls else "renamed into place or "
    more = f", with {rules.patience:g} s more while it does not look whole" if rules.patience else ""
    return f"each is taken once it is {renamed}unchanged for {rules.settle:g} s{more}"


def _moved(destination: Destination | None) -> str:
    return "stay" if destination is None else f"are moved to {destination.path}"
