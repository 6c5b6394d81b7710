"""What a job's state says, as programs are shown it."""

from collections.abc import Mapping
from typing import Any


def is_stored(state: Mapping[str, Any]) -> bool:
    """Whether the catalogue has what the job is of: one that failed is complete, too."""
    return bool(state["complete"] and state["state"] == "OK")
