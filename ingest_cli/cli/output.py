"""How commands write: data goes to standard output, messages to standard error."""

import json
import sys


def write_json(answer: object, *, indent: int | None = None) -> None:
    """Write a command's whole answer, or that of one job, for programs."""
    print(json.dumps(answer, indent=indent), flush=True)


def write_event(event: str, /, **fields: object) -> None:
    """Write one of many lines for programs."""
    write_json({"event": event, **fields})


def notify(text: object) -> None:
    """Print a message for the person who runs the command."""
    print(f"ingest: {text}", file=sys.stderr, flush=True)


def warn(text: object) -> None:
    """Print a warning."""
    notify(f"warning: {text}")
