"""How much was done: jobs that came to their end, files and bytes."""

from dataclasses import dataclass


@dataclass(slots=True)
class Activity:
    """How many jobs are ``complete``, duplicates too, how many failed, and how much those that are complete hold."""

    complete: int = 0
    failed: int = 0
    files: int = 0
    bytes: int = 0
