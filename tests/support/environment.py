"""The variables that a test's programs have."""

import os
from pathlib import Path

import pytest

from ingest_cli.settings.options import OPTIONS

from .forks import OF_HTTP


def scrub(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """No setting of the account that runs the tests leaks in; everything goes below ``folder``."""
    for variable in [variable for option in OPTIONS for variable in (option.variable, *option.also)] + [
        "INGEST_CONFIG"
    ]:
        patch.delenv(variable, raising=False)
    for variable in OF_HTTP:
        patch.delenv(variable, raising=False)
        patch.delenv(variable.upper(), raising=False)
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(variable)
    # No test asks a machine's own metadata service.
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("HOME", str(folder / "home"))
    patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    patch.setenv("XDG_DATA_HOME", str(folder / "data"))
