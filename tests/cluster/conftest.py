"""Where the libraries of many hosts are not installed, none of these tests can even be read."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest

LIBRARIES = ("psycopg", "procrastinate", "obstore")


class Unreadable(pytest.Module):
    """A file of tests that is skipped as a whole."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        missing = ", ".join(library for library in LIBRARIES if find_spec(library) is None)
        pytest.skip(f"not installed: {missing}", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Read the file, or skip it."""
    if all(find_spec(library) is not None for library in LIBRARIES):
        return None
    skipped: pytest.Module = Unreadable.from_parent(parent, path=module_path)
    return skipped
