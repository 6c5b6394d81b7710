"""Three hosts take in bundles while all that can go wrong does: each is stored once and whole, and nothing is lost."""

from pathlib import Path

import pytest

from ..support.object_stores import ObjectServer
from ..support.postgres import PostgresServer
from .scenario import SMALL, scenario

pytestmark = pytest.mark.cluster


def test_every_bundle_is_stored_once_whatever_becomes_of_the_hosts(
    tmp_path: Path, postgres_server: PostgresServer, strict_storage: ObjectServer
) -> None:
    with scenario(tmp_path, SMALL, postgres_server, strict_storage) as scene:
        scene.play()
        scene.assert_sound()
