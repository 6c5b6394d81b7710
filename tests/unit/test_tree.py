"""The walk through a folder stays in it, whatever is done to it meanwhile."""

from pathlib import Path

import pytest

from ingest_cli.bundle.pack_rules import PackRules
from ingest_cli.bundle.tree import walk


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for name in ("run/sub/1", "run/sub/2", "run/sub/3", "secrets/1", "secrets/2", "secrets/3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path / "run"


def test_a_folder_that_becomes_a_link_is_not_left_for_where_it_leads(run: Path) -> None:
    inside = {path.stat().st_ino for path in (run / "sub").iterdir()}
    entries = walk(run, "", PackRules(), lambda *_: None)
    seen = [next(entries).found.st_ino]
    (run / "sub").rename(run / "old")
    (run / "sub").symlink_to(run.parent / "secrets")
    seen += [entry.found.st_ino for entry in entries]
    assert set(seen) == inside


def test_what_goes_meanwhile_is_not_in_the_folder(run: Path) -> None:
    told: list[str] = []
    entries = walk(run, "", PackRules(), lambda path, _: told.append(path))
    assert next(entries).name == "sub/1"
    (run / "sub" / "2").unlink()
    assert [entry.name for entry in entries] == ["sub/3"]
    assert told == []


def test_no_folder_stays_open(run: Path) -> None:
    entries = walk(run, "", PackRules(), lambda *_: None)
    next(entries)
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("there is no /proc")
    assert any(path.readlink().is_relative_to(run) for path in descriptors.iterdir() if path.is_symlink())
    entries.close()  # type: ignore[attr-defined]
    assert not any(path.readlink().is_relative_to(run) for path in list(descriptors.iterdir()) if path.is_symlink())
