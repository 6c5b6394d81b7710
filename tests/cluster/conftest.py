"""Where the libraries of many hosts are not installed, none of these tests can even be read."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest

MISSING = [library for library in ("psycopg", "procrastinate", "obstore") if find_spec(library) is None]


class Unreadable(pytest.Module):
    """A file of tests that is skipped as a whole."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        pytest.skip(f"not installed: {', '.join(MISSING)}", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Read the file, or skip it."""
    if not MISSING:
        return None
    skipped: pytest.Module = Unreadable.from_parent(parent, path=module_path)
    return skipped
